# SPDX-License-Identifier: Apache-2.0
"""Rows that are appended to a file: JSON Lines, ``.npy`` or Parquet."""

from __future__ import annotations

import abc
import io
import shutil
from collections.abc import Callable
from pathlib import PurePath
from typing import Any, BinaryIO, ClassVar

import numpy as np

from embellama.cli.options import import_pyarrow
from embellama.results import EmbeddingResult

__all__ = ["FORMATS", "WINDOW_TEXTS", "JsonLines", "Rows", "vector_format"]

# Texts computed, then written, at a time: enough for well-packed micro-batches.
WINDOW_TEXTS = 1024

_PARQUET_ROWS = 8 * WINDOW_TEXTS


class Rows(abc.ABC):
    """The rows of a result.

    Parameters
    ----------
    file : BinaryIO
        Open for reading and writing. JSON Lines may go to a stream.
    n_dimensions : int
    written : callable
        Called with the number of rows after each window, when the file holds all of it.

    Attributes
    ----------
    n_rows : int
        How many rows the file holds.
    """

    # Whether the file itself is the result when it is complete.
    is_result: ClassVar[bool] = True

    def __init__(
        self,
        file: BinaryIO,
        n_dimensions: int,
        written: Callable[[int], None] = lambda n_rows: None,
    ) -> None:
        self.file = file
        self.n_dimensions = n_dimensions
        self.n_rows = 0
        self._written = written

    @property
    def start(self) -> int:
        """At which byte the first row begins; what is before is written at the end."""
        return 0

    def append(self, result: EmbeddingResult) -> None:
        """Write the rows of one window."""
        self._write(result)
        self.n_rows += len(result.embeddings)
        self.file.flush()
        self._written(self.n_rows)

    @abc.abstractmethod
    def _write(self, result: EmbeddingResult) -> None: ...

    def complete(self) -> None:
        """Write what the file needs when all rows are there."""
        self.file.flush()

    def write_result(self, stream: BinaryIO) -> None:
        """Write the result that the complete file stands for."""
        self.file.seek(0)
        shutil.copyfileobj(self.file, stream)


class JsonLines(Rows):
    """An object per text."""

    def _write(self, result: EmbeddingResult) -> None:
        for i, (tokens, row) in enumerate(zip(result.token_counts, result.embeddings, strict=True)):
            # str of a numpy.float32 is the shortest text that reads back as the same float32.
            embedding = "null" if i in result.errors else f"[{', '.join(map(str, row))}]"
            line = f'{{"index": {self.n_rows + i}, "tokens": {tokens}, "embedding": {embedding}}}\n'
            self.file.write(line.encode())


class Npy(Rows):
    """An array with a row per text; NaN where a text has no vector."""

    @property
    def start(self) -> int:
        return len(self._header(0))

    @property
    def dtype(self) -> np.dtype[Any]:
        """What one row is."""
        return np.dtype(("<f4", (self.n_dimensions,)))

    def _header(self, n_rows: int) -> bytes:
        buffer = io.BytesIO()
        shape = (n_rows, *self.dtype.shape)
        # NumPy pads the header so that the count can be filled in afterwards
        # (numpy/lib/_format_impl.py, GROWTH_AXIS_MAX_DIGITS).
        np.lib.format.write_array_header_1_0(
            buffer,
            {
                "descr": np.lib.format.dtype_to_descr(self.dtype.base),
                "fortran_order": False,
                "shape": shape,
            },
        )
        return buffer.getvalue()

    def _write(self, result: EmbeddingResult) -> None:
        self.file.write(result.embeddings.astype("<f4", copy=False).data)

    def complete(self) -> None:
        self.file.seek(0)
        self.file.write(self._header(self.n_rows))
        self.file.flush()


class Parquet(Npy):
    """Columns index, tokens and embedding, the last null where a text has no vector.

    Parquet can't be appended to, so the rows are kept as an array until all are there.
    """

    is_result = False

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype([("tokens", "<i4"), ("embedding", "<f4", (self.n_dimensions,))])

    def _write(self, result: EmbeddingResult) -> None:
        rows = np.empty(len(result.embeddings), dtype=self.dtype)
        rows["tokens"] = result.token_counts
        rows["embedding"] = result.embeddings
        self.file.write(rows.tobytes())

    def write_result(self, stream: BinaryIO) -> None:
        pyarrow = import_pyarrow()
        rows = np.memmap(self.file, self.dtype, "r", offset=self.start, shape=(self.n_rows,))
        schema = pyarrow.schema(
            [
                pyarrow.field("index", pyarrow.int64(), nullable=False),
                pyarrow.field("tokens", pyarrow.int32(), nullable=False),
                pyarrow.field("embedding", pyarrow.list_(pyarrow.float32(), self.n_dimensions)),
            ]
        )
        with pyarrow.parquet.ParquetWriter(stream, schema) as writer:
            for start in range(0, len(rows), _PARQUET_ROWS):
                window = rows[start : start + _PARQUET_ROWS]
                vectors = np.ascontiguousarray(window["embedding"])
                columns = [
                    pyarrow.array(np.arange(start, start + len(window))),
                    pyarrow.array(np.ascontiguousarray(window["tokens"])),
                    pyarrow.FixedSizeListArray.from_arrays(
                        pyarrow.array(vectors.reshape(-1)),
                        self.n_dimensions,
                        mask=pyarrow.array(np.isnan(vectors[:, 0])),
                    ),
                ]
                writer.write_table(pyarrow.table(columns, schema=schema))


FORMATS: dict[str, type[Rows]] = {"jsonl": JsonLines, "npy": Npy, "parquet": Parquet}


def vector_format(name: str | None) -> str:
    """The format that a file's name says; JSON Lines if it says none."""
    suffix = PurePath(name or "").suffix.lower().removeprefix(".")
    return suffix if suffix in FORMATS else "jsonl"
