# SPDX-License-Identifier: Apache-2.0
"""Vectors in fewer bytes, as sentence-transformers' ``quantize_embeddings`` defines them."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias, cast, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from embellama.errors import ConfigurationError, DimensionMismatchError, safe_repr
from embellama.kernels import quantize_rows

__all__ = [
    "DTYPES",
    "DType",
    "DTypeName",
    "Float16",
    "Float32",
    "Int8",
    "UInt8",
    "calibrate",
    "dtype_name",
    "quantization_levels",
    "quantize",
    "quantized_width",
]

# What a caller may write for each type of numbers.
Float32: TypeAlias = Literal["float32"] | type[np.float32] | np.dtype[np.float32]
Float16: TypeAlias = Literal["float16"] | type[np.float16] | np.dtype[np.float16]
Int8: TypeAlias = Literal["int8", "binary"] | type[np.int8] | np.dtype[np.int8]
UInt8: TypeAlias = Literal["uint8", "ubinary"] | type[np.uint8] | np.dtype[np.uint8]
DType: TypeAlias = Float32 | Float16 | Int8 | UInt8
DTypeName: TypeAlias = Literal["float32", "float16", "int8", "uint8", "binary", "ubinary"]

# numpy types of a row, and how many dimensions one value holds.
DTYPES: dict[str, tuple[type[np.generic], int]] = {
    "float32": (np.float32, 1),
    "float16": (np.float16, 1),
    "int8": (np.int8, 1),
    "uint8": (np.uint8, 1),
    "binary": (np.int8, 8),
    "ubinary": (np.uint8, 8),
}


def dtype_name(dtype: object) -> DTypeName:
    """Return the name of a type that a caller may give as one of NumPy's.

    Raises
    ------
    ConfigurationError
        If vectors can't have that type.
    """
    name = dtype
    if isinstance(dtype, np.dtype):
        name = dtype.name
    elif isinstance(dtype, type) and issubclass(dtype, np.generic):
        name = dtype.__name__
    if not isinstance(name, str) or name not in DTYPES:
        raise ConfigurationError(
            f"dtype must be one of {', '.join(DTYPES)}, not {safe_repr(dtype)}"
        )
    return cast("DTypeName", name)


def quantized_width(n_dims: int, dtype: DTypeName) -> int:
    """Return the number of values in a row of `n_dims` dimensions."""
    per_value = DTYPES[dtype][1]
    return -(-n_dims // per_value)


def calibrate(vectors: ArrayLike) -> NDArray[np.float32]:
    """Return the ranges with which :func:`quantize` makes int8 and uint8 of vectors like these.

    Parameters
    ----------
    vectors : array_like of float32, shape (N, D)
        Vectors of a sample: some thousand texts of the kind that will be embedded, at the
        `truncate_dim` that will be used.

    Returns
    -------
    numpy.ndarray of float32, shape (2, D)
        The least and the largest value of each dimension. What lies beyond, in other vectors,
        becomes the end of the type.

    Raises
    ------
    DimensionMismatchError
        If `vectors` has the wrong shape, or no row.
    ConfigurationError
        If a value is not finite, as in the rows of ``on_error="nan"``.

    Examples
    --------
    >>> import embellama
    >>> model = embellama.EmbeddingModel("all-MiniLM-L6-v2")
    >>> sample = ["a cat", "a dog", "interest rates rose", "rinse the rice"]
    >>> ranges = embellama.calibrate(model.embed_batch(sample))
    >>> model.embed_batch(["a kitten"], dtype="uint8", ranges=ranges).shape
    (1, 384)
    """
    values = _rows(vectors)
    if not len(values):
        raise DimensionMismatchError("vectors has no row: ranges need a sample of some")
    ranges = np.stack([values.min(axis=0), values.max(axis=0)])
    if not np.isfinite(ranges).all():
        bad = int(np.flatnonzero(~np.isfinite(values).all(axis=1))[0])
        raise ConfigurationError(f"row {bad} of vectors is not finite: leave it out")
    return ranges


def _rows(vectors: ArrayLike) -> NDArray[np.float32]:
    values = np.ascontiguousarray(vectors, dtype=np.float32)
    if values.ndim != 2:
        raise DimensionMismatchError(f"vectors must have shape (N, D), not {values.shape}")
    return values


@overload
def quantize(vectors: ArrayLike, dtype: Float16, *, ranges: None = ...) -> NDArray[np.float16]: ...
@overload
def quantize(vectors: ArrayLike, dtype: Float32, *, ranges: None = ...) -> NDArray[np.float32]: ...
@overload
def quantize(
    vectors: ArrayLike, dtype: Int8, *, ranges: ArrayLike | None = ...
) -> NDArray[np.int8]: ...
@overload
def quantize(
    vectors: ArrayLike, dtype: UInt8, *, ranges: ArrayLike | None = ...
) -> NDArray[np.uint8]: ...
@overload
def quantize(
    vectors: ArrayLike, dtype: DType, *, ranges: ArrayLike | None = ...
) -> NDArray[Any]: ...
def quantize(vectors: ArrayLike, dtype: DType, *, ranges: ArrayLike | None = None) -> NDArray[Any]:
    """Turn float vectors into a smaller type.

    Parameters
    ----------
    vectors : array_like of float32, shape (N, D)
    dtype : {"float32", "float16", "int8", "uint8", "binary", "ubinary"} or numpy type
        ``"binary"`` and ``"ubinary"`` keep the sign of each dimension, eight to a byte.
    ranges : array_like of float32, shape (2, D), optional
        For ``"int8"`` and ``"uint8"``: the least and the largest value of each dimension, which
        become the ends of the type, as :func:`calibrate` returns them. Default for ``"int8"``:
        ``round(127 * x)``, for vectors of unit length. ``"uint8"`` needs ranges.

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
    values = _rows(vectors)
    n_rows, n_dims = values.shape
    name = dtype_name(dtype)
    result = np.empty((n_rows, quantized_width(n_dims, name)), dtype=DTYPES[name][0])
    quantize_rows(values, name, result, quantization_levels(name, n_dims, ranges))
    return result


