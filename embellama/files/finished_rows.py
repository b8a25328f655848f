# SPDX-License-Identifier: Apache-2.0
"""Vectors that are computed already, known by the text they belong to.

They are in two files of a folder. ``rows`` has a record for each text: the digest of the text, its
vector, its tokens and whether it was cut. ``windows`` has a line for each run of records that were
written together: how many records there are then, and the SHA-256 of those of this line. What a
killed run or a failing disk leaves behind the last line that is true is cut off.

A text that had an error has a record without a vector. So the records of a run are in the order of
its texts, and the next run of the same texts finds them by it. Other texts are found by digest.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from numpy.typing import DTypeLike, NDArray

from embellama.files.known_rows import ContentIndex, computed_rows, content_digests
from embellama.results import EmbeddingResult

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["FinishedRows", "has_finished_rows", "open_for_update"]

# What a record says of its text.
_WHOLE, _TRUNCATED, _FAILED = range(3)
# Instead of a record's number: the text has no record, or one without a vector.
_NEW, _WITHOUT_VECTOR = -1, -2


def open_for_update(path: Path) -> BinaryIO:
    """Open a file for reading and writing, made if it is missing; a symbolic link raises."""
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666), "r+b")


def has_finished_rows(folder: Path) -> bool:
    """Whether a run has left vectors in a folder."""
    try:
        return (folder / "windows").lstat().st_size > 0
    except FileNotFoundError:
        return False


class FinishedRows:
    """The vectors in a folder, and those that are added to it.

    All of them are of one model and one way of computing; the caller sees to that.

    Parameters
    ----------
    folder : pathlib.Path
    width : int
        Values of a vector.
    max_tokens : int or None
        At how many tokens texts are cut now; None if a text that is too long is an error. Vectors
        of texts that were cut elsewhere are not used.
    vector_type : dtype_like, optional
        Type of these values. Default: float32.

    Attributes
    ----------
    n_found : int
        How many vectors that can be used the folder held when it was opened.
    n_rows : int
        How many records the folder holds now.
    """

    def __init__(
        self,
        folder: Path,
        width: int,
        max_tokens: int | None,
        vector_type: DTypeLike = np.float32,
    ) -> None:
        self._width = width
        self._vector_type = np.dtype(vector_type)
        self._type = np.dtype(
            [
                ("content", "<u8", (2,)),
                ("tokens", "<i4"),
                ("state", "<i4"),
                ("vector", self._vector_type.newbyteorder("<"), (width,)),
            ]
        )
        self._file = open_for_update(folder / "rows")
        try:
            self._journal = open_for_update(folder / "windows")
        except BaseException:
            self._file.close()
            raise
        self.n_rows = self._verified()
        self._found = np.zeros(0, dtype=self._type)
        if self.n_rows:
            self._found = np.memmap(self._file, self._type, "r", shape=(self.n_rows,))
        tokens, state = self._found["tokens"], self._found["state"]
        limit = np.iinfo(np.int32).max if max_tokens is None else max_tokens
        self._usable = ((state == _WHOLE) & (tokens <= limit)) | (
            (state == _TRUNCATED) & (tokens == max_tokens)
        )
        self.n_found = int(self._usable.sum())
        # How many records the texts so far have matched, in the same order; None after a mismatch.
        self._in_order: int | None = 0
        self._index: ContentIndex | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()
        self._journal.close()

    def _verified(self) -> int:
        """Count the records up to the last window that is as it was written; cut off the rest."""
        n_rows, complete = 0, 0
        size = self._file.seek(0, os.SEEK_END)
        self._file.seek(0)
        for line in self._journal:
            try:
                end, digest = line.decode("ascii").removesuffix("\n").split(" ")
                if not n_rows < int(end) <= size // self._type.itemsize:
                    break
            except ValueError:
                break
            if self._digest(int(end) - n_rows) != digest:
                break
            n_rows = int(end)
            complete += len(line)
        for file, kept in (
            (self._file, n_rows * self._type.itemsize),
            (self._journal, complete),
        ):
            file.truncate(kept)
            file.seek(kept)
        return n_rows

    def _digest(self, n_rows: int) -> str:
        """The SHA-256 of the next records."""
        digest = hashlib.sha256()
        left = n_rows * self._type.itemsize
        while left and (block := self._file.read(min(left, 1 << 20))):
            digest.update(block)
            left -= len(block)
        return digest.hexdigest()

    def complete(
        self, texts: Sequence[str | None], compute: Callable[[list[int]], EmbeddingResult]
    ) -> EmbeddingResult:
        """Return the vectors of texts, computing and keeping those that are not there.

        Parameters
        ----------
        texts : sequence of str or None
            The texts that follow those of the last call. None where there is no text.
        compute : callable
            As for :func:`computed_rows`.

        Returns
        -------
        EmbeddingResult
            Errors by the index of the text.
        """
        contents = content_digests(texts)
        record_of_text = self._records_of(contents)
        missing = [i for i in np.flatnonzero(record_of_text < 0).tolist() if texts[i] is not None]
        result = computed_rows(texts, self._width, compute, missing, vector_type=self._vector_type)
        known = np.flatnonzero(record_of_text >= 0)
        if len(known):
            records = self._found[record_of_text[known]]
            result.embeddings[known] = records["vector"]
            result.token_counts[known] = records["tokens"]
            result.truncated[known] = records["state"] == _TRUNCATED
        failed = np.array([text is None for text in texts], dtype=np.bool_)
        failed[list(result.errors)] = True
        new = (record_of_text == _NEW) | ((record_of_text == _WITHOUT_VECTOR) & ~failed)
        self._append(contents[new], result, new, failed)
        return result

    def _records_of(self, contents: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Return the record of each text's vector; negative where there is none."""
        if self._in_order is not None:
            start = self._in_order
            here = self._found["content"][start : start + len(contents)]
            if np.array_equal(here, contents[: len(here)]):
                self._in_order = start + len(here)
                record_of_text = np.full(len(contents), _NEW, dtype=np.int64)
                record_of_text[: len(here)] = np.arange(start, self._in_order)
                without = np.flatnonzero(~self._usable[start : self._in_order])
                if len(without):
                    # A run that cut texts at another length may have written a vector further on.
                    other = self._by_content(contents[without])
                    other[other == _NEW] = _WITHOUT_VECTOR
                    record_of_text[without] = other
                return record_of_text
            self._in_order = None
        return self._by_content(contents)

    def _by_content(self, contents: NDArray[np.uint64]) -> NDArray[np.int64]:
        if self._index is None:
            self._index = ContentIndex(self._found["content"], self._usable)
        return self._index.find(contents)

    def _append(
        self,
        contents: NDArray[np.uint64],
        result: EmbeddingResult,
        new: NDArray[np.bool_],
        failed: NDArray[np.bool_],
    ) -> None:
        if not len(contents):
            return
        records = np.zeros(len(contents), dtype=self._type)
        records["content"] = contents
        records["tokens"] = result.token_counts[new]
        records["state"] = np.where(
            failed[new], _FAILED, np.where(result.truncated[new], _TRUNCATED, _WHOLE)
        )
        records["vector"] = result.embeddings[new]
        data = records.tobytes()
        self._file.write(data)
        self._file.flush()
        n_rows = self.n_rows + len(records)
        line = f"{n_rows} {hashlib.sha256(data).hexdigest()}\n"
        self._journal.write(line.encode("ascii"))
        self._journal.flush()
        self.n_rows = n_rows
