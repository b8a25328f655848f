# SPDX-License-Identifier: Apache-2.0
"""Vectors that are there already, found by the content of their texts."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from embellama.results import EmbeddingResult

__all__ = ["ContentIndex", "KnownRows", "computed_rows", "content_digests", "without_vector"]

# Instead of a row's number: no row is known.
_UNKNOWN = -1


def content_digests(texts: Sequence[str | None]) -> NDArray[np.uint64]:
    """Return 128 bits of a digest of each text; 0 where there is no text.

    Returns
    -------
    numpy.ndarray of uint64, shape (N, 2)
    """
    digests = [
        bytes(16)
        if text is None
        else hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        for text in texts
    ]
    contents: NDArray[Any] = np.frombuffer(b"".join(digests), dtype="<u8").reshape(-1, 2)
    return contents


def without_vector(n_rows: int, width: int, vector_type: DTypeLike) -> NDArray[Any]:
    """Return rows that say that there is no vector: NaN, and 0 in types that have no NaN."""
    fill = np.nan if np.dtype(vector_type).kind == "f" else 0
    return np.full((n_rows, width), fill, dtype=vector_type)


def computed_rows(
    texts: Sequence[str | None],
    width: int,
    compute: Callable[[list[int]], EmbeddingResult],
    indices: list[int] | None = None,
    *,
    vector_type: DTypeLike = np.float32,
) -> EmbeddingResult:
    """Compute some of the texts, by default all that there are; the others have no vector.

    Parameters
    ----------
    texts : sequence of str or None
        None where there is no text.
    width : int
        Values in a row.
    compute : callable
        Called with the indices of the texts to compute, unless there is none. Returns their rows in
        that order, and errors by the place in that order.
    indices : list of int, optional
        Which to compute.
    vector_type : dtype_like, optional
        Type of the values in a row. Default: float32.

    Returns
    -------
    EmbeddingResult
        Errors by the index of the text.
    """
    if indices is None:
        indices = [i for i, text in enumerate(texts) if text is not None]
    rows = without_vector(len(texts), width, vector_type)
    token_counts = np.zeros(len(texts), dtype=np.int32)
    truncated = np.zeros(len(texts), dtype=np.bool_)
    if not indices:
        return EmbeddingResult(rows, token_counts, truncated, {})
    computed = compute(indices)
    rows[indices] = computed.embeddings
    token_counts[indices] = computed.token_counts
    truncated[indices] = computed.truncated
    errors = {indices[i]: error for i, error in computed.errors.items()}
    return EmbeddingResult(rows, token_counts, truncated, errors)


class ContentIndex:
    """The numbers of rows, by the content of their texts.

    Parameters
    ----------
    contents : numpy.ndarray of uint64, shape (N, 2)
        Of all rows, as :func:`content_digests` gives them.
    usable : numpy.ndarray of bool, shape (N,)
        Which rows may be found.
    """

    def __init__(self, contents: NDArray[np.uint64], usable: NDArray[np.bool_]) -> None:
        self._contents = contents
        numbers = np.flatnonzero(usable)
        keys = contents[numbers, 0]
        order = np.argsort(keys, kind="stable")
        self._keys, self._numbers = keys[order], numbers[order]

    def find(self, contents: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Return the number of the row of each content; negative where there is none."""
        row_of_text = np.full(len(contents), _UNKNOWN, dtype=np.int64)
        if len(self._keys):
            at = np.searchsorted(self._keys, contents[:, 0]).clip(max=len(self._keys) - 1)
            numbers = self._numbers[at]
            found = (self._contents[numbers] == contents).all(axis=1)
            row_of_text[found] = numbers[found]
        return row_of_text


@dataclasses.dataclass(frozen=True, eq=False)
class KnownRows:
    """Vectors of an earlier result, all of one model and one way of computing.

    Attributes
    ----------
    contents : numpy.ndarray of uint64, shape (N, 2)
    vectors : numpy.ndarray, shape (N, width)
    token_counts : numpy.ndarray of int32, shape (N,)
    truncated : numpy.ndarray of bool, shape (N,)
    usable : numpy.ndarray of bool, shape (N,)
        Which rows have a vector.
    """

    contents: NDArray[np.uint64]
    vectors: NDArray[Any]
    token_counts: NDArray[np.int32]
    truncated: NDArray[np.bool_]
    usable: NDArray[np.bool_]

    @functools.cached_property
    def _index(self) -> ContentIndex:
        return ContentIndex(self.contents, self.usable)

    def complete(
        self, texts: Sequence[str | None], compute: Callable[[list[int]], EmbeddingResult]
    ) -> EmbeddingResult:
        """Return the vectors of texts, computing those that are not known.

        `compute`, and what is returned, are as for :func:`computed_rows`.
        """
        row_of_text = self._index.find(content_digests(texts))
        missing = [i for i in np.flatnonzero(row_of_text < 0).tolist() if texts[i] is not None]
        width, vector_type = self.vectors.shape[1], self.vectors.dtype
        result = computed_rows(texts, width, compute, missing, vector_type=vector_type)
        known = np.flatnonzero(row_of_text >= 0)
        rows = row_of_text[known]
        result.embeddings[known] = self.vectors[rows]
        result.token_counts[known] = self.token_counts[rows]
        result.truncated[known] = self.truncated[rows]
        return result
