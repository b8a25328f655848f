# SPDX-License-Identifier: Apache-2.0
"""What an object shows of itself."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from embellama import (
    Accuracy,
    CacheConfig,
    EmbeddingEngine,
    EmbeddingModel,
    EngineConfig,
    ModelConfig,
    NormalizationMode,
    PNorm,
    RerankResult,
)


@pytest.mark.parametrize(
    ("config", "shown"),
    [
        (ModelConfig("m.gguf"), "ModelConfig('m.gguf')"),
        (
            ModelConfig("m.gguf", pooling="cls", truncate=1, cache=CacheConfig()),
            "ModelConfig('m.gguf', pooling='cls', truncate=1, cache=CacheConfig())",
        ),
        (
            ModelConfig("m.gguf", normalization=PNorm(3), accuracy="exact"),
            "ModelConfig('m.gguf', normalization=PNorm(p=3.0), accuracy='exact')",
        ),
        (ModelConfig("m.gguf", n_threads=2, use_mmap=False), None),
        (
            ModelConfig(
                "m.gguf", normalization=NormalizationMode.NONE, accuracy=Accuracy.EXACT, n_ctx=5
            ),
            None,
        ),
        (
            EngineConfig("m.gguf", memory_limit_mb=500),
            "EngineConfig(ModelConfig('m.gguf'), memory_limit_mb=500)",
        ),
        (CacheConfig(token_cache_size=3), "CacheConfig(token_cache_size=3)"),
    ],
)
def test_a_config_shows_what_was_changed(config: Any, shown: str | None) -> None:
    assert shown is None or repr(config) == shown
    assert eval(repr(config)) == config


def test_a_model(minilm_path: Path) -> None:
    model = EmbeddingModel(minilm_path, model_name="mine", n_ctx=128, pooling="cls")
    level = model.core_model.instruction_set
    about = f"{minilm_path.name}, 384 dimensions, 128 tokens, cls pooling"
    assert repr(model) == f"<EmbeddingModel 'mine': {about}, on {level}>"
    model.unload()
    assert repr(model) == f"<EmbeddingModel 'mine': {about}, unloaded>"


def test_a_file(minilm: EmbeddingModel, minilm_path: Path) -> None:
    assert repr(minilm.info) == (
        f"<ModelInfo {str(minilm_path)!r}: bert F16, 22.6 million parameters, 384 dimensions, "
        "512 tokens, mean pooling>"
    )


def test_an_engine(minilm_path: Path) -> None:
    engine = EmbeddingEngine(minilm_path, model_name="one")
    engine.load_model(minilm_path, model_name="two")
    assert repr(engine) == "<EmbeddingEngine: 'one' (loaded), 'two'>"
    engine.unload_model("one")
    assert repr(engine) == "<EmbeddingEngine: 'two'>"
    engine.unload_model("two")
    assert repr(engine) == "<EmbeddingEngine: no models>"


def test_results(minilm: EmbeddingModel) -> None:
    result = minilm.embed_batch(
        ["a cat", "", "word " * 600], truncate=9, details=True, dtype="float16", on_error="nan"
    )
    assert len(result) == 3
    assert repr(result) == (
        "<EmbeddingResult: 3 texts, 384 x float16, 13 tokens, 1 truncated, 1 error>"
    )
    tokens = minilm.embed_batch_multi(["a", "a cat"], details=True)
    assert repr(tokens) == "<EmbeddingResult: 2 texts, 7 vectors, 384 x float32, 7 tokens>"
    nothing = minilm.embed_batch_multi([], details=True)
    assert (len(nothing), repr(nothing)) == (
        0,
        "<EmbeddingResult: 0 texts, 0 vectors, 0 tokens>",
    )
    found = RerankResult(1, 0.5, "a cat")
    assert repr(found) == "RerankResult(index=1, score=0.5, document='a cat')"
    assert eval(repr(found)) == found
    assert "truncated=False" in repr(RerankResult(1, math.pi, "a cat", 9, False))