def quantization_levels(
    dtype: DTypeName, n_dims: int, ranges: ArrayLike | None
) -> NDArray[np.float32] | None:
    """Return the first of the 256 levels of each dimension, and the distance between two levels.

    Returns
    -------
    numpy.ndarray of float32, shape (2, n_dims), or None
        None if `dtype` needs no levels.

    Raises
    ------
    ConfigurationError
        If `ranges` is missing or not wanted.
    DimensionMismatchError
        If `ranges` has the wrong shape.
    """
    if ranges is None:
        if dtype == "uint8":
            raise ConfigurationError(
                "uint8 needs ranges: embellama.calibrate() makes them of a sample's vectors"
            )
        return None
    if dtype not in ("int8", "uint8"):
        raise ConfigurationError(f"ranges belong to int8 and uint8, not to {dtype}")
    try:
        # A value that is too large for float32 becomes an infinity, which is refused below.
        with np.errstate(over="ignore"):
            bounds = np.asarray(ranges, dtype=np.float32)
    except (OverflowError, ValueError) as error:
        raise DimensionMismatchError(f"ranges must have shape (2, {n_dims}): {error}") from None
    if bounds.shape != (2, n_dims):
        raise DimensionMismatchError(f"ranges must have shape (2, {n_dims}), not {bounds.shape}")
    if not np.isfinite(bounds).all():
        raise ConfigurationError("ranges must be finite")
    # Halves are subtracted, so that no difference overflows. float32, so that the result is that
    # of sentence-transformers, bit for bit.
    steps = (bounds[1] / 2 - bounds[0] / 2) / np.float32(127.5)
    steps[steps == 0] = 1
    return np.stack([bounds[0], steps])
