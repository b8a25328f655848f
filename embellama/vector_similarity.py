# SPDX-License-Identifier: Apache-2.0
"""The similarity of vectors."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from embellama.errors import DimensionMismatchError
from embellama.vectors.comparable import as_similarity, check_kind, comparable_rows, number_rows

__all__ = ["Kind", "pairwise_similarity", "similarity"]

Kind: TypeAlias = Literal["cosine", "dot", "hamming"]


def _rows(a: ArrayLike, b: ArrayLike, kind: Kind) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return rows whose dot products give the similarity."""
    check_kind(kind)
    rows = [number_rows(name, value, kind) for name, value in (("a", a), ("b", b))]
    if rows[0].shape[1] != rows[1].shape[1]:
        raise DimensionMismatchError(
            f"a has {rows[0].shape[1]} dimensions and b has {rows[1].shape[1]}: "
            "compare vectors of one model, one truncate_dim and one dtype"
        )
    return comparable_rows(rows[0], kind), comparable_rows(rows[1], kind)


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
    return as_similarity(left @ right.T, left.shape[1], kind)


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
    return as_similarity(np.einsum("ij,ij->i", left, right), left.shape[1], kind)
