# SPDX-License-Identifier: Apache-2.0
"""meson-python, but for an editable install that could not rebuild.

An editable install compiles again when embellama is imported after an edit, with the Cython, the
Meson and the NumPy it was built with. Of an isolated build these are deleted when pip ends.
"""

from __future__ import annotations

from typing import NoReturn

from mesonpy import (
    build_editable,
    build_sdist,
    build_wheel,
    get_requires_for_build_sdist,
    get_requires_for_build_wheel,
)

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
]


def get_requires_for_build_editable(config_settings: object = None) -> NoReturn:
    """Refuse; only a frontend that makes an isolated environment asks what to install there."""
    raise SystemExit(
        "embellama: an editable install needs the build requirements in your own environment, as "
        "it compiles again after each edit. CONTRIBUTING.md says how:\n\n"
        "    pip install --no-build-isolation -e ."
    )
