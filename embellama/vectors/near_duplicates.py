# SPDX-License-Identifier: Apache-2.0
"""Rows that nearly repeat an earlier one."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from embellama.errors import ConfigurationError
from embellama.vectors.chunks import ArrayRows, Chunk, Rows, chunks_of
from embellama.vectors.comparable import (
    as_similarity,
    check_kind,
    exact_similarity,
    number_rows,
    rounding_margin,
)

__all__ = ["NearDuplicates", "first_alike", "near_duplicates"]


class NearDuplicates(NamedTuple):
    """Which row each row nearly repeats.

    Attributes
    ----------
    first : numpy.ndarray of int64, shape (N,)
        The index of the first kept row that is similar enough; for a kept row its own index.
    scores : numpy.ndarray of float64, shape (N,)
        The similarity to that row; 1 for a kept row.

    Examples
    --------
    >>> import embellama
    >>> embellama.near_duplicates([[1.0, 0.0], [0.0, 1.0], [1.0, 0.1]]).first
    array([0, 1, 0])
    """

    first: NDArray[np.int64]
    scores: NDArray[np.float64]


def near_duplicates(
    vectors: ArrayLike, *, threshold: float = 0.9, kind: str = "cosine"
) -> NearDuplicates:
    """Find the rows that nearly repeat an earlier row.

    A row is kept if no kept row before it is similar enough. So two kept rows are never similar
    enough, and every other row is so to the kept row that is named. All pairs of a row and the kept
    ones before it are compared, and those near the threshold again in float64; `vectors` is read
    in chunks, so a memory map may be larger than memory.

    Parameters
    ----------
    vectors : array_like, shape (N, D)
        Rows of NaN, which ``on_error="nan"`` writes, are kept.
    threshold : float, optional
        The least similarity of a near-duplicate (default 0.9), above 0 and up to 1.
    kind : {"cosine", "hamming"}, optional
        As :func:`embellama.similarity`. Default: ``"cosine"``.

    Returns
    -------
    NearDuplicates

    Raises
    ------
    ConfigurationError
        If `kind` is unknown or has no fixed scale, or `threshold` is out of its range.
    DimensionMismatchError
        If `vectors` are not numbers of shape (N, D), or not packed bits for ``"hamming"``.
    InvalidInputError
        If a row holds a NaN or an infinity beside numbers.

    Examples
    --------
    >>> import embellama
    >>> model = embellama.EmbeddingModel("all-MiniLM-L6-v2")
    >>> texts = ["a cat sat on the mat", "the cat sat on a mat", "a quarterly report"]
    >>> first, scores = embellama.near_duplicates(model.embed_batch(texts), threshold=0.9)
    >>> [text for i, text in enumerate(texts) if first[i] == i]
    ['a cat sat on the mat', 'a quarterly report']
    """
    check_kind(kind)
    source = ArrayRows("vectors", number_rows("vectors", vectors, kind))
    return first_alike(source, threshold=threshold, kind=kind)


def first_alike(
    source: Rows,
    *,
    threshold: float,
    kind: str,
    progress: Callable[[int], None] = lambda done: None,
) -> NearDuplicates:
    """Find the rows of `source` that nearly repeat an earlier row.

    `threshold` and `kind` are as for :func:`near_duplicates`. `progress` is called with the number
    of rows that are done.
    """
    if kind == "dot":
        raise ConfigurationError("dot products have no fixed scale: use kind='cosine'")
    if not 0 < threshold <= 1:
        raise ConfigurationError(f"threshold must be above 0 and up to 1, not {threshold!r}")
    result = NearDuplicates(
        np.arange(source.n_rows, dtype=np.int64), np.ones(source.n_rows, dtype=np.float64)
    )
    for chunk in chunks_of(source, kind):
        undecided = chunk
        for earlier in chunks_of(source, kind, stop=chunk.start):
            is_kept = result.first[earlier.indices] == earlier.indices
            kept = earlier if is_kept.all() else earlier.take(is_kept)
            undecided = _without_repeats_of(kept, undecided, threshold, kind, result)
            if not len(undecided.indices):
                break
        _decide_among_themselves(undecided, threshold, kind, result)
        progress(chunk.start + len(chunk.indices))
    return result


def _without_repeats_of(
    kept: Chunk, chunk: Chunk, threshold: float, kind: str, result: NearDuplicates
) -> Chunk:
    """Record which rows of a chunk repeat a kept one before it, and return the others."""
    rows, places = _near_pairs(chunk, kept, threshold, kind)
    if not len(rows):
        return chunk
    scores = exact_similarity(chunk.rows, kept.rows, kind, pairs=(rows, places))
    alike = np.flatnonzero(scores >= threshold)
    # Pairs are sorted, so the first of a row is that with the first kept row.
    repeated, position = np.unique(rows[alike], return_index=True)
    pairs = alike[position]
    result.first[chunk.indices[repeated]] = kept.indices[places[pairs]]
    result.scores[chunk.indices[repeated]] = scores[pairs]
    return chunk.take(np.delete(np.arange(len(chunk.indices)), repeated))


def _near_pairs(
    chunk: Chunk, others: Chunk, threshold: float, kind: str
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the pairs, sorted, that may be similar enough."""
    products = chunk.comparable @ others.comparable.T
    similarities = as_similarity(products, chunk.comparable.shape[1], kind)
    margin = rounding_margin(chunk.comparable, others.comparable, kind)
    rows, places = np.nonzero(similarities >= threshold - margin)
    return rows, places


def _decide_among_themselves(
    chunk: Chunk, threshold: float, kind: str, result: NearDuplicates
) -> None:
    rows, places = _near_pairs(chunk, chunk, threshold, kind)
    earlier = places < rows
    rows, places = rows[earlier], places[earlier]
    is_kept = np.ones(len(chunk.indices), dtype=np.bool_)
    starts = np.searchsorted(rows, np.arange(len(chunk.indices) + 1))
    for row in np.unique(rows):
        candidates = places[starts[row] : starts[row + 1]]
        candidates = candidates[is_kept[candidates]]
        if not len(candidates):
            continue
        scores = exact_similarity(
            chunk.rows, chunk.rows, kind, pairs=(candidates, np.full_like(candidates, row))
        )
        alike = np.flatnonzero(scores >= threshold)
        if len(alike):
            is_kept[row] = False
            result.first[chunk.indices[row]] = chunk.indices[candidates[alike[0]]]
            result.scores[chunk.indices[row]] = scores[alike[0]]
