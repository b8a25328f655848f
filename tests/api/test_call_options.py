# SPDX-License-Identifier: Apache-2.0
"""What one call may ask for: each method takes all of it."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embellama import (
    CacheConfig,
    ConfigurationError,
    DimensionMismatchError,
    EmbeddingEngine,
    EmbeddingModel,
    EmbeddingResult,
    InvalidInputError,
    TextTypeError,
    quantize,
)

LONG = "word " * 600
TEXTS = ["a cat", "a dog on a mat"]
# The same text alone and beside others: float noise.
NOISE = 1e-6


@pytest.fixture(scope="module")
def prompted(minilm_path: Path) -> Iterator[EmbeddingModel]:
    with EmbeddingModel(minilm_path, query_prompt="find: ", document_prompt="text: ") as model:
        yield model


@pytest.fixture(scope="module")
def engine(minilm_path: Path) -> Iterator[EmbeddingEngine]:
    engine = EmbeddingEngine(minilm_path, model_name="the one", query_prompt="find: ")
    yield engine
    engine.unload_model("the one")


def test_embed_takes_one_text_or_several(minilm: EmbeddingModel) -> None:
    expected = minilm.embed_batch(TEXTS)
    assert minilm.embed(TEXTS[0]).shape == (384,)
    for several in (TEXTS, tuple(TEXTS), iter(TEXTS), np.array(TEXTS)):
        np.testing.assert_array_equal(minilm.embed(several), expected)
    np.testing.assert_allclose(minilm.embed(TEXTS[1]), expected[1], atol=NOISE)
    np.testing.assert_allclose(minilm.embed(np.str_(TEXTS[1])), expected[1], atol=NOISE)


# Each with a text that has to be cut, to 8 tokens.
CUTTING: dict[str, Callable[[EmbeddingModel, Any], Any]] = {
    "embed": lambda model, cut: model.embed(LONG, truncate=cut),
    "embed, several": lambda model, cut: model.embed([LONG], truncate=cut)[0],
    "embed_batch": lambda model, cut: model.embed_batch([LONG], truncate=cut)[0],
    "embed_query": lambda model, cut: model.embed_query(LONG, truncate=cut),
    "embed_queries": lambda model, cut: model.embed_queries([LONG], truncate=cut)[0],
    "embed_documents": lambda model, cut: model.embed_documents([LONG], truncate=cut)[0],
    "embed_iter": lambda model, cut: next(model.embed_iter([LONG], truncate=cut))[1][0],
    "aembed": lambda model, cut: asyncio.run(model.aembed(LONG, truncate=cut)),
    "aembed_query": lambda model, cut: asyncio.run(model.aembed_query(LONG, truncate=cut)),
    "aembed_batch": lambda model, cut: asyncio.run(model.aembed_batch([LONG], truncate=cut))[0],
}


@pytest.mark.parametrize("name", CUTTING)
@pytest.mark.parametrize("cached", [False, True])
def test_truncate_is_for_one_call(name: str, cached: bool, minilm_path: Path) -> None:
    call = CUTTING[name]
    cache = CacheConfig(token_cache_size=100) if cached else None
    with EmbeddingModel(minilm_path, cache=cache, n_threads=1) as model:
        for _ in range(2):
            np.testing.assert_allclose(call(model, 8), model.embed("word " * 6), atol=NOISE)
            fits = "word " * (model.info.max_seq_length - 2)
            np.testing.assert_allclose(call(model, True), model.embed(fits), atol=NOISE)
            with pytest.raises(InvalidInputError, match="602 tokens, 512 is the limit"):
                call(model, None)


def test_truncation_that_is_configured_can_be_turned_off(minilm_path: Path) -> None:
    with EmbeddingModel(minilm_path, truncate=8) as model:
        assert model.embed(LONG, details=True).token_counts.tolist() == [8]
        assert model.embed(LONG, details=True, truncate=9).token_counts.tolist() == [9]
        assert model.embed_multi(LONG, truncate=9).shape == (9, 384)
        assert [len(rows) for rows in model.embed_batch_multi([LONG], truncate=7)] == [7]
        with pytest.raises(InvalidInputError, match="512 is the limit"):
            model.embed(LONG, truncate=False)


@pytest.mark.parametrize("truncate", [0, -1, 2**40])
def test_bad_truncate(minilm: EmbeddingModel, truncate: int) -> None:
    with pytest.raises(ConfigurationError, match="truncate must be from 1"):
        minilm.embed("a", truncate=truncate)
    with pytest.raises(TypeError, match="truncate must be an integer, not str"):
        minilm.embed("a", truncate="yes")  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("dtype", "name"),
    [
        (np.float16, "float16"),
        (np.dtype("float32"), "float32"),
        (np.int8, "int8"),
        (np.dtype("<f2"), "float16"),
        ("binary", "binary"),
    ],
)
def test_types_of_numpy(minilm: EmbeddingModel, dtype: Any, name: Any) -> None:
    expected = quantize(minilm.embed_batch(TEXTS), name)
    np.testing.assert_array_equal(minilm.embed_batch(TEXTS, dtype=dtype), expected)
    assert quantize(minilm.embed_batch(TEXTS), dtype).dtype == expected.dtype


@pytest.mark.parametrize("dtype", [np.float64, "float", np.dtype("int16"), float, None, 8])
def test_types_that_vectors_do_not_have(minilm: EmbeddingModel, dtype: Any) -> None:
    for call in (
        lambda: minilm.embed("a", dtype=dtype),
        lambda: next(minilm.embed_iter(["a"], dtype=dtype)),
        lambda: quantize([[1.0]], dtype),
    ):
        with pytest.raises(ConfigurationError, match="dtype must be one of float32, float16"):
            call()


def test_one_text_takes_all_options(minilm: EmbeddingModel) -> None:
    text = TEXTS[1]
    whole = minilm.embed(text)
    np.testing.assert_array_equal(minilm.embed(text, dtype="int8"), quantize([whole], "int8")[0])
    assert minilm.embed(text, dtype="ubinary").shape == (48,)
    first = minilm.embed(text, truncate_dim=8)
    np.testing.assert_allclose(first, whole[:8] / np.linalg.norm(whole[:8]), atol=1e-6)
    out = np.zeros(384, dtype=np.float32)
    assert minilm.embed(text, out=out) is out
    np.testing.assert_array_equal(out, whole)
    backwards = np.zeros(384, dtype=np.float32)[::-1]
    minilm.embed(text, out=backwards)
    np.testing.assert_array_equal(backwards, whole)
    with pytest.raises(DimensionMismatchError, match=r"float32 \(384,\), not float32 \(1, 384\)"):
        minilm.embed(text, out=np.zeros((1, 384), dtype=np.float32))
    assert np.isnan(minilm.embed("", on_error="nan")).all()
    assert np.isnan(minilm.embed(LONG, on_error="nan")).all()
    with pytest.raises(InvalidInputError, match="the text is empty"):
        minilm.embed("", dtype="float16")


def test_details_of_one_text(minilm: EmbeddingModel) -> None:
    result = minilm.embed("a cat", details=True)
    assert (result.embeddings.shape, result.token_counts.tolist()) == ((1, 384), [4])
    result = minilm.embed("", on_error="nan", details=True)
    assert list(result.errors) == [0]
    ids = minilm.tokenize("a cat")
    by_ids = minilm.embed_tokens(ids, details=True, dtype="float16")
    assert (by_ids.embeddings.dtype, by_ids.token_counts.tolist()) == (np.float16, [4])
    tokens = minilm.embed_multi("a cat", details=True)
    assert ([rows.shape for rows in tokens.embeddings], tokens.token_counts.tolist()) == (
        [(4, 384)],
        [4],
    )
    several = minilm.embed_batch_multi(["a", LONG], details=True, truncate=5)
    assert several.truncated.tolist() == [False, True]


@pytest.mark.parametrize(
    ("options", "compared"),
    [
        ({}, lambda rows: rows),
        ({"dtype": "int8", "truncate_dim": 16}, lambda rows: rows),
        ({"details": True}, lambda result: result.embeddings),
        ({"truncate": 4, "on_error": "nan"}, lambda rows: rows),
    ],
)
def test_prompts_go_with_every_option(
    prompted: EmbeddingModel, options: dict[str, Any], compared: Callable[[Any], Any]
) -> None:
    queries = compared(prompted.embed_batch([f"find: {text}" for text in TEXTS], **options))
    documents = compared(prompted.embed_batch([f"text: {text}" for text in TEXTS], **options))

    async def main() -> list[Any]:
        return [
            await prompted.aembed_queries(TEXTS, **options),
            await prompted.aembed_documents(TEXTS, **options),
            await prompted.aembed_query(TEXTS[0], **options),
        ]

    awaited = [compared(each) for each in asyncio.run(main())]
    for found in (compared(prompted.embed_queries(TEXTS, **options)), awaited[0]):
        np.testing.assert_allclose(found, queries, atol=NOISE)
    for found in (compared(prompted.embed_documents(TEXTS, **options)), awaited[1]):
        np.testing.assert_allclose(found, documents, atol=NOISE)
    for found in (compared(prompted.embed_query(TEXTS[0], **options)), awaited[2]):
        np.testing.assert_allclose(np.atleast_2d(found)[0], queries[0], atol=NOISE)


def test_one_query_is_one_text(minilm: EmbeddingModel) -> None:
    with pytest.raises(TextTypeError, match="must be a str, not list"):
        minilm.embed_query(TEXTS)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match=r"one str: pass \[text\]"):
        minilm.embed_queries("a cat")


def test_embed_iter_tells_its_progress(minilm: EmbeddingModel) -> None:
    for texts, totals in ((["a"] * 5, [5, 5, 5]), (iter(["a"] * 5), [2, 4, 5])):
        told: list[tuple[int, int]] = []
        windows = minilm.embed_iter(
            texts, window=2, dtype="int8", progress=lambda *now, told=told: told.append(now)
        )
        assert [rows.dtype for _, rows in windows] == [np.int8] * 3
        last = dict.fromkeys(done for done, _ in told)
        assert list(last)[-1] == 5
        assert sorted({total for _, total in told}) == sorted(set(totals))


def test_embed_iter_counts_errors_from_the_first_text(minilm: EmbeddingModel) -> None:
    texts = ["a", "b", "c", ""]
    results = [
        result for _, result in minilm.embed_iter(texts, window=2, on_error="nan", details=True)
    ]
    assert [list(result.errors) for result in results] == [[], [3]]
    assert np.isnan(results[1].embeddings[1]).all()


def test_bad_progress(minilm: EmbeddingModel) -> None:
    with pytest.raises(TypeError, match="progress must be True, False or a function"):
        minilm.embed_batch(TEXTS, progress="yes")  # type: ignore[call-overload]


def test_rerank_takes_options(reranker_path: Path) -> None:
    told: list[tuple[int, int]] = []
    with EmbeddingModel(reranker_path) as model:
        plain, cut = "Espresso", LONG
        found = model.rerank(
            "coffee",
            [plain, cut],
            truncate=True,
            details=True,
            progress=lambda *now: told.append(now),
        )
        by_index = {result.index: result for result in found}
        assert by_index[1].truncated is True
        assert by_index[1].token_count == model.info.max_seq_length
        assert by_index[0].truncated is False
        assert told[-1] == (2, 2)
        assert model.rerank("coffee", [plain])[0].token_count is None
        with pytest.raises(InvalidInputError, match="use truncate=True"):
            model.rerank("coffee", [cut])


def test_an_engine_takes_the_same(engine: EmbeddingEngine) -> None:
    model = engine.model()
    np.testing.assert_array_equal(
        engine.embed(TEXTS, dtype="int8"), model.embed(TEXTS, dtype="int8")
    )
    np.testing.assert_allclose(
        engine.embed_queries(TEXTS, "the one"), model.embed_queries(TEXTS), atol=NOISE
    )
    assert isinstance(engine.embed("a", model="the one", details=True), EmbeddingResult)
    rows = asyncio.run(engine.aembed_documents(TEXTS, "the one", truncate_dim=4))
    assert rows.shape == (2, 4)
    assert [start for start, _ in engine.embed_iter(TEXTS, window=1)] == [0, 1]
    assert engine.count_tokens("a cat") == 4
    assert engine.similarity(model.embed(TEXTS[0]), model.embed(TEXTS[0]), "the one").shape == (
        1,
        1,
    )
    assert engine.cache_stats() == {}
    engine.verify()


@pytest.mark.parametrize("name", ["embed", "embed_iter", "embed_tokens", "rerank"])
def test_no_keywords_in_disguise(name: str) -> None:
    for kind in (EmbeddingModel, EmbeddingEngine):
        parameters = inspect.signature(getattr(kind, name)).parameters.values()
        assert all(each.kind is not inspect.Parameter.VAR_KEYWORD for each in parameters)
        with pytest.raises(TypeError, match=rf"^{kind.__name__}\.{name}\(\) "):
            getattr(kind, name)(object.__new__(kind), "a", "b", "c", "d")
