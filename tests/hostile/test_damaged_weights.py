# SPDX-License-Identifier: Apache-2.0
"""NaN in the weights: the row is named, nothing is lost, and the model works on."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import gguf
import numpy as np
import pytest
from support.tiny_model import write_tiny_model

from embellama import BatchError, EmbeddingGenerationError, EmbeddingModel, ModelConfig

CAT = 4937  # the token "cat"


@pytest.fixture(scope="module")
def damaged(
    minilm_f32_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[EmbeddingModel]:
    """MiniLM whose vector of the token "cat" is NaN; every text has a micro-batch of its own."""
    path = tmp_path_factory.mktemp("damaged") / "damaged.gguf"
    shutil.copyfile(minilm_f32_path, path)
    reader = gguf.GGUFReader(path, "r+")
    embedding = next(t for t in reader.tensors if t.name == "token_embd.weight")
    embedding.data[CAT, 0] = np.nan
    reader.data.flush()
    with EmbeddingModel(ModelConfig(path, n_seq_max=1)) as model:
        yield model


def test_one_text(damaged: EmbeddingModel) -> None:
    assert damaged.tokenize("cat").tolist() == [101, CAT, 102]
    with pytest.raises(EmbeddingGenerationError, match="the text gave a NaN"):
        damaged.embed("a cat")
    assert np.isfinite(damaged.embed("a dog")).all()


def test_one_of_a_batch_is_named(damaged: EmbeddingModel) -> None:
    with pytest.raises(EmbeddingGenerationError, match="text 2 gave a NaN"):
        damaged.embed_batch(["a dog", "a cow", "a cat", "a horse"])


def test_several_of_a_batch_are_named(damaged: EmbeddingModel) -> None:
    with pytest.raises(BatchError, match="2 texts were not computed") as info:
        damaged.embed_batch(["a cat", "a cow", "the cat"])
    assert list(info.value.errors) == [0, 2]


def test_on_error_nan(damaged: EmbeddingModel) -> None:
    result = damaged.embed_batch(["a dog", "a cat", ""], on_error="nan", details=True)
    assert np.isnan(result.embeddings).any(axis=1).tolist() == [False, True, True]
    assert list(result.errors) == [1, 2]
    assert isinstance(result.errors[1], EmbeddingGenerationError)


def test_per_token(damaged: EmbeddingModel) -> None:
    with pytest.raises(EmbeddingGenerationError, match="text 1"):
        damaged.embed_batch_multi(["a dog", "a cat"])


@pytest.mark.parametrize("architecture", ["bert", "t5encoder", "gemma2"])
@pytest.mark.parametrize("n_threads", [1, 2])
def test_neighbours_are_not_named(tmp_path: Path, architecture: str, n_threads: int) -> None:
    path = write_tiny_model(tmp_path / "tiny.gguf", architecture)
    config = ModelConfig(path, n_threads=n_threads)
    texts = ["a z", "a", "b c", "b z", "d"]
    with EmbeddingModel(config) as model:
        only_z = set(model.tokenize("a z")) - set(model.tokenize("a b c d"))
        sound = model.embed_batch(texts)
    reader = gguf.GGUFReader(path, "r+")
    embedding = next(t for t in reader.tensors if t.name == "token_embd.weight")
    embedding.data[list(only_z), 0] = np.inf
    reader.data.flush()
    with EmbeddingModel(config) as model:
        result = model.embed_batch(texts, on_error="nan", details=True)
        with pytest.raises(BatchError, match="2 texts were not computed"):
            model.embed_batch(texts)
    assert list(result.errors) == [0, 3]
    np.testing.assert_allclose(result.embeddings[[1, 2, 4]], sound[[1, 2, 4]], atol=1e-5)


def test_verify_finds_another_model(
    minilm_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with EmbeddingModel("all-MiniLM-L6-v2") as model:
        model.verify()
        monkeypatch.setattr(
            "embellama.embedding.verification.KNOWN", {"all-MiniLM-L6-v2": [0.5, 0.5]}
        )
        with pytest.raises(EmbeddingGenerationError, match="known one"):
            model.verify()
    # A file that lies elsewhere is of no known model.
    copy = shutil.copy(minilm_path, tmp_path / "model.gguf")
    with EmbeddingModel(copy) as model:
        model.verify()
