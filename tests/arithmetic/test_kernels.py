# SPDX-License-Identifier: Apache-2.0
"""Pooling and normalisation against numpy in float64."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from embellama.kernels import normalize_rows, pool_rows, quantize_rows

finite = st.floats(-1e3, 1e3, width=32)
rows = arrays(
    np.float32, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=80), elements=finite
)

REFERENCE = {
    "mean": lambda x: x.mean(axis=0),
    "mean_sqrt": lambda x: x.sum(axis=0) / np.sqrt(len(x)),
    "max": lambda x: x.max(axis=0),
    "cls": lambda x: x[0],
    "last": lambda x: x[-1],
}


@pytest.mark.parametrize("pooling", REFERENCE)
@given(values=rows)
def test_pooling_equals_numpy(pooling: str, values: np.ndarray) -> None:
    expected = REFERENCE[pooling](values.astype(np.float64))
    # A float32 sum of T values of size M errs by at most about T * M * 2**-24.
    tolerance = 1e-6 * max(1.0, float(np.abs(values).max())) * np.sqrt(len(values)) * len(values)
    np.testing.assert_allclose(pool_rows(values, pooling), expected, rtol=0, atol=tolerance)


@given(values=rows, p=st.sampled_from([1.0, 1.5, 2.0, 3.0, 10.0]))
def test_p_norm_is_one(values: np.ndarray, p: float) -> None:
    result = normalize_rows(values, p).astype(np.float64)
    norms = (np.abs(result) ** p).sum(axis=1) ** (1 / p)
    zero = ~values.any(axis=1)
    np.testing.assert_allclose(norms[~zero], 1, rtol=1e-5)
    assert not result[zero].any()


@given(values=rows)
def test_l2_equals_numpy(values: np.ndarray) -> None:
    wide = values.astype(np.float64)
    norms = np.linalg.norm(wide, axis=1, keepdims=True)
    expected = np.divide(wide, norms, out=np.zeros_like(wide), where=norms > 0)
    np.testing.assert_allclose(normalize_rows(values, "l2"), expected, rtol=0, atol=1e-6)


@given(values=rows)
def test_max_abs_has_the_peak_of_llama_cpp(values: np.ndarray) -> None:
    peaks = np.abs(normalize_rows(values, "max_abs")).max(axis=1)
    np.testing.assert_allclose(peaks[values.any(axis=1)], 32760, rtol=1e-6)
    assert not peaks[~values.any(axis=1)].any()


def test_normalising_in_place() -> None:
    values = np.random.default_rng(0).standard_normal((5, 33), dtype=np.float32)
    expected = normalize_rows(values, "l2")
    other = np.empty_like(values)
    assert normalize_rows(values, "l2", out=other) is other
    np.testing.assert_array_equal(other, expected)
    assert normalize_rows(values, "l2", out=values) is values
    np.testing.assert_array_equal(values, expected)
    for bad in (
        np.empty((5, 32), np.float32),
        np.empty((5, 33), np.float64),
        np.empty((33, 5), np.float32).T,
        np.empty(33, np.float32),
        np.broadcast_to(np.float32(0), (5, 33)),
    ):
        with pytest.raises(ValueError):  # noqa: PT011 -- numpy's or Cython's own words
            normalize_rows(values, "l2", out=bad)


def test_none_changes_nothing() -> None:
    values = np.array([[3.0, -4.0]], dtype=np.float32)
    np.testing.assert_array_equal(normalize_rows(values, "none"), values)


@pytest.mark.parametrize("scale", [1e-44, 1e-38, 1e-20, 1e15, 1e19, 3e38])
@pytest.mark.parametrize("norm", ["l2", 2.0, 3.0])
def test_tiny_and_huge_vectors_keep_their_direction(scale: float, norm: str | float) -> None:
    values = np.zeros((1, 100), dtype=np.float32)
    values[0, 17] = scale
    result = normalize_rows(values, norm)
    assert result[0, 17] == pytest.approx(1, rel=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("position", [0, 31, 32, 99])
def test_rows_with_nan_or_infinity_are_left_alone(bad: float, position: int) -> None:
    values = np.ones((2, 100), dtype=np.float32)
    values[0, position] = bad
    result = normalize_rows(values, "l2")
    np.testing.assert_array_equal(result[0], values[0])
    np.testing.assert_allclose(result[1], 0.1, rtol=1e-6)


# Rows are compared four at a time, and what is left one by one.
@pytest.mark.parametrize("n_rows", [2, 5, 7, 9])
def test_max_keeps_a_nan(n_rows: int) -> None:
    for position in range(n_rows):
        values = np.arange(n_rows * 3, dtype=np.float32).reshape(n_rows, 3)
        values[position, 1] = np.nan
        result = pool_rows(values, "max")
        assert np.isnan(result).tolist() == [False, True, False]
        np.testing.assert_array_equal(result[[0, 2]], values[-1, [0, 2]])


@pytest.mark.parametrize("pooling", REFERENCE)
def test_rows_beyond_the_cache(pooling: str) -> None:
    values = np.random.default_rng(0).standard_normal((3001, 387), dtype=np.float32)
    expected = REFERENCE[pooling](values.astype(np.float64))
    np.testing.assert_allclose(pool_rows(values, pooling), expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("shape", [(0, 3), (3,), (1, 2, 3)])
def test_pooling_refuses_other_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="shape"):
        pool_rows(np.zeros(shape), "mean")


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ValueError, match="pooling must be one of"):
        pool_rows(np.zeros((1, 1)), "median")
    with pytest.raises(ValueError, match="norm must be one of"):
        normalize_rows(np.zeros((1, 1)), "l3")
    with pytest.raises(ValueError, match="at least 1"):
        normalize_rows(np.zeros((1, 1)), 0.5)


def test_no_dimensions_and_no_rows() -> None:
    assert normalize_rows(np.zeros((0, 4))).shape == (0, 4)
    assert pool_rows(np.zeros((2, 0)), "mean").shape == (0,)


def in_numpy(values: np.ndarray, dtype: str, levels: np.ndarray | None) -> np.ndarray:
    """sentence-transformers' quantize_embeddings, and round(127 x) where there are no levels."""
    if dtype == "float16":
        return values.astype(np.float16)
    if dtype == "ubinary":
        return np.packbits(values > 0, axis=1)
    if dtype == "binary":
        return (np.packbits(values > 0, axis=1).astype(np.int16) - 128).astype(np.int8)
    if levels is None:
        return np.clip(np.rint(values * np.float32(127)), -127, 127).astype(np.int8)
    floors = np.clip(np.floor((values - levels[0]) / levels[1]), 0, 255)
    return floors.astype(np.uint8) if dtype == "uint8" else (floors - 128).astype(np.int8)


