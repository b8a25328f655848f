# SPDX-License-Identifier: Apache-2.0
"""Texts that come again: what is kept, what tells entries apart, and what bounds them."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embellama import (
    CacheConfig,
    ConfigurationError,
    EmbeddingModel,
    EngineConfig,
    InvalidInputError,
    ModelConfig,
    ModelLoadError,
    quantize,
)

TEXTS = [f"text number {i} about {'cats and ' * (i % 5)}dogs" for i in range(20)]
# The same text in other micro-batches, as in test_model.py.
NOISE = 2e-3


@pytest.fixture(scope="module")
def cached(minilm_path: Path) -> EmbeddingModel:
    cache = CacheConfig(embedding_cache_size=1000, token_cache_size=1000)
    return EmbeddingModel(ModelConfig(minilm_path, cache=cache))


def test_off_by_default(minilm: EmbeddingModel) -> None:
    assert minilm.cache_stats() == {}
    minilm.clear_cache()
    with pytest.raises(ConfigurationError, match="no cache"):
        minilm.warm_cache(["a"])


def test_hits_give_the_same_vectors(cached: EmbeddingModel, minilm: EmbeddingModel) -> None:
    cached.clear_cache()
    first = cached.embed_batch(TEXTS)
    np.testing.assert_allclose(first, minilm.embed_batch(TEXTS), rtol=0, atol=NOISE)
    np.testing.assert_array_equal(cached.embed_batch(TEXTS), first)
    np.testing.assert_array_equal(cached.embed(TEXTS[3]), first[3])
    stats = cached.cache_stats()["embeddings"]
    assert (stats.hits, stats.misses, stats.entry_count) == (21, 20, 20)
    assert stats.hit_rate == pytest.approx(21 / 41)
    cached.clear_cache()
    assert cached.cache_stats()["embeddings"].entry_count == 0


@settings(max_examples=30, deadline=None)
@given(
    chosen=st.lists(st.sampled_from(TEXTS), max_size=12),
    dtype=st.sampled_from(["float32", "float16", "int8", "ubinary"]),
    truncate_dim=st.sampled_from([None, 100]),
)
def test_any_mix_of_known_and_unknown_texts(
    cached: EmbeddingModel,
    minilm: EmbeddingModel,
    chosen: list[str],
    dtype: str,
    truncate_dim: int | None,
) -> None:
    """Rows of float32 equal the uncached ones; other types are made from the kept rows."""
    kept = cached.embed_batch(chosen, truncate_dim=truncate_dim)
    expected = minilm.embed_batch(chosen, truncate_dim=truncate_dim)
    np.testing.assert_allclose(kept, expected, rtol=0, atol=NOISE)
    result = cached.embed_batch(chosen, dtype=dtype, truncate_dim=truncate_dim)
    np.testing.assert_array_equal(result, quantize(kept, dtype))


def test_equal_texts_are_computed_once(cached: EmbeddingModel) -> None:
    cached.clear_cache()
    rows = cached.embed_batch(["the same"] * 50)
    assert (rows == rows[0]).all()
    assert cached.cache_stats()["embeddings"].entry_count == 1
    assert cached.cache_stats()["tokens"].misses == 1


def test_a_caller_may_change_what_it_got(cached: EmbeddingModel) -> None:
    before = cached.embed("mine").copy()
    cached.embed("mine")[:] = 0
    np.testing.assert_array_equal(cached.embed("mine"), before)


def test_details_and_progress_of_known_texts(cached: EmbeddingModel, minilm_path: Path) -> None:
    config = ModelConfig(minilm_path, truncate=8, cache=CacheConfig())
    with EmbeddingModel(config) as model:
        calls: list[tuple[int, int]] = []
        for _ in range(2):
            result = model.embed_batch(
                ["short", "word " * 50, "short"],
                details=True,
                progress=lambda done, total: calls.append((done, total)),
            )
            assert result.token_counts.tolist() == [3, 8, 3]
            assert result.truncated.tolist() == [False, True, False]
            assert calls[-1] == (3, 3)


def test_bad_texts_are_not_kept(cached: EmbeddingModel) -> None:
    cached.clear_cache()
    long = "word " * 600
    for _ in range(2):
        with pytest.raises(InvalidInputError, match="text 1 has 602 tokens"):
            cached.embed_batch(["fine", long])
        result = cached.embed_batch(["fine", long, "", "fine", long], on_error="nan", details=True)
        assert list(result.errors) == [1, 2, 4]
        assert "text 4 has 602 tokens" in str(result.errors[4])
        assert np.isnan(result.embeddings).all(axis=1).tolist() == [False, True, True, False, True]
        assert result.token_counts.tolist() == [3, 0, 0, 3, 0]
    with pytest.raises(InvalidInputError, match="the text has 602 tokens"):
        cached.embed(long)
    assert cached.cache_stats()["embeddings"].entry_count == 1


def test_bounds(minilm_path: Path) -> None:
    cache = CacheConfig(embedding_cache_size=3, max_memory_mb=0.005)
    with EmbeddingModel(ModelConfig(minilm_path, cache=cache)) as model:
        model.embed_batch(["a", "b", "c", "d"])
        stats = model.cache_stats()["embeddings"]
        # A vector takes 1536 bytes, and an entry some 450 more.
        assert stats.entry_count == 2
        assert stats.evictions == 2
        assert stats.memory_bytes <= 5000
        # The least recently used goes first.
        model.embed("c")
        model.embed("e")
        hits = model.cache_stats()["embeddings"].hits
        model.embed("c")
        assert model.cache_stats()["embeddings"].hits == hits + 1
    with EmbeddingModel(
        ModelConfig(minilm_path, cache=CacheConfig(embedding_cache_size=3))
    ) as model:
        model.embed_batch(TEXTS)
        assert model.cache_stats()["embeddings"].entry_count == 3
    with EmbeddingModel(ModelConfig(minilm_path, cache=CacheConfig(max_memory_mb=0.0001))) as model:
        model.embed_batch(TEXTS)
        assert model.cache_stats()["embeddings"].entry_count == 0


def test_prompts_tell_entries_apart(minilm_path: Path) -> None:
    config = ModelConfig(
        minilm_path, query_prompt="query: ", document_prompt="passage: ", cache=CacheConfig()
    )
    with EmbeddingModel(config) as model:
        vectors = [
            model.embed("a cat"),
            model.embed_query("a cat"),
            model.embed_documents(["a cat"])[0],
        ]
        assert model.cache_stats()["embeddings"].hits == 0
        assert np.abs(vectors[0] - vectors[1]).max() > 0.01
        np.testing.assert_array_equal(model.embed("query: a cat"), vectors[1])


def test_a_changed_file_is_another_model(minilm_path: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    shutil.copy(minilm_path, path)
    model = EmbeddingModel(ModelConfig(path, cache=CacheConfig()))
    before = model.embed("a cat")
    model.unload()
    model.load()
    model.embed("a cat")
    assert model.cache_stats()["embeddings"].hits == 1
    model.unload()
    os.utime(path, ns=(1, 1))
    model.load()
    np.testing.assert_array_equal(model.embed("a cat"), before)
    assert model.cache_stats()["embeddings"].hits == 1
    model.unload()
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ModelLoadError):
        model.load()


def test_many_threads(cached: EmbeddingModel, minilm: EmbeddingModel) -> None:
    cached.clear_cache()
    expected = minilm.embed_batch(TEXTS)
    wrong: list[int] = []

    def caller(seed: int) -> None:
        generator = np.random.default_rng(seed)
        for _ in range(20):
            chosen = generator.integers(0, len(TEXTS), generator.integers(1, 6))
            rows = cached.embed_batch([TEXTS[i] for i in chosen])
            if np.abs(rows - expected[chosen]).max() > NOISE:
                wrong.append(seed)
            if seed == 0:
                cached.clear_cache()

    threads = [threading.Thread(target=caller, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_tokens_are_kept(cached: EmbeddingModel, minilm: EmbeddingModel) -> None:
    cached.clear_cache()
    for _ in range(2):
        assert cached.tokenize("a cat").tolist() == minilm.tokenize("a cat").tolist()
    assert cached.tokenize("").tolist() == minilm.tokenize("").tolist()
    assert cached.cache_stats()["tokens"].hits == 1


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({"embedding_cache_size": -1}, ConfigurationError),
        ({"embedding_cache_size": 1.0}, TypeError),
        ({"token_cache_size": True}, TypeError),
        ({"max_memory_mb": 0}, ConfigurationError),
        ({"max_memory_mb": float("inf")}, ConfigurationError),
        ({"max_memory_mb": float("nan")}, ConfigurationError),
        ({"max_memory_mb": "64"}, TypeError),
    ],
)
def test_bad_values(values: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error, match=next(iter(values))):
        CacheConfig(**values)
    with pytest.raises(TypeError, match="cache"):
        ModelConfig("m.gguf", cache=values)  # type: ignore[arg-type]


def test_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMBELLAMA_MODEL_PATH", "m.gguf")
    assert EngineConfig.from_env().model_config.cache is None
    monkeypatch.setenv("EMBELLAMA_TOKEN_CACHE_SIZE", "7")
    monkeypatch.setenv("EMBELLAMA_MAX_MEMORY_MB", "1.5")
    cache = EngineConfig.from_env().model_config.cache
    assert cache == CacheConfig(token_cache_size=7, max_memory_mb=1.5)
