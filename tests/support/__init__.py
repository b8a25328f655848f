# SPDX-License-Identifier: Apache-2.0
"""What tests, fuzzers and stress programs share: small models, servers and processes."""

import sys
from pathlib import Path

from support.folders import REPOSITORY

# `python -m pytest` puts the current directory first on the path. Where that is the repository, its
# folder embellama, which holds nothing compiled, would be imported instead of what is installed.
sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != REPOSITORY]
