# SPDX-License-Identifier: Apache-2.0
"""Search, near-duplicates and clusters, against float64 in numpy and against scikit-learn."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

import embellama

N_DIMS = 72


def groups_of_vectors(n_rows: int, n_groups: int, noise: float = 0.9) -> NDArray[np.float32]:
    """Unit vectors around some directions; each fiftieth repeats an earlier one."""
    random = np.random.default_rng(7)
    centres = random.standard_normal((n_groups, N_DIMS))
    rows = centres[random.integers(n_groups, size=n_rows)]
    rows = rows + noise * random.standard_normal(rows.shape)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    rows[49::50] = rows[random.integers(49, size=len(rows[49::50]))]
    return rows.astype(np.float32)


def cosines(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
    a, b = (
        rows / np.linalg.norm(rows, axis=1, keepdims=True)
        for rows in (a.astype(np.float64), b.astype(np.float64))
    )
    # One direction, computed from rows of several lengths, differs in the last digits.
    return (a @ b.T).round(12)


def equal_bits(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
    a, b = (bits.view(np.uint8) for bits in (a, b))
    differing = np.bitwise_count(a[:, None] ^ b[None]).sum(axis=2)
    return 1 - differing / (8 * a.shape[1])


DTYPES = ["float64", "float32", "float16", "int8", "ubinary", "binary"]


def stored(rows: NDArray[np.float32], dtype: str) -> NDArray[Any]:
    return rows.astype(np.float64) if dtype == "float64" else embellama.quantize(rows, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_search_is_that_of_float64(dtype: str) -> None:
    rows = stored(groups_of_vectors(5000, 60), dtype)
    queries = rows[40:60]
    is_bits = dtype.endswith("binary")
    kind, reference = ("hamming", equal_bits) if is_bits else ("cosine", cosines)
    expected = reference(queries, rows)
    order = np.argsort(-expected, axis=1, kind="stable")[:, :25]
    indices, scores = embellama.search(queries, rows, top_n=25, kind=kind)
    # Rows that are repeated, and bits of which many agree, come in the order of their indices.
    np.testing.assert_array_equal(indices, order)
    np.testing.assert_allclose(scores, np.take_along_axis(expected, order, axis=1), atol=2e-12)
    assert (np.diff(scores, axis=1) == 0).any()


def test_search_by_dot_product() -> None:
    random = np.random.default_rng(1)
    rows = random.standard_normal((3000, 5)).astype(np.float32) * 1000
    expected = rows[:3].astype(np.float64) @ rows.astype(np.float64).T
    indices, scores = embellama.search(rows[:3], rows, top_n=4, kind="dot")
    np.testing.assert_array_equal(indices, np.argsort(-expected, axis=1)[:, :4])
    np.testing.assert_allclose(scores, -np.sort(-expected, axis=1)[:, :4], rtol=1e-12)


@settings(deadline=None, max_examples=30)
@given(
    values=st.lists(
        st.tuples(*[st.sampled_from([0.0, 1.0, -2.0, 1e-30, 3e38, 1e-45])] * 3),
        min_size=1,
        max_size=8,
    ),
    top_n=st.integers(1, 9),
)
def test_search_of_extreme_numbers(values: list[tuple[float, ...]], top_n: int) -> None:
    rows = np.array(values, dtype=np.float32)
    wide = rows.astype(np.float64)
    norms = np.linalg.norm(wide, axis=1, keepdims=True)
    units = np.divide(wide, norms, out=np.zeros_like(wide), where=norms > 0)
    expected = (units @ units.T).round(12)
    indices, scores = embellama.search(rows, rows, top_n=top_n)
    assert indices.shape == scores.shape == (len(rows), min(top_n, len(rows)))
    np.testing.assert_allclose(scores, -np.sort(-expected, axis=1)[:, :top_n], atol=1e-11)
    # The near-duplicates of a row are what it finds first.
    first, _ = embellama.near_duplicates(rows, threshold=0.99)
    for i, j in enumerate(first):
        assert i == j or (j < i and first[j] == j and expected[i, j] >= 0.99)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("threshold", [0.45, 1.0])
def test_near_duplicates_are_those_of_float64(dtype: str, threshold: float) -> None:
    # More rows than a chunk has.
    rows = stored(groups_of_vectors(2200, 25, noise=1.2), dtype)
    is_bits = dtype.endswith("binary")
    kind, reference = ("hamming", equal_bits) if is_bits else ("cosine", cosines)
    if is_bits:
        threshold = (1 + threshold) / 2
    similarity = reference(rows, rows)
    kept: list[int] = []
    expected = np.arange(len(rows))
    for i in range(len(rows)):
        alike = np.flatnonzero(similarity[i, kept] >= threshold)
        if len(alike):
            expected[i] = kept[alike[0]]
        else:
            kept.append(i)
    assert 10 < len(kept) < len(rows) - 10
    first, scores = embellama.near_duplicates(rows, threshold=threshold, kind=kind)
    np.testing.assert_array_equal(first, expected)
    np.testing.assert_allclose(scores, similarity[np.arange(len(rows)), first], atol=2e-12)


def test_clusters_are_those_of_the_data_and_as_good_as_of_scikit_learn() -> None:
    rows = groups_of_vectors(2500, 12)
    own = embellama.cluster(rows, 12)
    nearest = cosines(rows, own.centroids)
    # A fixed point: each row is nearest to its own centroid, and that is the mean direction.
    np.testing.assert_allclose(nearest[np.arange(2500), own.labels], nearest.max(axis=1), atol=1e-6)
    np.testing.assert_allclose(own.scores, nearest.max(axis=1), atol=1e-6)
    sums = np.stack([rows[own.labels == label].sum(axis=0) for label in range(12)])
    np.testing.assert_allclose(
        own.centroids, sums / np.linalg.norm(sums, axis=1, keepdims=True), atol=1e-4
    )
    peer = KMeans(n_clusters=12, n_init=1, random_state=0).fit(rows)
    assert own.scores.mean() > 0.99 * cosines(rows, peer.cluster_centers_).max(axis=1).mean()
    best = KMeans(n_clusters=12, n_init=3, random_state=0).fit(rows)
    assert adjusted_rand_score(own.labels, best.labels_) > 0.85


def test_clusters_are_the_same_each_time_and_numbered_by_first_row() -> None:
    rows = groups_of_vectors(3000, 40)
    once, again = (embellama.cluster(rows, 25, seed=3) for _ in range(2))
    np.testing.assert_array_equal(once.labels, again.labels)
    np.testing.assert_array_equal(once.centroids, again.centroids)
    assert not np.array_equal(once.labels, embellama.cluster(rows, 25, seed=4).labels)
    _, first = np.unique(once.labels, return_index=True)
    assert (np.diff(first) > 0).all()


def test_clusters_of_bits_and_of_few_rows() -> None:
    rows = groups_of_vectors(600, 6, noise=0.3)
    bits = embellama.quantize(rows, "ubinary")
    of_bits = embellama.cluster(bits, 6, kind="hamming").labels
    assert adjusted_rand_score(of_bits, embellama.cluster(rows, 6).labels) > 0.95
    # As many clusters as rows, and fewer different rows than clusters.
    assert embellama.cluster(rows[:5], 5).labels.tolist() == [0, 1, 2, 3, 4]
    assert set(embellama.cluster(np.ones((4, 3)), 3).labels) <= {0, 1, 2}


def test_rows_without_a_vector() -> None:
    rows = np.array([[1, 0], [np.nan, np.nan], [2, 1], [np.nan, np.nan]], dtype=np.float32)
    assert embellama.search([1.0, 0.0], rows).indices.tolist() == [[0, 2]]
    assert embellama.near_duplicates(rows, threshold=0.5).first.tolist() == [0, 1, 0, 3]
    labels, scores, _ = embellama.cluster(rows, 2)
    assert labels.tolist() == [0, -1, 1, -1]
    np.testing.assert_array_equal(np.isnan(scores), [False, True, False, True])
    with pytest.raises(embellama.ConfigurationError, match="2 rows with a vector, too few for 3"):
        embellama.cluster(rows, 3)


def test_no_rows() -> None:
    nothing = np.zeros((0, 3), dtype=np.float32)
    assert embellama.search([[1.0, 0, 0]], nothing).indices.shape == (1, 0)
    assert embellama.search(nothing, np.eye(3)).indices.shape == (0, 0)
    assert embellama.near_duplicates(nothing).first.shape == (0,)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: embellama.search([[1.0]], [[1.0, 2]]), embellama.DimensionMismatchError, "1 dim"),
        (lambda: embellama.search([[1.0]], ["a"]), embellama.DimensionMismatchError, "numbers"),
        (lambda: embellama.search([1.0], [[[1.0]]]), embellama.DimensionMismatchError, "shape"),
        (lambda: embellama.search([1.0], [[1.0]], top_n=0), embellama.ConfigurationError, "top_n"),
        (lambda: embellama.search([1.0], [1.0], kind="x"), embellama.ConfigurationError, "kind"),
        (lambda: embellama.search([np.inf], [1.0]), embellama.InvalidInputError, "query 0"),
        (lambda: embellama.search([1.0], [1.0, np.inf]), embellama.DimensionMismatchError, "1 dim"),
        (
            lambda: embellama.search([1.0, 2], [[1.0, 2], [1, np.nan]]),
            embellama.InvalidInputError,
            "row 1 of vectors holds a NaN",
        ),
        (
            lambda: embellama.near_duplicates([[np.inf, 1.0]]),
            embellama.InvalidInputError,
            "row 0",
        ),
        (
            lambda: embellama.near_duplicates([[1.0]], threshold=0),
            embellama.ConfigurationError,
            "threshold",
        ),
        (
            lambda: embellama.near_duplicates([[1.0]], threshold=float("nan")),
            embellama.ConfigurationError,
            "threshold",
        ),
        (
            lambda: embellama.near_duplicates([[1.0]], kind="dot"),
            embellama.ConfigurationError,
            "scale",
        ),
        (
            lambda: embellama.near_duplicates([[1.0]], kind="hamming"),
            embellama.DimensionMismatchError,
            "ubinary",
        ),
        (lambda: embellama.cluster([[1.0]], 0), embellama.ConfigurationError, "n_clusters"),
        (lambda: embellama.cluster([[1.0]], 1, seed=-1), embellama.ConfigurationError, "seed"),
        (lambda: embellama.cluster([[1.0]], 1, kind="dot"), embellama.ConfigurationError, "dir"),
    ],
)
def test_bad_vectors(call: Callable[[], object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("work", ["search", "near_duplicates", "cluster"])
def test_a_file_larger_than_what_is_used_of_memory(work: str, tmp_path: Path) -> None:
    path = tmp_path / "vectors.npy"
    shape = (40_000, 768)  # 123 MB
    vectors: Any = np.lib.format.open_memmap(path, "w+", np.float32, shape)
    # Few directions, so that this takes a moment.
    vectors[:] = np.eye(8, 768, dtype=np.float32)[np.arange(40_000) % 8]
    vectors.flush()
    rows = np.load(path, mmap_mode="r")
    tracemalloc.start()
    if work == "search":
        assert embellama.search(rows[:2], rows, top_n=3).indices.tolist() == [
            [0, 8, 16],
            [1, 9, 17],
        ]
    elif work == "near_duplicates":
        assert (embellama.near_duplicates(rows).first == np.arange(40_000) % 8).all()
    else:
        assert (embellama.cluster(rows, 8).labels == np.arange(40_000) % 8).all()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 90e6
