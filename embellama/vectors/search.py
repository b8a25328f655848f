# SPDX-License-Identifier: Apache-2.0
"""The rows that are most similar to some queries, found by comparing all of them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from embellama.errors import ConfigurationError, DimensionMismatchError, InvalidInputError
from embellama.vectors.chunks import ArrayRows, Chunk, Rows, chunks_of
from embellama.vectors.comparable import (
    as_similarity,
    check_kind,
    comparable_rows,
    exact_similarity,
    number_rows,
    rounding_margin,
)

__all__ = ["SearchResult", "most_similar", "search"]

# Queries that are compared with a chunk at a time.
_QUERIES = 1024


class SearchResult(NamedTuple):
    """The rows that were found for each query, the most similar first.

    Attributes
    ----------
    indices : numpy.ndarray of int64, shape (Q, n)
        Which rows they are. Among equal similarities the lower index comes first.
    scores : numpy.ndarray of float64, shape (Q, n)
        Their similarities.

    Examples
    --------
    >>> import embellama
    >>> result = embellama.search([[1.0, 0.0]], [[0.0, 1.0], [3.0, 3.0], [2.0, 0.0]], top_n=2)
    >>> result.indices
    array([[2, 1]])
    """

    indices: NDArray[np.int64]
    scores: NDArray[np.float64]


def search(
    queries: ArrayLike, vectors: ArrayLike, *, top_n: int = 10, kind: str = "cosine"
) -> SearchResult:
    """Find the rows of `vectors` that are most similar to each query.

    Every row is compared, so the result is exact: it is that of float64, in which whatever is near
    the border is compared again. `vectors` is read in chunks, so a memory map
    (``np.load(path, mmap_mode="r")``) may be larger than memory.

    Parameters
    ----------
    queries : array_like, shape (Q, D) or (D,)
    vectors : array_like, shape (N, D)
        Rows of NaN, which ``on_error="nan"`` writes, are never found.
    top_n : int, optional
        How many rows to find for each query (default 10); fewer if there are fewer.
    kind : {"cosine", "dot", "hamming"}, optional
        As :func:`embellama.similarity`. Default: ``"cosine"``.

    Returns
    -------
    SearchResult
        Of one row per query, also for a query of shape (D,).

    Raises
    ------
    ConfigurationError
        If `kind` is unknown, or `top_n` below 1.
    DimensionMismatchError
        If the vectors differ in length, or are not numbers, or not packed bits for ``"hamming"``.
    InvalidInputError
        If a query is not finite, or a row holds a NaN or an infinity beside numbers.

    Examples
    --------
    >>> import embellama
    >>> model = embellama.EmbeddingModel("all-MiniLM-L6-v2")
    >>> vectors = model.embed_batch(["a quarterly report", "a cat", "a dog"])
    >>> indices, scores = embellama.search(model.embed_query("a kitten"), vectors, top_n=2)
    >>> indices
    array([[1, 2]])
    """
    check_kind(kind)
    return most_similar(
        number_rows("queries", queries, kind),
        ArrayRows("vectors", number_rows("vectors", vectors, kind)),
        top_n=top_n,
        kind=kind,
    )


def most_similar(
    queries: NDArray[Any],
    source: Rows,
    *,
    top_n: int,
    kind: str,
    without: NDArray[np.int64] | None = None,
) -> SearchResult:
    """Find the rows of `source` that are most similar to each query.

    Parameters
    ----------
    queries : numpy.ndarray, shape (Q, D)
    source : Rows
    top_n, kind
        As :func:`search`.
    without : numpy.ndarray of int64, shape (Q,), optional
        For each query a row that is not to be found, such as the query itself.
    """
    if not isinstance(top_n, (int, np.integer)) or top_n < 1:
        raise ConfigurationError(f"top_n must be an integer of at least 1, not {top_n!r}")
    if queries.shape[1] != source.n_dims:
        raise DimensionMismatchError(
            f"queries have {queries.shape[1]} dimensions and {source.name} has {source.n_dims}: "
            "compare vectors of one model, one truncate_dim and one dtype"
        )
    if queries.dtype.kind == "f" and not np.isfinite(queries).all():
        index = int((~np.isfinite(queries).all(axis=1)).argmax())
        raise InvalidInputError(f"query {index} holds a NaN or an infinity", index=index)
    found = []
    for start in range(0, len(queries), _QUERIES):
        block = slice(start, start + _QUERIES)
        best = [_Best(queries[i : i + 1], top_n, kind) for i in range(*block.indices(len(queries)))]
        comparable = comparable_rows(queries[block], kind)
        for chunk in chunks_of(source, kind):
            _compare(best, comparable, chunk, kind, None if without is None else without[block])
        found += best
    width = min((len(best.indices) for best in found), default=0)
    return SearchResult(
        np.array([best.indices[:width] for best in found], np.int64).reshape(len(found), width),
        np.array([best.scores[:width] for best in found], np.float64).reshape(len(found), width),
    )


class _Best:
    """The best rows so far for one query, sorted."""

    def __init__(self, query: NDArray[Any], top_n: int, kind: str) -> None:
        self._query = query
        self._top_n = top_n
        self._kind = kind
        self.indices = np.zeros(0, dtype=np.int64)
        self.scores = np.zeros(0, dtype=np.float64)

    def update(self, chunk: Chunk, approximate: NDArray[Any], margin: float) -> None:
        """Take what is better from a chunk, whose similarities are known up to a margin."""
        least = self.scores[-1] - margin if len(self.scores) == self._top_n else -np.inf
        near = np.flatnonzero((approximate >= least) & (approximate > -np.inf))
        if len(near) > self._top_n:
            values = approximate[near]
            nth_best = np.partition(values, len(values) - self._top_n)[len(values) - self._top_n]
            near = near[values >= nth_best - 2 * margin]
        if not len(near):
            return
        scores = exact_similarity(
            chunk.rows, self._query, self._kind, pairs=(near, np.zeros_like(near))
        )
        scores = np.concatenate([self.scores, scores])
        indices = np.concatenate([self.indices, chunk.indices[near]])
        order = np.lexsort((indices, -scores))[: self._top_n]
        self.indices, self.scores = indices[order], scores[order]


def _compare(
    best: list[_Best],
    queries: NDArray[Any],
    chunk: Chunk,
    kind: str,
    without: NDArray[np.int64] | None,
) -> None:
    rows = chunk.comparable
    if kind == "dot":
        rows, queries = rows.astype(np.float64), queries.astype(np.float64)
    margin = rounding_margin(rows, queries, kind)
    products = queries @ rows.T
    similarities = as_similarity(products, rows.shape[1], kind)
    if without is not None:
        places = np.searchsorted(chunk.indices, without)
        inside = places < len(chunk.indices)
        inside[inside] = chunk.indices[places[inside]] == without[inside]
        similarities[inside, places[inside]] = -np.inf
    for row, approximate in zip(best, similarities, strict=True):
        row.update(chunk, approximate, margin)
