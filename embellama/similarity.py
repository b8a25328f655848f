# SPDX-License-Identifier: Apache-2.0
"""How alike vectors are."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from embellama.errors import ConfigurationError, DimensionMismatchError, spelled

__all__ = ["pairwise_similarity", "similarity"]

_KINDS = ("cosine", "dot")


def _rows(a: ArrayLike, b: ArrayLike, kind: str) -> tuple[NDArray[Any], NDArray[Any]]:
    if kind not in _KINDS:
        raise ConfigurationError(f"kind must be one of {', '.join(_KINDS)}, not {spelled(kind)}")
    rows = []
    for name, value in (("a", a), ("b", b)):
        array = np.atleast_2d(np.asarray(value))
        if array.dtype.kind not in "fiu" or array.ndim != 2:
            raise DimensionMismatchError(
                f"{name} must be numbers of shape (D,) or (N, D), not {array.dtype} {array.shape}"
            )
        # Integers would wrap around and float16 would overflow in a dot product.
        array = array if array.dtype == np.float64 else array.astype(np.float32)
        if kind == "cosine":
            array = _unit_rows(array)
        rows.append(array)
    if rows[0].shape[1] != rows[1].shape[1]:
        raise DimensionMismatchError(
            f"a has {rows[0].shape[1]} dimensions and b has {rows[1].shape[1]}: "
            "compare vectors of one model and one truncate_dim"
        )
    return rows[0], rows[1]


def _unit_rows(array: NDArray[Any]) -> NDArray[Any]:
    # A square overflows, which is seen below, or underflows.
    with np.errstate(over="ignore"):
        norms = np.linalg.norm(array, axis=1, keepdims=True)
    kind = np.finfo(array.dtype)
    # Below, the squares that matter lose digits as subnormal numbers.
    odd = ((norms < np.sqrt(kind.tiny / kind.eps)) | np.isinf(norms))[:, 0]
    if odd.any():
        peaks = np.abs(array[odd]).max(axis=1, keepdims=True, initial=0)
        array = array.copy()
        array[odd] /= np.where((peaks > 0) & np.isfinite(peaks), peaks, 1)
        norms[odd] = np.linalg.norm(array[odd], axis=1, keepdims=True)
    units: NDArray[Any] = np.divide(array, norms, out=np.zeros_like(array), where=norms > 0)
    return units


def similarity(a: ArrayLike, b: ArrayLike, *, kind: str = "cosine") -> NDArray[Any]:
    """Compare every vector of `a` with every vector of `b`.

    Parameters
    ----------
    a : array_like, shape (N, D) or (D,)
    b : array_like, shape (M, D) or (D,)
    kind : {"cosine", "dot"}, optional
        Default: ``"cosine"``; a zero vector has the cosine 0 with everything.

    Returns
    -------
    numpy.ndarray of float32 or float64, shape (N, M)

    Raises
    ------
    ConfigurationError
        If `kind` is unknown.
    DimensionMismatchError
        If the vectors differ in length or are no numbers.

    Examples
    --------
    >>> import embellama
    >>> embellama.similarity([[1.0, 0.0]], [[2.0, 0.0], [0.0, 3.0]])
    array([[1., 0.]])
    """
    left, right = _rows(a, b, kind)
    result: NDArray[Any] = left @ right.T
    return result


def pairwise_similarity(a: ArrayLike, b: ArrayLike, *, kind: str = "cosine") -> NDArray[Any]:
    """Compare the vectors of `a` and `b` row by row.

    Parameters
    ----------
    a, b : array_like, shape (N, D)
    kind : {"cosine", "dot"}, optional
        Default: ``"cosine"``; a zero vector has the cosine 0 with everything.

    Returns
    -------
    numpy.ndarray of float32 or float64, shape (N,)

    Raises
    ------
    ConfigurationError
        If `kind` is unknown.
    DimensionMismatchError
        If the shapes differ or the values are no numbers.

    Examples
    --------
    >>> import embellama
    >>> embellama.pairwise_similarity([[1.0, 0.0]], [[0.0, 1.0]])
    array([0.])
    """
    left, right = _rows(a, b, kind)
    if left.shape != right.shape:
        raise DimensionMismatchError(f"a has {len(left)} rows and b has {len(right)}")
    result: NDArray[Any] = np.einsum("ij,ij->i", left, right)
    return result
