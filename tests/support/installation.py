# SPDX-License-Identifier: Apache-2.0
"""How the embellama that is tested is installed."""

from __future__ import annotations

from pathlib import Path

import pytest

import embellama
from embellama import core

# Modules are compiled into a folder of the build, and the package is the sources.
EDITABLE = Path(core.__file__).parent != Path(embellama.__file__).parent

needs_a_package = pytest.mark.skipif(EDITABLE, reason="an editable installation is no package")
