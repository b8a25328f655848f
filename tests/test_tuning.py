# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest

from embellama import EmbeddingModel, ModelConfig, ModelLoadError, tuning


def test_tuning_takes_the_fastest_size(minilm_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "CANDIDATES", (8, 64))
    with EmbeddingModel(ModelConfig(minilm_path, micro_batch_tokens=100)) as model:
        assert model.micro_batch_tokens == 100
        before = model.embed("a cat")
        model.warmup(tune=True)
        # Eight tokens at a time waste most of a processor's width, whatever the machine.
        assert model.micro_batch_tokens == 64
        assert abs(model.embed("a cat") - before).max() < 1e-6
        model.embed_batch(["a cat", "a dog"] * 40)
    with pytest.raises(ModelLoadError):
        model.warmup(tune=True)


def test_an_interrupted_tuning_changes_nothing(
    minilm: EmbeddingModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(embedder: object, n_tokens: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(tuning, "_texts", interrupt)
    before = minilm.micro_batch_tokens
    with pytest.raises(KeyboardInterrupt):
        minilm.warmup(tune=True)
    assert minilm.micro_batch_tokens == before
