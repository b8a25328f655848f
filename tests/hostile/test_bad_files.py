# SPDX-License-Identifier: Apache-2.0
"""Files that are no models, or not whole: our exceptions, with the name of the file."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from embellama import (
    EmbeddingModel,
    EmbellamaError,
    ModelConfig,
    ModelLoadError,
    ModelNotFoundError,
)


def test_missing_file() -> None:
    with pytest.raises(ModelNotFoundError, match=r"no-such-model\.gguf"):
        EmbeddingModel("no-such-model.gguf")
    with pytest.raises(ModelNotFoundError, match="all-MiniLM-L6-v2"):
        EmbeddingModel("all-MiniLM-L6-v3")


def test_directory(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="directory"):
        EmbeddingModel(tmp_path)


@pytest.mark.parametrize("content", [b"", b"GG", b"GGUF", b"\x7fELF" + bytes(100), bytes(4096)])
def test_files_that_are_no_gguf(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.gguf"
    path.write_bytes(content)
    with pytest.raises(ModelLoadError, match=r"broken\.gguf"):
        EmbeddingModel(path)


def test_truncated_files(minilm_path: Path, tmp_path: Path) -> None:
    size = minilm_path.stat().st_size
    path = tmp_path / "cut.gguf"
    generator = random.Random(1)
    cuts = [size - 1, size // 2, *(generator.randrange(size) for _ in range(10))]
    content = minilm_path.read_bytes()
    for cut in cuts:
        path.write_bytes(content[:cut])
        with pytest.raises(ModelLoadError, match=r"cut\.gguf"):
            EmbeddingModel(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_unreadable_file(minilm_path: Path, tmp_path: Path) -> None:
    path = tmp_path / "secret.gguf"
    path.write_bytes(minilm_path.read_bytes())
    path.chmod(0)
    with pytest.raises(EmbellamaError, match="secret"):
        EmbeddingModel(path)


def test_not_a_config() -> None:
    with pytest.raises(TypeError):
        EmbeddingModel(3)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        EmbeddingModel(ModelConfig)  # type: ignore[arg-type]
