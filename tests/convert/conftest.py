# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest
from support.checkpoints import write_checkpoint


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A BertModel with a WordPiece vocabulary."""
    write_checkpoint(tmp_path / "tiny-bert")
    return tmp_path / "tiny-bert"
