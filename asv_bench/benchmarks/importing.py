# SPDX-License-Identifier: Apache-2.0
"""``import embellama`` in a fresh interpreter, compared with the imports that it needs."""

from __future__ import annotations


def timeraw_import_embellama() -> str:
    return "import embellama"


def timeraw_import_numpy() -> str:
    return "import numpy"


def timeraw_import_nothing() -> str:
    return "pass"
