# SPDX-License-Identifier: Apache-2.0
"""Type checkers are told what the methods take; `python tests/support/stubs.py` tells them."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.stubs import STUBS, stub


@pytest.mark.parametrize("path", STUBS, ids=lambda path: path.name)
def test_a_stub_is_what_the_signatures_are(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == stub(STUBS[path])
