# SPDX-License-Identifier: Apache-2.0
"""Folders of the repository."""

from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
DATA = TESTS / "data"
REPOSITORY = TESTS.parent
