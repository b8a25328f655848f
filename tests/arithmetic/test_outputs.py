# SPDX-License-Identifier: Apache-2.0
"""Types, shapes and cuts of vectors; quantisation as sentence-transformers defines it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.folders import DATA
from support.tiny_model import write_tiny_model

from embellama import (
    ConfigurationError,
    DimensionMismatchError,
    EmbeddingModel,
    InvalidInputError,
    ModelConfig,
    calibrate,
    pairwise_similarity,
    quantize,
    similarity,
)
from embellama.embedding.call import Call
from embellama.embedding.rows import Rows

QUANTIZED = np.load(DATA / "quantized_reference.npz")
TEXTS = ["a cat sat on the mat", "interest rates rose", "dogs chase cats"]


@pytest.mark.parametrize("dtype", ["binary", "ubinary"])
def test_binary_equals_sentence_transformers(dtype: str) -> None:
    result = quantize(QUANTIZED["vectors"], dtype)
    np.testing.assert_array_equal(result, QUANTIZED[dtype])
    assert result.dtype == QUANTIZED[dtype].dtype


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_scalars_equal_sentence_transformers(dtype: str) -> None:
    result = quantize(QUANTIZED["vectors"], dtype, ranges=QUANTIZED["ranges"])
    np.testing.assert_array_equal(result, QUANTIZED[dtype])
    assert result.dtype == QUANTIZED[dtype].dtype


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_calibration_equals_sentence_transformers(dtype: str) -> None:
    ranges = calibrate(QUANTIZED["vectors"])
    result = quantize(QUANTIZED["vectors"], dtype, ranges=ranges)
    np.testing.assert_array_equal(result, QUANTIZED[f"{dtype}_own_ranges"])


def test_bad_samples() -> None:
    for vectors in (np.zeros(3), np.zeros((0, 3))):
        with pytest.raises(DimensionMismatchError, match="vectors"):
            calibrate(vectors)
    with pytest.raises(ConfigurationError, match="row 1 of vectors is not finite"):
        calibrate([[1.0, 2.0], [np.nan, 2.0]])


def test_ranges_whose_width_no_float32_holds() -> None:
    vectors = np.array([[-3e38], [-1.6e38], [0], [1.6e38], [2e38], [3e38]], dtype=np.float32)
    ranges = np.array([[-3e38], [3e38]], dtype=np.float32)
    start, end = ranges.astype(np.float64)
    levels = np.floor((vectors - start) / ((end - start) / 255))
    np.testing.assert_array_equal(quantize(vectors, "uint8", ranges=ranges), levels)
    np.testing.assert_array_equal(quantize(vectors, "int8", ranges=ranges), levels - 128)


def test_int8_of_unit_vectors_without_ranges() -> None:
    vectors = QUANTIZED["vectors"]
    error = np.abs(quantize(vectors, "int8") / 127.0 - vectors).max()
    assert error <= 0.5 / 127 + 1e-6


@pytest.mark.parametrize("dtype", ["float16", "int8", "binary", "ubinary"])
def test_embed_batch_quantizes_its_own_vectors(minilm: EmbeddingModel, dtype: str) -> None:
    expected = quantize(minilm.embed_batch(TEXTS), dtype)
    result = minilm.embed_batch(TEXTS, dtype=dtype)
    np.testing.assert_array_equal(result, expected)
    assert result.dtype == expected.dtype


def test_truncate_dim_cuts_then_normalises(minilm: EmbeddingModel) -> None:
    whole = minilm.embed_batch(TEXTS)[:, :64].astype(np.float64)
    expected = whole / np.linalg.norm(whole, axis=1, keepdims=True)
    result = minilm.embed_batch(TEXTS, truncate_dim=64)
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-6)
    assert minilm.embed_batch(TEXTS, truncate_dim=64, dtype="ubinary").shape == (3, 8)
    assert minilm.embed_batch(TEXTS, truncate_dim=3, dtype="binary").shape == (3, 1)


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (0, DimensionMismatchError),
        (385, DimensionMismatchError),
        (-1, DimensionMismatchError),
        (True, TypeError),
        (1.5, TypeError),
    ],
)
def test_bad_truncate_dim(minilm: EmbeddingModel, value: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        minilm.embed_batch(TEXTS, truncate_dim=value)


def test_out_is_written_in_place(minilm: EmbeddingModel, tmp_path: Path) -> None:
    expected = minilm.embed_batch(TEXTS)
    out = np.zeros((3, 384), dtype=np.float32)
    assert minilm.embed_batch(TEXTS, out=out) is out
    np.testing.assert_array_equal(out, expected)
    mapped = np.lib.format.open_memmap(
        tmp_path / "rows.npy", mode="w+", dtype=np.float16, shape=(3, 384)
    )
    minilm.embed_batch(TEXTS, out=mapped, dtype="float16")
    mapped.flush()
    np.testing.assert_array_equal(np.load(tmp_path / "rows.npy"), expected.astype(np.float16))


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8", "ubinary"])
@pytest.mark.parametrize("on_error", ["raise", "nan"])
def test_out_of_any_layout(minilm: EmbeddingModel, dtype: str, on_error: str) -> None:
    expected = minilm.embed_batch(TEXTS, dtype=dtype)
    width = expected.shape[1]
    whole = np.zeros((7, 2 * width), dtype=expected.dtype)
    unaligned = np.zeros(3 * width * expected.itemsize + 1, dtype=np.uint8)[1:]
    layouts = [
        whole[1::2, width:],
        whole[4:1:-1, :width],
        whole[:3, ::2],
        whole[:3, width - 1 :: -1],
        np.zeros((width, 3), dtype=expected.dtype).T,
        unaligned.view(expected.dtype).reshape(3, width),
    ]
    for out in layouts:
        if on_error == "nan" and not dtype.startswith("float"):
            continue
        out[...] = 1
        assert minilm.embed_batch(TEXTS, out=out, dtype=dtype, on_error=on_error) is out
        np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize(
    "out",
    [
        np.zeros((2, 384), dtype=np.float32),
        np.zeros((3, 383), dtype=np.float32),
        np.zeros((3, 384), dtype=np.float64),
        np.broadcast_to(np.zeros(384, dtype=np.float32), (3, 384)),
    ],
)
def test_out_must_fit(minilm: EmbeddingModel, out: np.ndarray) -> None:
    with pytest.raises(DimensionMismatchError, match="out must be a writable array"):
        minilm.embed_batch(TEXTS, out=out)


def test_out_must_be_an_array(minilm: EmbeddingModel) -> None:
    with pytest.raises(TypeError, match="numpy array"):
        minilm.embed_batch(TEXTS, out=[[0.0] * 384] * 3)  # type: ignore[arg-type]

    class Lying(np.ndarray):
        shape = property(lambda self: (len(TEXTS), 384))  # type: ignore[assignment]

    with pytest.raises(DimensionMismatchError, match=r"\(1, 384\)"):
        minilm.embed_batch(TEXTS, out=np.zeros((1, 384), np.float32).view(Lying))


def test_on_error_nan(minilm: EmbeddingModel) -> None:
    texts = ["fine", "", "word " * 600, "also fine", "\ud800"]
    for dtype in ("float32", "float16"):
        result = minilm.embed_batch(texts, on_error="nan", details=True, dtype=dtype)
        assert np.isnan(result.embeddings).all(axis=1).tolist() == [False, True, True, False, True]
        assert list(result.errors) == [1, 2, 4]
        assert all(isinstance(e, InvalidInputError) for e in result.errors.values())
        assert [e.index for e in result.errors.values()] == [1, 2, 4]  # type: ignore[attr-defined]
        assert result.token_counts.tolist() == [3, 0, 0, 4, 0]
    np.testing.assert_allclose(
        result.embeddings[[0, 3]], minilm.embed_batch(["fine", "also fine"]), atol=1e-3
    )


def test_on_error_nan_of_nothing_good(minilm: EmbeddingModel) -> None:
    assert np.isnan(minilm.embed_batch(["", " "], on_error="nan")).all()


def test_unknown_options(minilm: EmbeddingModel) -> None:
    with pytest.raises(ConfigurationError, match="dtype must be one of"):
        minilm.embed_batch(TEXTS, dtype="float8")
    with pytest.raises(ConfigurationError, match="on_error"):
        minilm.embed_batch(TEXTS, on_error="ignore")
    with pytest.raises(ConfigurationError, match="float dtype"):
        minilm.embed_batch(TEXTS, on_error="nan", dtype="int8")
    with pytest.raises(ConfigurationError, match="needs ranges"):
        minilm.embed_batch(TEXTS, dtype="uint8")
    with pytest.raises(ConfigurationError, match="ranges belong"):
        minilm.embed_batch(TEXTS, ranges=np.zeros((2, 384)))
    with pytest.raises(DimensionMismatchError, match="ranges must have shape"):
        minilm.embed_batch(TEXTS, dtype="int8", ranges=np.zeros((2, 3)))
    with pytest.raises(DimensionMismatchError, match=r"shape \(N, D\)"):
        quantize(np.zeros(3), "int8")


def test_numbers_too_long_for_a_message(minilm: EmbeddingModel) -> None:
    options: Any
    for value in (10**5000, -(10**5000)):  # Python writes no more than 4300 digits
        with pytest.raises(DimensionMismatchError, match="truncate_dim must be from 1 to 384"):
            minilm.embed_batch(TEXTS, truncate_dim=value)
        for name in ("on_error", "dtype"):
            options = {name: value}
            with pytest.raises(ConfigurationError, match=name):
                minilm.embed_batch(TEXTS, **options)
    with pytest.raises(ConfigurationError, match="window"):
        next(minilm.embed_iter(TEXTS, window=-(10**5000)))
    with pytest.raises(ConfigurationError, match="timeout must not be negative"):
        minilm.embed_batch(TEXTS, timeout=-(10**5000))
    assert len(minilm.embed_batch(TEXTS, timeout=10**5000)) == 3


def test_per_token_rows(minilm: EmbeddingModel) -> None:
    rows = minilm.embed_multi("Hello, world!")
    assert rows.shape == (6, 384)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, rtol=1e-6)
    inner = minilm.embed_multi("Hello, world!", special_tokens=False)
    np.testing.assert_array_equal(inner, rows[1:-1])
    batch = minilm.embed_batch_multi(["Hello, world!", "a"])
    np.testing.assert_allclose(batch[0], rows, atol=2e-3)
    assert batch[1].shape == (3, 384)
    assert minilm.embed_batch_multi([]) == []


@pytest.mark.parametrize("name", ["two_words", "sentence"])
def test_per_token_rows_equal_transformers(minilm_f32_path: Path, name: str) -> None:
    reference = np.load(DATA / "minilm_reference.npz")
    rows = json.loads((DATA / "texts.json").read_text())
    text = {row["name"]: row["text"] for row in rows}[name]
    config = ModelConfig(minilm_f32_path, pooling="none", normalization="none", accuracy="exact")
    with EmbeddingModel(config) as model:
        np.testing.assert_allclose(
            model.embed_multi(text), reference[f"tokens_{name}"], rtol=0, atol=2e-5
        )
        with pytest.raises(ConfigurationError, match="use embed_multi"):
            model.embed(text)
        with pytest.raises(ConfigurationError, match="use embed_batch_multi"):
            model.embed_batch([text])


@pytest.mark.parametrize("pooling", ["mean", "cls", "last", "max", "mean_sqrt"])
def test_pooling_is_one_pass_over_the_token_outputs(minilm_path: Path, pooling: str) -> None:
    text = "pooling is one pass over the token outputs"
    settings = {"normalization": "none", "n_threads": 1}
    with EmbeddingModel(ModelConfig(minilm_path, pooling="none", **settings)) as model:
        rows = model.embed_multi(text).astype(np.float64)
    expected = {
        "mean": rows.mean(axis=0),
        "cls": rows[0],
        "last": rows[-1],
        "max": rows.max(axis=0),
        "mean_sqrt": rows.sum(axis=0) / np.sqrt(len(rows)),
    }[pooling]
    with EmbeddingModel(ModelConfig(minilm_path, pooling=pooling, **settings)) as model:
        np.testing.assert_allclose(model.embed(text), expected, rtol=0, atol=1e-6)


def test_embed_tokens(minilm: EmbeddingModel) -> None:
    ids = minilm.tokenize("a cat")
    np.testing.assert_allclose(minilm.embed_tokens(ids), minilm.embed("a cat"), atol=1e-6)
    np.testing.assert_allclose(minilm.embed_tokens(ids.tolist()), minilm.embed("a cat"), atol=1e-6)


@pytest.mark.parametrize(
    "ids", [[], [[101, 102]], [1.5], ["a"], [30522], [-1], [2**40], np.full(513, 101), None]
)
def test_bad_token_ids(minilm: EmbeddingModel, ids: Any) -> None:
    with pytest.raises(InvalidInputError):
        minilm.embed_tokens(ids)
    assert minilm.embed("works on").shape == (384,)


def test_prompts(minilm_path: Path) -> None:
    config = ModelConfig(minilm_path, query_prompt="query: ", document_prompt="passage: ")
    with EmbeddingModel(config) as model:
        np.testing.assert_allclose(
            model.embed_query("cats"), model.embed("query: cats"), rtol=0, atol=1e-6
        )
        np.testing.assert_allclose(
            model.embed_documents(["cats"])[0], model.embed("passage: cats"), rtol=0, atol=1e-6
        )
        with pytest.raises(InvalidInputError, match="empty"):
            model.embed_query("")
        with pytest.raises(InvalidInputError, match="text 1 is empty"):
            model.embed_documents(["cats", ""])


def test_similarity(minilm: EmbeddingModel) -> None:
    vectors = minilm.embed_batch(TEXTS)
    scores = minilm.similarity(vectors, vectors)
    np.testing.assert_allclose(np.diag(scores), 1, atol=1e-6)
    np.testing.assert_allclose(scores, vectors @ vectors.T, atol=1e-6)
    np.testing.assert_allclose(minilm.pairwise_similarity(vectors, vectors), 1, atol=1e-6)
    assert scores[0, 2] > scores[0, 1]
    np.testing.assert_allclose(similarity(vectors * 3, vectors), scores, atol=1e-6)
    np.testing.assert_allclose(similarity(vectors * 3, vectors, kind="dot"), scores * 3, atol=1e-5)
    ints = quantize(vectors, "int8")
    np.testing.assert_allclose(similarity(ints, ints), scores, atol=2e-2)
    np.testing.assert_allclose(minilm.similarity(ints, ints), scores, atol=2e-2)
    np.testing.assert_allclose(minilm.pairwise_similarity(ints, ints), 1, atol=1e-6)
    np.testing.assert_allclose(
        pairwise_similarity(ints, ints, kind="dot"),
        (ints.astype(int) ** 2).sum(axis=1),
        rtol=1e-6,
    )


@pytest.mark.parametrize(
    ("dtype", "sizes"),
    [
        (np.float32, [3e38, 1e30, 1e19, 1.0, 1e-15, 1e-19, 1e-30, 1e-44]),
        (np.float64, [1e308, 1e200, 1.0, 1e-150, 1e-200, 1e-322]),
    ],
)
def test_the_cosine_of_vectors_of_any_length(dtype: type[Any], sizes: list[float]) -> None:
    # Dimensions whose ratios the smallest sizes, subnormal numbers, hold exactly.
    vectors = np.outer(np.array(sizes), [1.0, -1.0, 0.0]).astype(dtype)
    before = vectors.copy()
    np.testing.assert_allclose(similarity(vectors, vectors), 1, rtol=1e-6)
    np.testing.assert_allclose(pairwise_similarity(vectors, vectors[::-1]), 1, rtol=1e-6)
    np.testing.assert_array_equal(vectors, before)


def test_the_cosine_of_an_odd_vector_leaves_the_others_alone() -> None:
    vectors = np.array([[1, 0], [0, 0], [1e30, 1e30], [0, 1e-30]], dtype=np.float32)
    expected = [[1, 0, 0.5**0.5, 0]]
    np.testing.assert_allclose(similarity([1.0, 0.0], vectors), expected, rtol=1e-6)
    unit = QUANTIZED["vectors"]
    alone = pairwise_similarity(unit, unit[::-1])
    odd = np.vstack([unit, np.full_like(unit[:1], 1e30)])
    among = pairwise_similarity(odd, np.vstack([unit[::-1], odd[-1:]]))
    np.testing.assert_array_equal(among[:-1], alone)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_the_cosine_of_what_is_no_finite_vector() -> None:
    assert np.isnan(similarity([math.inf, 1.0], [1.0, 0.0])).all()
    assert similarity([math.nan, 1.0], [1.0, 0.0])[0, 0] == 0
    assert similarity(np.empty((2, 0)), np.empty((1, 0))).tolist() == [[0], [0]]


def test_similarity_refuses_what_does_not_fit() -> None:
    with pytest.raises(DimensionMismatchError, match="dimensions"):
        similarity(np.zeros((1, 2)), np.zeros((1, 3)))
    with pytest.raises(DimensionMismatchError, match="rows"):
        pairwise_similarity(np.zeros((1, 2)), np.zeros((2, 2)))
    with pytest.raises(DimensionMismatchError, match="numbers"):
        similarity(["a"], ["b"])
    with pytest.raises(ConfigurationError, match="kind"):
        similarity([1.0], [1.0], kind="euclidean")
    assert similarity([0.0, 0.0], [1.0, 0.0])[0, 0] == 0


@pytest.mark.parametrize("n_dims", [8, 20, 384])
def test_hamming_similarity_is_the_share_of_equal_signs(n_dims: int) -> None:
    vectors = np.random.default_rng(n_dims).normal(size=(6, n_dims)).astype(np.float32)
    signs = vectors > 0
    expected = (signs[:, None] == signs[None]).mean(axis=2)
    padding = -n_dims % 8
    padded = (expected * n_dims + padding) / (n_dims + padding)
    for dtype in ("binary", "ubinary"):
        bits = quantize(vectors, dtype)
        np.testing.assert_allclose(similarity(bits, bits, kind="hamming"), padded, atol=1e-6)
        np.testing.assert_allclose(
            pairwise_similarity(bits[:3], bits[3:], kind="hamming"),
            np.diagonal(padded[:3, 3:]),
            atol=1e-6,
        )
    mixed = similarity(quantize(vectors, "binary"), quantize(vectors, "ubinary"), kind="hamming")
    np.testing.assert_array_equal(np.diagonal(mixed), np.ones(6, dtype=np.float32))


def test_a_model_knows_its_packed_rows(minilm: EmbeddingModel) -> None:
    vectors = minilm.embed_batch(TEXTS)
    expected = ((vectors[:, None] > 0) == (vectors[None] > 0)).mean(axis=2)
    for dtype in ("binary", "ubinary"):
        bits = minilm.embed_batch(TEXTS, dtype=dtype)
        np.testing.assert_allclose(minilm.similarity(bits, bits), expected, atol=1e-6)
        np.testing.assert_allclose(minilm.similarity(bits[0], bits), expected[:1], atol=1e-6)
        np.testing.assert_allclose(minilm.pairwise_similarity(bits, bits), 1, atol=1e-6)
    # As wide as the vectors, so numbers, whatever their type.
    numbers = minilm.embed_batch(TEXTS, dtype="int8")
    np.testing.assert_allclose(minilm.similarity(numbers, numbers), vectors @ vectors.T, atol=0.02)
    with pytest.raises(DimensionMismatchError, match="one dtype"):
        minilm.similarity(vectors, bits)


def test_a_models_packed_rows_have_no_padding(tmp_path: Path) -> None:
    path = write_tiny_model(
        tmp_path / "odd.gguf", "modern-bert", embedding_length=36, key_length=18
    )
    with EmbeddingModel(path) as model:
        vectors = model.embed_batch(TEXTS)
        expected = ((vectors[:, None] > 0) == (vectors[None] > 0)).mean(axis=2)
        bits = model.embed_batch(TEXTS, dtype="ubinary")
        assert bits.shape == (3, 5)
        np.testing.assert_allclose(model.similarity(bits, bits), expected, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.int16])
def test_hamming_similarity_needs_packed_bits(dtype: Any) -> None:
    with pytest.raises(DimensionMismatchError, match="a must be packed bits"):
        similarity(np.ones((2, 8), dtype=dtype), np.ones((2, 8), dtype=np.uint8), kind="hamming")


def _rows(shape: tuple[int, ...], row_of_text: list[int], **settings: Any) -> Rows:
    array = np.empty(shape, dtype=settings.pop("kind", np.float32))
    return Rows(array, 384, np.array(row_of_text, dtype=np.int64), **settings)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: _rows((2, 383), [0, 1]), "rows of 384 float32 are not float32"),
        (lambda: _rows((2, 384), [0, 1], kind=np.int8), "are not int8"),
        (lambda: _rows((2, 384), [0, 1], kind=np.int8, dtype="ubinary"), "rows of 48 ubinary"),
        (lambda: _rows((384,), [0]), "are not float32"),
        (lambda: _rows((2, 384), [0, 2]), "beyond the 2 that there are"),
        (lambda: _rows((2, 384), [-1, 1]), "beyond the 2 that there are"),
        (lambda: _rows((0, 384), [0]), "beyond the 0 that there are"),
        (lambda: Rows(np.empty((384, 2), np.float32).T, 384, np.arange(2)), "side by side"),
        (
            lambda: _rows((2, 384), [0], kind=np.int8, dtype="int8", levels=np.ones((2, 3), "f4")),
            "levels of 384 dimensions",
        ),
    ],
)
def test_rows_that_nothing_may_be_written_to(make: Callable[[], Rows], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("per_token", [False, True])
def test_rows_of_other_texts(minilm: EmbeddingModel, per_token: bool) -> None:
    embedder = minilm._loaded().embedder
    tokens = embedder.require_tokens(embedder.tokenize(["a cat", "a dog"], Call()), [0, 1])
    rows = _rows((7, 384), [0, 4] if per_token else [0], per_token=per_token)
    with pytest.raises(ValueError, match="the rows are those of other texts"):
        embedder.compute(tokens, rows, Call())
