# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from embellama import EmbeddingModel, ModelConfig, ModelLoadError
from embellama.embedding import tuning
from embellama.embedding.call import Call
from embellama.embedding.embedder import Embedder, Tokens
from embellama.embedding.rows import Rows


@pytest.mark.parametrize("fastest", [32, 64, 128])
def test_tuning_takes_the_fastest_size(
    minilm_path: Path, monkeypatch: pytest.MonkeyPatch, fastest: int
) -> None:
    monkeypatch.setattr(tuning, "CANDIDATES", (32, 64, 128))
    compute = Embedder.vectors

    def slower_at_other_sizes(embedder: Embedder, tokens: Tokens, call: Call) -> np.ndarray:
        if embedder.micro_batch_tokens != fastest:
            time.sleep(0.5)
        return compute(embedder, tokens, call)

    with EmbeddingModel(ModelConfig(minilm_path, micro_batch_tokens=100)) as model:
        assert model.micro_batch_tokens == 100
        before = model.embed("a cat")
        with monkeypatch.context() as patch:
            patch.setattr(Embedder, "vectors", slower_at_other_sizes)
            assert tuning.fastest_micro_batch(model._loaded().embedder) == fastest
        assert model.micro_batch_tokens == 100
        model.warmup(tune=True)
        assert model.micro_batch_tokens in tuning.CANDIDATES
        assert abs(model.embed("a cat") - before).max() < 1e-6
        model.embed_batch(["a cat", "a dog"] * 40)
    with pytest.raises(ModelLoadError):
        model.warmup(tune=True)


@pytest.mark.parametrize("tune", [False, True])
def test_warming_up_a_reranker(
    reranker_path: Path, monkeypatch: pytest.MonkeyPatch, tune: bool
) -> None:
    """Tuning read as many numbers as a token's vector has where there was one score."""
    monkeypatch.setattr(tuning, "CANDIDATES", (64, 128))
    with EmbeddingModel(reranker_path) as model:
        scores = model.rerank("a cat", ["a dog", "a kitten"])
        model.warmup(tune=tune)
        embedder = model._loaded().embedder
        tokens = tuning.random_texts(embedder, 100)
        assert embedder.vectors(tokens, Call()).shape[1] == 1
        n_texts = len(tokens.counts)
        rows = Rows(np.empty((n_texts, 2), dtype=np.float32), 2, np.arange(n_texts))
        with pytest.raises(ValueError, match="no 2 dimensions"):
            embedder.compute(tokens, rows, Call())
        assert model.rerank("a cat", ["a dog", "a kitten"]) == scores


@pytest.mark.parametrize("n_ctx", [1, 5, 16])
def test_warming_up_with_short_texts_only(minilm_path: Path, n_ctx: int) -> None:
    with EmbeddingModel(ModelConfig(minilm_path, n_ctx=n_ctx)) as model:
        model.warmup()


def test_an_interrupted_tuning_changes_nothing(
    minilm: EmbeddingModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(embedder: object, n_tokens: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(tuning, "random_texts", interrupt)
    before = minilm.micro_batch_tokens
    with pytest.raises(KeyboardInterrupt):
        minilm.warmup(tune=True)
    assert minilm.micro_batch_tokens == before
