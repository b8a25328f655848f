# SPDX-License-Identifier: Apache-2.0
"""Groups of vectors of like direction: spherical k-means."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from embellama.errors import ConfigurationError
from embellama.vectors.chunks import ArrayRows, Rows, chunks_of, rows_at
from embellama.vectors.comparable import check_kind, comparable_rows, number_rows, rounding_margin

__all__ = ["ClusterResult", "cluster", "spherical_k_means"]

# The first centroids are chosen among a sample of the rows: at least this many, and for each
# cluster this many.
_SAMPLE_ROWS = 10_000
_SAMPLE_ROWS_PER_CLUSTER = 64
# How often they are chosen: the more often the less that takes. How often they are moved within
# the sample each time.
_FEWEST_STARTS, _MOST_STARTS = 4, 100
_COMPARED_IN_STARTS = 1_000_000
_SAMPLE_ROUNDS = 20
# Rows that are tried for each first centroid.
_TRIALS = 10
# The least growth of the mean cosine for another round.
_LEAST_GROWTH = 1e-6


class ClusterResult(NamedTuple):
    """Which cluster each row belongs to.

    Attributes
    ----------
    labels : numpy.ndarray of int64, shape (N,)
        The cluster of each row, that of the nearest centroid; -1 for a row of NaN.
    scores : numpy.ndarray of float32, shape (N,)
        The cosine of each row and its centroid; NaN for a row of NaN.
    centroids : numpy.ndarray of float32, shape (n_clusters, D)
        Of length 1.

    Examples
    --------
    >>> import embellama
    >>> embellama.cluster([[1.0, 0.0], [0.0, 1.0], [1.0, 0.1]], 2).labels
    array([0, 1, 0])
    """

    labels: NDArray[np.int64]
    scores: NDArray[np.float32]
    centroids: NDArray[np.floating[Any]]


def cluster(
    vectors: ArrayLike,
    n_clusters: int,
    *,
    kind: str = "cosine",
    seed: int = 0,
    max_rounds: int = 100,
) -> ClusterResult:
    """Group vectors by direction.

    This is spherical k-means: each row belongs to the centroid with the largest cosine, and a
    centroid has the direction of the sum of its rows, scaled to length 1. It begins with the best
    of several starts with k-means++ on a sample. `vectors` is read in chunks, so a memory map may
    be larger than memory. Clusters are numbered by their first row.

    Parameters
    ----------
    vectors : array_like, shape (N, D)
        Rows of NaN, which ``on_error="nan"`` writes, belong to no cluster.
    n_clusters : int
    kind : {"cosine", "hamming"}, optional
        ``"hamming"`` for rows of packed bits. Default: ``"cosine"``.
    seed : int, optional
        Of the choice of the first centroids (default 0). The same seed gives the same clusters.
    max_rounds : int, optional
        How often all rows are compared with the centroids at most (default 100).

    Returns
    -------
    ClusterResult

    Raises
    ------
    ConfigurationError
        If `n_clusters` is below 1 or more than there are rows, or another setting is out of range.
    DimensionMismatchError
        If `vectors` are not numbers of shape (N, D), or not packed bits for ``"hamming"``.
    InvalidInputError
        If a row holds a NaN or an infinity beside numbers.

    Examples
    --------
    >>> import embellama
    >>> model = embellama.EmbeddingModel("all-MiniLM-L6-v2")
    >>> texts = ["a cat", "a quarterly report", "a dog", "an annual report"]
    >>> embellama.cluster(model.embed_batch(texts), 2).labels
    array([0, 1, 0, 1])
    """
    check_kind(kind)
    source = ArrayRows("vectors", number_rows("vectors", vectors, kind))
    return spherical_k_means(source, n_clusters, kind=kind, seed=seed, max_rounds=max_rounds)


def spherical_k_means(
    source: Rows,
    n_clusters: int,
    *,
    kind: str,
    seed: int,
    max_rounds: int = 100,
    progress: Callable[[int], None] = lambda done: None,
) -> ClusterResult:
    """Group the rows of `source`; the parameters are those of :func:`cluster`.

    `progress` is called with the number of rounds that are done.
    """
    if kind == "dot":
        raise ConfigurationError("clusters are of directions: use kind='cosine'")
    for name, value, least in (
        ("n_clusters", n_clusters, 1),
        ("max_rounds", max_rounds, 1),
        ("seed", seed, 0),
    ):
        if not isinstance(value, (int, np.integer)) or value < least:
            raise ConfigurationError(
                f"{name} must be an integer of at least {least}, not {value!r}"
            )
    centroids = _first_centroids(source, n_clusters, kind, seed)
    return _numbered_by_first_row(_improved(source, centroids, kind, max_rounds, progress))


def _improved(
    source: Rows,
    centroids: NDArray[np.float64],
    kind: str,
    max_rounds: int,
    progress: Callable[[int], None] = lambda done: None,
) -> ClusterResult:
    """Move the centroids until no row changes its cluster, or little is gained."""
    before, mean_before = None, -np.inf
    for done in range(1, max_rounds + 1):
        labels, scores, sums = _assigned(source, centroids, kind)
        progress(done)
        mean = _mean(scores)
        is_same = before is not None and np.array_equal(before, labels)
        if is_same or mean - mean_before < _LEAST_GROWTH or done == max_rounds:
            break
        before, mean_before = labels, mean
        centroids = _moved(source, centroids, sums, labels, scores, kind)
    return ClusterResult(labels, scores, centroids)


def _mean(scores: NDArray[np.float32]) -> float:
    return float(np.nanmean(scores, dtype=np.float64))


def _first_centroids(source: Rows, n_clusters: int, kind: str, seed: int) -> NDArray[np.float64]:
    """Return the best centroids for a sample of the rows, of several starts."""
    has_vector = np.concatenate(
        [np.zeros(0, np.int64), *(chunk.indices for chunk in chunks_of(source, kind))]
    )
    if len(has_vector) < n_clusters:
        raise ConfigurationError(
            f"{source.name} has {len(has_vector)} rows with a vector, too few for {n_clusters} "
            "clusters: ask for fewer"
        )
    random = np.random.Generator(np.random.PCG64(int(seed)))
    n_sample = min(len(has_vector), max(_SAMPLE_ROWS, _SAMPLE_ROWS_PER_CLUSTER * n_clusters))
    chosen = np.sort(random.choice(len(has_vector), n_sample, replace=False))
    sample = rows_at(source, has_vector[chosen])
    units = _unit(comparable_rows(sample, kind), kind)
    n_starts = _COMPARED_IN_STARTS // (n_sample * n_clusters)
    n_starts = min(max(n_starts, _FEWEST_STARTS), _MOST_STARTS)
    found = [
        _improved(ArrayRows(source.name, sample), start, kind, _SAMPLE_ROUNDS)
        for start in (_distant_rows(units, n_clusters, random) for _ in range(n_starts))
    ]
    best = max(found, key=lambda result: _mean(result.scores))
    return best.centroids.astype(np.float64)


def _distant_rows(
    units: NDArray[Any], n_clusters: int, random: np.random.Generator
) -> NDArray[np.float64]:
    """Choose rows by k-means++ (Arthur, Vassilvitskii 2007), the best of a few each time."""
    chosen = [int(random.integers(len(units)))]
    # Half of the squared distance of unit vectors is 1 - cosine.
    distances = np.clip(1 - units @ units[chosen[0]], 0, None).astype(np.float64)
    while len(chosen) < n_clusters:
        sums = np.cumsum(distances)
        trials = np.searchsorted(sums, random.random(_TRIALS) * sums[-1], side="right")
        trials = trials.clip(max=len(units) - 1)
        after = np.minimum(distances, np.clip(1 - units[trials] @ units.T, 0, None))
        best = int(after.sum(axis=1).argmin())
        chosen.append(int(trials[best]))
        distances = after[best]
    rows: NDArray[np.float64] = units[chosen].astype(np.float64)
    return rows


def _unit(comparable: NDArray[Any], kind: str) -> NDArray[Any]:
    """Scale comparable rows to length 1; those of bits have the length of their number."""
    scaled: NDArray[Any] = comparable
    if kind == "hamming":
        scaled = comparable / np.sqrt(np.float32(comparable.shape[1]))
    return scaled


def _assigned(
    source: Rows, centroids: NDArray[np.float64], kind: str
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float64]]:
    """Find the nearest centroid of every row, and sum up the rows of each."""
    labels = np.full(source.n_rows, -1, dtype=np.int64)
    scores = np.full(source.n_rows, np.nan, dtype=np.float32)
    sums = np.zeros_like(centroids)
    for chunk in chunks_of(source, kind):
        units = _unit(chunk.comparable, kind)
        nearest, cosines = _nearest(units, centroids)
        labels[chunk.indices] = nearest
        scores[chunk.indices] = cosines
        # A sum of the rows of each label: those of a label side by side, and added up.
        order = np.argsort(nearest, kind="stable")
        present, starts = np.unique(nearest[order], return_index=True)
        sums[present] += np.add.reduceat(units[order], starts, axis=0, dtype=np.float64)
    return labels, scores, sums


def _nearest(
    units: NDArray[Any], centroids: NDArray[np.float64]
) -> tuple[NDArray[np.intp], NDArray[Any]]:
    rows = np.arange(len(units))
    products = units @ centroids.T.astype(units.dtype)
    nearest = products.argmax(axis=1)
    cosines = products[rows, nearest]
    # float32 may confuse centroids that are almost as near as the nearest.
    products[rows, nearest] = -np.inf
    margin = 2 * rounding_margin(units, units, "cosine")
    close = np.flatnonzero(products.max(axis=1) >= cosines - margin)
    if len(close):
        exact = units[close].astype(np.float64) @ centroids.T
        nearest[close] = exact.argmax(axis=1)
        cosines[close] = exact.max(axis=1)
    return nearest, cosines


def _moved(
    source: Rows,
    centroids: NDArray[np.float64],
    sums: NDArray[np.float64],
    labels: NDArray[np.int64],
    scores: NDArray[np.float32],
    kind: str,
) -> NDArray[np.float64]:
    """Return the next centroids: the directions of the sums."""
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    # Rows of opposite directions have no mean direction.
    moved: NDArray[np.float64] = np.divide(
        sums, lengths, out=centroids.copy(), where=lengths > 1e-12
    )
    empty = np.flatnonzero(np.bincount(labels[labels >= 0], minlength=len(centroids)) == 0)
    if len(empty):
        # The rows that are farthest from their centroids begin new clusters; NaN sorts last.
        farthest = np.sort(np.argsort(scores, kind="stable")[: len(empty)])
        rows = _unit(comparable_rows(rows_at(source, farthest), kind), kind)
        moved[empty[: len(rows)]] = rows
    return moved


def _numbered_by_first_row(result: ClusterResult) -> ClusterResult:
    labels, scores, centroids = result
    present, first = np.unique(labels[labels >= 0], return_index=True)
    in_order = present[np.argsort(first)]
    order = np.concatenate([in_order, np.setdiff1d(np.arange(len(centroids)), in_order)])
    new_label = np.empty(len(centroids) + 1, dtype=np.int64)
    new_label[order] = np.arange(len(centroids))
    new_label[-1] = -1
    return ClusterResult(new_label[labels], scores, centroids[order].astype(np.float32))
