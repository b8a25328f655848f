# SPDX-License-Identifier: Apache-2.0
"""Vectors in chunks that fit into memory, wherever they are stored."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from embellama.errors import InvalidInputError
from embellama.vectors.comparable import UNIT_TOLERANCE, comparable_rows

__all__ = ["ArrayRows", "Chunk", "Rows", "chunks_of", "rows_at"]

# Values in a chunk: 4 MiB of float32. A matrix of the similarities of two chunks takes 16 MiB.
_CHUNK_VALUES = 1 << 20
_LONGEST_CHUNK = 2048


class Rows(Protocol):
    """Vectors that are read from the first to the last, as often as needed.

    Attributes
    ----------
    name : str
        The name of the vectors in messages.
    n_rows : int
    n_dims : int
        Values in a row as it is stored.
    """

    @property
    def name(self) -> str: ...
    @property
    def n_rows(self) -> int: ...
    @property
    def n_dims(self) -> int: ...
    def read(self, n_rows: int) -> Iterator[NDArray[Any]]:
        """Yield all rows, `n_rows` at a time or fewer."""


@dataclasses.dataclass(frozen=True)
class ArrayRows:
    """The rows of an array in memory, or of one that is mapped from a file."""

    name: str
    array: NDArray[Any]

    @property
    def n_rows(self) -> int:
        """How many rows there are."""
        return len(self.array)

    @property
    def n_dims(self) -> int:
        """Values in a row."""
        return int(self.array.shape[1])

    def read(self, n_rows: int) -> Iterator[NDArray[Any]]:
        """Yield all rows, `n_rows` at a time or fewer."""
        for start in range(0, len(self.array), n_rows):
            # As a plain array: a memmap's methods are slow.
            yield np.asarray(self.array[start : start + n_rows])


@dataclasses.dataclass(frozen=True)
class Chunk:
    """Some consecutive rows, without those that have no vector.

    Attributes
    ----------
    start : int
        Index of the first row.
    indices : numpy.ndarray of int64, shape (n,)
        The index of each row.
    rows : numpy.ndarray, shape (n, D)
        As they are stored.
    comparable : numpy.ndarray of float32 or float64
        See :func:`embellama.vectors.comparable.comparable_rows`.
    """

    start: int
    indices: NDArray[np.int64]
    rows: NDArray[Any]
    comparable: NDArray[Any]

    def take(self, chosen: NDArray[Any]) -> Chunk:
        """Return some of the rows, by position or by a mask."""
        return Chunk(self.start, self.indices[chosen], self.rows[chosen], self.comparable[chosen])


def chunks_of(source: Rows, kind: str, *, stop: int | None = None) -> Iterator[Chunk]:
    """Yield the rows in chunks, up to the chunk that begins at row `stop`.

    Raises
    ------
    InvalidInputError
        If a row holds a NaN or an infinity beside numbers. A row that is NaN throughout, which
        ``on_error="nan"`` writes, has no vector and is left out.
    """
    length = min(max(_CHUNK_VALUES // max(source.n_dims, 1), 1), _LONGEST_CHUNK)
    start = 0
    for rows in source.read(length):
        if start == stop:
            return
        squares = _squared_lengths(rows)
        has_vector = np.isfinite(squares)
        if not has_vector.all():
            has_vector = _has_vector(rows, has_vector, start, source.name)
        indices = np.arange(start, start + len(rows), dtype=np.int64)
        start += len(rows)
        if not has_vector.all():
            rows, indices, squares = rows[has_vector], indices[has_vector], squares[has_vector]
        are_units = rows.dtype == np.float32 and (np.abs(squares - 1) < UNIT_TOLERANCE).all()
        comparable = rows if kind == "cosine" and are_units else comparable_rows(rows, kind)
        yield Chunk(start - len(has_vector), indices, rows, comparable)


def _squared_lengths(rows: NDArray[Any]) -> NDArray[Any]:
    """Return the sum of squares of each row, 0 for integers."""
    if rows.dtype.kind != "f":
        return np.zeros(len(rows))
    with np.errstate(over="ignore", invalid="ignore"):
        squares: NDArray[Any] = np.einsum("ij,ij->i", rows, rows)
    return squares


def _has_vector(
    rows: NDArray[Any], is_finite: NDArray[np.bool_], start: int, name: str
) -> NDArray[np.bool_]:
    """Look at the rows whose sum of squares is not finite; those of some rows overflow."""
    odd = np.flatnonzero(~is_finite)
    has_vector: NDArray[np.bool_] = is_finite.copy()
    has_vector[odd] = np.isfinite(rows[odd]).all(axis=1)
    damaged = odd[~has_vector[odd] & ~np.isnan(rows[odd]).all(axis=1)]
    if len(damaged):
        index = start + int(damaged[0])
        raise InvalidInputError(
            f"row {index} of {name} holds a NaN or an infinity beside numbers: it is damaged, "
            "so compute it again, or make it NaN throughout to leave it out",
            index=index,
        )
    return has_vector


def rows_at(source: Rows, indices: NDArray[np.int64]) -> NDArray[Any]:
    """Return copies of the rows with these indices, which are sorted."""
    found = []
    start = 0
    for rows in source.read(_LONGEST_CHUNK):
        first, last = np.searchsorted(indices, (start, start + len(rows)))
        found.append(rows[indices[first:last] - start])
        start += len(rows)
    return np.concatenate(found) if found else np.zeros((0, source.n_dims), dtype=np.float32)