@given(
    values=arrays(
        np.float32,
        array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=70),
        elements=st.floats(-2, 2, width=32) | st.sampled_from([0.5 / 127, -1.5 / 127, -0.0]),
    ),
    dtype=st.sampled_from(["float16", "int8", "uint8", "binary", "ubinary"]),
    with_levels=st.booleans(),
)
def test_smaller_types_equal_numpy(values: np.ndarray, dtype: str, with_levels: bool) -> None:
    levels = None
    if dtype == "uint8" or (dtype == "int8" and with_levels):
        n_dims = values.shape[1]
        levels = np.stack([np.linspace(-1, 0, n_dims), np.linspace(0.001, 0.01, n_dims)])
        levels = levels.astype(np.float32)
    expected = in_numpy(values, dtype, levels)
    out = np.empty_like(expected)
    quantize_rows(values, dtype, out, levels)
    np.testing.assert_array_equal(out, expected)


def test_quantize_rows_refuses_what_does_not_fit() -> None:
    rows = np.ones((2, 16), np.float32)
    levels = np.ones((2, 16), np.float32)
    right = np.empty((2, 16), np.int8)
    for dtype, out, some_levels in [
        ("int8", right[:1], None),
        ("int8", np.empty((2, 15), np.int8), None),
        ("float16", np.empty((2, 15), np.float16), None),
        ("ubinary", np.empty((2, 1), np.uint8), None),
        ("uint8", right.view(np.uint8), None),
        ("int8", right, levels[:1]),
        ("int8", right, levels[:0]),
        ("int8", right, np.ones((2, 15), np.float32)),
        ("int4", right, None),
    ]:
        with pytest.raises(ValueError, match=r"bytes a row|levels|dtype"):
            quantize_rows(rows, dtype, out, some_levels)
    with pytest.raises(TypeError, match="rows"):
        quantize_rows(None, "int8", right)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [65504.0, 65519.9, 65520.0, 1e-8, 6e-8, np.inf])
def test_float16_at_its_ends(value: float) -> None:
    values = np.array([[value, -value]], dtype=np.float32)
    with np.errstate(over="ignore"):
        expected = values.astype(np.float16)
    out = np.empty_like(expected)
    quantize_rows(values, "float16", out)
    np.testing.assert_array_equal(out, expected)
