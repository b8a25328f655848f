# SPDX-License-Identifier: Apache-2.0
"""The similarity of vectors."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from embellama.errors import ConfigurationError, DimensionMismatchError, safe_repr

__all__ = ["Kind", "pairwise_similarity", "similarity"]

Kind: TypeAlias = Literal["cosine", "dot", "hamming"]
_KINDS = ("cosine", "dot", "hamming")


def _rows(a: ArrayLike, b: ArrayLike, kind: Kind) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return rows whose dot products give the similarity."""
    if kind not in _KINDS:
        raise ConfigurationError(f"kind must be one of {', '.join(_KINDS)}, not {safe_repr(kind)}")
    rows = []
    for name, value in (("a", a), ("b", b)):
        array = np.atleast_2d(np.asarray(value))
        if array.dtype.kind not in "fiu" or array.ndim != 2:
            raise DimensionMismatchError(
                f"{name} must be numbers of shape (D,) or (N, D), not {array.dtype} {array.shape}"
            )
        if kind == "hamming" and array.dtype not in (np.int8, np.uint8):
            raise DimensionMismatchError(
                f"{name} must be packed bits for Hamming similarity, int8 or uint8, not "
                f"{array.dtype}: make them with dtype='ubinary'"
            )
        rows.append(array)
    if rows[0].shape[1] != rows[1].shape[1]:
        raise DimensionMismatchError(
            f"a has {rows[0].shape[1]} dimensions and b has {rows[1].shape[1]}: "
            "compare vectors of one model, one truncate_dim and one dtype"
        )
    return _transformed(rows[0], kind), _transformed(rows[1], kind)


def _transformed(array: NDArray[Any], kind: Kind) -> NDArray[Any]:
    if kind == "hamming":
        # With bits as +1 and -1, a dot product is the number of equal bits minus that of the
        # others.
        bits = np.unpackbits(_unsigned(array), axis=1)
        signs: NDArray[np.float32] = bits * np.float32(2) - np.float32(1)
        return signs
    # Integers would wrap around and float16 would overflow in a dot product.
    array = array if array.dtype == np.float64 else array.astype(np.float32)
    return _unit_rows(array) if kind == "cosine" else array


def _unsigned(packed: NDArray[Any]) -> NDArray[np.uint8]:
    """Undo the subtraction of 128 that made int8 rows (``"binary"``) of bytes."""
    return packed if packed.dtype == np.uint8 else packed.view(np.uint8) ^ np.uint8(128)


def _similarities(products: NDArray[Any], left: NDArray[Any], kind: Kind) -> NDArray[Any]:
    if kind != "hamming":
        return products
    n_bits = np.float32(left.shape[1])
    shares: NDArray[Any] = (products + n_bits) / (2 * n_bits)
    return shares


def _unit_rows(array: NDArray[Any]) -> NDArray[Any]:
    # A square may overflow or underflow; such rows are found and computed again below.
    with np.errstate(over="ignore"):
        norms = np.linalg.norm(array, axis=1, keepdims=True)
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


def similarity(a: ArrayLike, b: ArrayLike, *, kind: Kind = "cosine") -> NDArray[Any]:
    """Compare every vector of `a` with every vector of `b`.

    Parameters
    ----------
    a : array_like, shape (N, D) or (D,)
    b : array_like, shape (M, D) or (D,)
    kind : {"cosine", "dot", "hamming"}, optional
        Default: ``"cosine"``; a zero vector has the cosine 0 with everything. ``"hamming"`` is the
        share of equal bits in rows of packed bits, the dtypes binary and ubinary.

    Returns
    -------
    numpy.ndarray of float32 or float64, shape (N, M)

    Raises
    ------
    ConfigurationError
        If `kind` is unknown.
    DimensionMismatchError
        If the vectors differ in length, or are not numbers, or not packed bits for ``"hamming"``.

    Examples
    --------
    >>> import embellama
    >>> embellama.similarity([[1.0, 0.0]], [[2.0, 0.0], [0.0, 3.0]])
    array([[1., 0.]])
    >>> bits = embellama.quantize([[1.0, 1.0, -1.0, -1.0] * 2, [1.0] * 8], "ubinary")
    >>> embellama.similarity(bits[0], bits, kind="hamming")
    array([[1. , 0.5]], dtype=float32)
    """
    left, right = _rows(a, b, kind)
    return _similarities(left @ right.T, left, kind)


def pairwise_similarity(a: ArrayLike, b: ArrayLike, *, kind: Kind = "cosine") -> NDArray[Any]:
    """Compare the vectors of `a` and `b` row by row.

    Parameters
    ----------
    a, b : array_like, shape (N, D)
    kind : {"cosine", "dot", "hamming"}, optional
        Default: ``"cosine"``; a zero vector has the cosine 0 with everything. ``"hamming"`` is the
        share of equal bits in rows of packed bits, the dtypes binary and ubinary.

    Returns
    -------
    numpy.ndarray of float32 or float64, shape (N,)

    Raises
    ------
    ConfigurationError
        If `kind` is unknown.
    DimensionMismatchError
        If the shapes differ, or the values are not numbers, or not packed bits for ``"hamming"``.

    Examples
    --------
    >>> import embellama
    >>> embellama.pairwise_similarity([[1.0, 0.0]], [[0.0, 1.0]])
    array([0.])
    """
    left, right = _rows(a, b, kind)
    if left.shape != right.shape:
        raise DimensionMismatchError(f"a has {len(left)} rows and b has {len(right)}")
    return _similarities(np.einsum("ij,ij->i", left, right), left, kind)
