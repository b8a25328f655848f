# SPDX-License-Identifier: Apache-2.0
"""Files that are no models, or not whole: our exceptions, with the name of the file."""

from __future__ import annotations

import os
import random
from pathlib import Path

import numpy as np
import pytest
from support.tiny_model import TINY_TOKENS, write_tiny_model

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


def test_an_added_token_that_normalising_makes_long(tmp_path: Path) -> None:
    # A trie in which "a" is the one key, and 512 letters are put in its place.
    trie = np.zeros(98, dtype="<u4")
    trie[ord("a")] = 1 << 10 | 1 << 8 | ord("a")
    charsmap = np.frombuffer(
        trie.nbytes.to_bytes(4, "little") + trie.tobytes() + b"x" * 512 + b"\0", dtype=np.uint8
    )
    tokens = [*TINY_TOKENS, "a" * 20]
    metadata = {
        "tokens": tokens,
        "token_type": np.array([1] * len(TINY_TOKENS) + [4], dtype=np.int32),
        "scores": np.zeros(len(tokens), dtype=np.float32),
        "precompiled_charsmap": charsmap,
    }
    switch, off = np.array([True]), np.array([False])
    added = {"ids": np.array([63], dtype=np.int32), "normalized": switch, "in_vocabulary": off}
    added |= {"single_word": off, "lstrip": off, "rstrip": off}
    path = write_tiny_model(
        tmp_path / "long.gguf",
        "t5encoder",
        metadata={f"tokenizer.ggml.{key}": value for key, value in metadata.items()}
        | {f"embellama.added_tokens.{key}": value for key, value in added.items()},
        tensors={"token_embd.weight": np.ones((len(tokens), 32), dtype=np.float32)},
    )
    with pytest.raises(ModelLoadError, match="added tokens are too long once they are normalized"):
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
