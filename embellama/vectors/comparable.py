# SPDX-License-Identifier: Apache-2.0
"""Rows of any type, turned into rows whose dot products are their similarity."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from embellama.errors import ConfigurationError, DimensionMismatchError, safe_repr

__all__ = [
    "UNIT_TOLERANCE",
    "as_similarity",
    "check_kind",
    "check_row_type",
    "comparable_rows",
    "exact_similarity",
    "number_rows",
    "rounding_margin",
]

_KINDS = ("cosine", "dot", "hamming")
# Chunks of float32 rows whose squared lengths are this near to 1, as near as rounding leaves them,
# are not divided by their lengths.
UNIT_TOLERANCE = 2.0**-21
# Pairs that are compared in float64 at a time.
_PAIRS = 4096


def check_kind(kind: str) -> None:
    """Raise ConfigurationError unless this kind of similarity is known."""
    if kind not in _KINDS:
        raise ConfigurationError(f"kind must be one of {', '.join(_KINDS)}, not {safe_repr(kind)}")


def number_rows(name: str, value: ArrayLike, kind: str) -> NDArray[Any]:
    """Return vectors as an array of two dimensions; one vector becomes one row.

    Raises
    ------
    DimensionMismatchError
        If they are not numbers of such a shape, or not packed bits for ``"hamming"``.
    """
    array = np.atleast_2d(np.asarray(value))
    if array.ndim != 2:
        raise DimensionMismatchError(
            f"{name} must be numbers of shape (D,) or (N, D), not {array.dtype} {array.shape}"
        )
    check_row_type(name, array.dtype, array.shape, kind)
    return array


def check_row_type(name: str, dtype: np.dtype[Any], shape: tuple[int, ...], kind: str) -> None:
    """Raise DimensionMismatchError unless rows of this type can be compared."""
    if dtype.kind not in "fiu":
        raise DimensionMismatchError(
            f"{name} must be numbers of shape (D,) or (N, D), not {dtype} {shape}"
        )
    if kind == "hamming" and dtype not in (np.int8, np.uint8):
        raise DimensionMismatchError(
            f"{name} must be packed bits for Hamming similarity, int8 or uint8, not "
            f"{dtype}: make them with dtype='ubinary'"
        )


def comparable_rows(array: NDArray[Any], kind: str) -> NDArray[Any]:
    """Return rows of float32 or float64 whose dot products :func:`as_similarity` takes."""
    if kind == "hamming":
        # With bits as +1 and -1, a dot product is the number of equal bits minus that of the
        # others.
        bits = np.unpackbits(_unsigned(array), axis=1)
        signs: NDArray[np.float32] = bits * np.float32(2) - np.float32(1)
        return signs
    # Integers would wrap around and float16 would overflow in a dot product.
    array = array if array.dtype == np.float64 else array.astype(np.float32, copy=False)
    return _unit_rows(array) if kind == "cosine" else array


def _unsigned(packed: NDArray[Any]) -> NDArray[np.uint8]:
    """Undo the subtraction of 128 that made int8 rows (``"binary"``) of bytes."""
    return packed if packed.dtype == np.uint8 else packed.view(np.uint8) ^ np.uint8(128)


def as_similarity(products: NDArray[Any], n_dims: int, kind: str) -> NDArray[Any]:
    """Turn dot products of comparable rows of `n_dims` values into similarities."""
    if kind != "hamming":
        return products
    n_bits = np.float32(n_dims)
    shares: NDArray[Any] = (products + n_bits) / (2 * n_bits)
    return shares


def _unit_rows(array: NDArray[Any]) -> NDArray[Any]:
    # A square may overflow or underflow; such rows are found and computed again below.
    with np.errstate(over="ignore", invalid="ignore"):
        norms = np.sqrt(np.einsum("ij,ij->i", array, array))[:, None]
    kind = np.finfo(array.dtype)
    # Below this norm, the largest squares are subnormal numbers and lose digits.
    odd = ((norms < np.sqrt(kind.tiny / kind.eps)) | np.isinf(norms))[:, 0]
    if odd.any():
        peaks = np.abs(array[odd]).max(axis=1, keepdims=True, initial=0)
        array = array.copy()
        array[odd] /= np.where((peaks > 0) & np.isfinite(peaks), peaks, 1)
        norms[odd] = np.linalg.norm(array[odd], axis=1, keepdims=True)
    units: NDArray[Any] = np.divide(array, norms, out=np.zeros_like(array), where=norms > 0)
    return units


def rounding_margin(rows: NDArray[Any], others: NDArray[Any], kind: str) -> float:
    """Return how far the similarities of comparable rows may be from the exact ones."""
    if kind == "hamming":
        return 1e-6  # of the division; the counts are exact
    # Higham, Accuracy and Stability of Numerical Algorithms, 3.1: n * u for a dot product of n
    # terms, in any order. As much again for the division by the norms.
    relative = (2 * rows.shape[1] + 16) * float(np.finfo(rows.dtype).eps)
    if kind == "cosine":
        return float(relative + 2 * UNIT_TOLERANCE)
    with np.errstate(over="ignore"):
        longest = [
            float(np.sqrt(np.einsum("ij,ij->i", a, a)).max(initial=0)) for a in (rows, others)
        ]
    return float(relative * longest[0] * longest[1])


def exact_similarity(
    a: NDArray[Any], b: NDArray[Any], kind: str, *, pairs: tuple[NDArray[Any], NDArray[Any]]
) -> NDArray[np.float64]:
    """Return the similarity of some pairs of rows in float64.

    It does not depend on where a row lies in its array, so equal rows have equal similarities.

    Parameters
    ----------
    a, b : numpy.ndarray, shape (N, D) and (M, D)
        As they are stored.
    kind : str
    pairs : tuple of two numpy.ndarray of int64, shape (P,)
        Which rows of `a`, and which of `b`.
    """
    parts = [np.zeros(0, dtype=np.float64)]
    for start in range(0, len(pairs[0]), _PAIRS):
        left, right = (
            _exact_rows(rows[chosen[start : start + _PAIRS]], kind)
            for rows, chosen in zip((a, b), pairs, strict=True)
        )
        products = (left * right).sum(axis=1, dtype=np.float64)
        parts.append(as_similarity(products, left.shape[1], kind))
    result: NDArray[np.float64] = np.concatenate(parts)
    # Rows of one direction and several lengths have cosines that differ in the last digits.
    return result.round(12) if kind == "cosine" else result


def _exact_rows(rows: NDArray[Any], kind: str) -> NDArray[Any]:
    return comparable_rows(rows if kind == "hamming" else rows.astype(np.float64), kind)
