# SPDX-License-Identifier: Apache-2.0
"""Vectors in fewer bytes, as sentence-transformers' ``quantize_embeddings`` defines them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from embellama.errors import ConfigurationError, DimensionMismatchError

__all__ = ["DTYPES", "quantize", "quantized_width"]

# numpy types of a row, and how many dimensions one value holds.
DTYPES: dict[str, tuple[type[np.generic], int]] = {
    "float32": (np.float32, 1),
    "float16": (np.float16, 1),
    "int8": (np.int8, 1),
    "uint8": (np.uint8, 1),
    "binary": (np.int8, 8),
    "ubinary": (np.uint8, 8),
}


def quantized_width(n_dims: int, dtype: str) -> int:
    """Return the number of values in a row of `n_dims` dimensions.

    Raises
    ------
    ConfigurationError
        If `dtype` is unknown.
    """
    if dtype not in DTYPES:
        raise ConfigurationError(f"dtype must be one of {', '.join(DTYPES)}, not {dtype!r}")
    per_value = DTYPES[dtype][1]
    return -(-n_dims // per_value)


def quantize(vectors: ArrayLike, dtype: str, *, ranges: ArrayLike | None = None) -> NDArray[Any]:
    """Turn float vectors into a smaller type.

    Parameters
    ----------
    vectors : array_like of float32, shape (N, D)
    dtype : {"float32", "float16", "int8", "uint8", "binary", "ubinary"}
        ``"binary"`` and ``"ubinary"`` keep the sign of each dimension, eight to a byte.
    ranges : array_like of float32, shape (2, D), optional
        For ``"int8"`` and ``"uint8"``: the least and the largest value of each dimension, which
        become the ends of the type. Default for ``"int8"``: ``round(127 * x)``, for vectors of
        unit length. ``"uint8"`` needs ranges.

    Returns
    -------
    numpy.ndarray, shape (N, D), or (N, ceil(D / 8)) for the binary types

    Raises
    ------
    ConfigurationError
        If `dtype` is unknown, or `ranges` is missing or not wanted.
    DimensionMismatchError
        If `vectors` or `ranges` has the wrong shape.

    Examples
    --------
    >>> from embellama import quantize
    >>> quantize([[0.5, -1.0, 0.0]], "int8")
    array([[  64, -127,    0]], dtype=int8)
    >>> quantize([[0.5, -1.0, 0.1]], "ubinary")
    array([[160]], dtype=uint8)

    References
    ----------
    https://sbert.net/docs/package_reference/util/quantization.html
    """
    values = np.asarray(vectors, dtype=np.float32)
    if values.ndim != 2:
        raise DimensionMismatchError(f"vectors must have shape (N, D), not {values.shape}")
    quantized_width(values.shape[1], dtype)
    if dtype in ("int8", "uint8"):
        return _scalar(values, dtype, ranges)
    if ranges is not None:
        raise ConfigurationError(f"ranges belong to int8 and uint8, not to {dtype}")
    if dtype == "ubinary":
        return np.packbits(values > 0, axis=1)
    if dtype == "binary":
        return (np.packbits(values > 0, axis=1).astype(np.int16) - 128).astype(np.int8)
    converted: NDArray[Any] = values.astype(DTYPES[dtype][0])
    return converted


def _scalar(values: NDArray[np.float32], dtype: str, ranges: ArrayLike | None) -> NDArray[Any]:
    if ranges is None:
        if dtype == "uint8":
            raise ConfigurationError("uint8 needs ranges: the least and largest of each dimension")
        # rint, not round half away: both directions of a tie are equally wrong.
        rounded: NDArray[np.int8] = np.clip(np.rint(values * 127), -127, 127).astype(np.int8)
        return rounded
    bounds = np.asarray(ranges, dtype=np.float32)
    if bounds.shape != (2, values.shape[1]):
        raise DimensionMismatchError(
            f"ranges must have shape (2, {values.shape[1]}), not {bounds.shape}"
        )
    steps = (bounds[1] - bounds[0]) / np.float32(255)
    steps[steps == 0] = 1
    levels = np.clip(np.floor((values - bounds[0]) / steps), 0, 255)
    result: NDArray[Any]
    result = levels.astype(np.uint8) if dtype == "uint8" else (levels - 128).astype(np.int8)
    return result
