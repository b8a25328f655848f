# SPDX-License-Identifier: Apache-2.0
"""Rows that are appended to a file: JSON Lines, ``.npy`` or Parquet.

How many rows a file holds is read from the file itself, so that an interrupted run can go on.
Only whole windows count: what was cut off within one is computed again.
"""

from __future__ import annotations

import abc
import io
import os
from pathlib import Path, PurePath
from typing import Any, BinaryIO

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
        Open for reading and writing; what it holds after its last whole window is cut off. Or a
        stream open for writing only.
    n_dimensions : int
    """

    def __init__(self, file: BinaryIO, n_dimensions: int) -> None:
        self.file = file
        self.n_dimensions = n_dimensions
        self.n_rows = self._keep_whole_windows() if file.readable() else 0

    @abc.abstractmethod
    def _keep_whole_windows(self) -> int: ...

    @abc.abstractmethod
    def append(self, result: EmbeddingResult) -> None:
        """Write the rows of one window."""

    def complete(self) -> None:
        """Write what the file needs when all rows are there."""
        self.file.flush()

    @staticmethod
    def finish(path: Path) -> Path:
        """Turn the complete file at `path` into the result; return where that is."""
        return path


class JsonLines(Rows):
    """An object per text."""

    def _keep_whole_windows(self) -> int:
        n_rows = size = whole = 0
        self.file.seek(0)
        for line in self.file:
            if not line.endswith(b"\n"):
                break
            n_rows += 1
            size += len(line)
            if n_rows % WINDOW_TEXTS == 0:
                whole = size
        self.file.truncate(whole)
        self.file.seek(whole)
        return n_rows - n_rows % WINDOW_TEXTS

    def append(self, result: EmbeddingResult) -> None:
        for i, (tokens, row) in enumerate(zip(result.token_counts, result.embeddings, strict=True)):
            # str of a numpy.float32 is the shortest text that reads back as the same float32.
            embedding = "null" if i in result.errors else f"[{', '.join(map(str, row))}]"
            line = f'{{"index": {self.n_rows + i}, "tokens": {tokens}, "embedding": {embedding}}}\n'
            self.file.write(line.encode())
        self.n_rows += len(result.embeddings)
        self.file.flush()


class Npy(Rows):
    """An array with a row per text; NaN where a text has no vector."""

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

    def _keep_whole_windows(self) -> int:
        header = self._header(0)
        size = self.file.seek(0, os.SEEK_END) - len(header)
        n_rows = max(size, 0) // self.dtype.itemsize
        n_rows -= n_rows % WINDOW_TEXTS
        if n_rows == 0:
            self.file.seek(0)
            self.file.write(header)
        end = len(header) + n_rows * self.dtype.itemsize
        self.file.truncate(end)
        self.file.seek(end)
        return n_rows

    def append(self, result: EmbeddingResult) -> None:
        self.file.write(result.embeddings.astype("<f4", copy=False).data)
        self.n_rows += len(result.embeddings)
        self.file.flush()

    def complete(self) -> None:
        self.file.seek(0)
        self.file.write(self._header(self.n_rows))
        self.file.flush()


class Parquet(Npy):
    """Columns index, tokens and embedding, the last null where a text has no vector.

    Parquet can't be appended to, so the rows are kept as an array until all are there.
    """

    def __init__(self, file: BinaryIO, n_dimensions: int) -> None:
        import_pyarrow()
        super().__init__(file, n_dimensions)

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype([("tokens", "<i4"), ("embedding", "<f4", (self.n_dimensions,))])

    def append(self, result: EmbeddingResult) -> None:
        rows = np.empty(len(result.embeddings), dtype=self.dtype)
        rows["tokens"] = result.token_counts
        rows["embedding"] = result.embeddings
        self.file.write(rows.tobytes())
        self.n_rows += len(rows)
        self.file.flush()

    @staticmethod
    def finish(path: Path) -> Path:
        pyarrow = import_pyarrow()
        rows = np.load(path, mmap_mode="r")
        n_dimensions = rows.dtype["embedding"].shape[0]
        schema = pyarrow.schema(
            [
                pyarrow.field("index", pyarrow.int64(), nullable=False),
                pyarrow.field("tokens", pyarrow.int32(), nullable=False),
                pyarrow.field("embedding", pyarrow.list_(pyarrow.float32(), n_dimensions)),
            ]
        )
        finished = path.with_name("finished")
        with pyarrow.parquet.ParquetWriter(finished, schema) as writer:
            for start in range(0, len(rows), _PARQUET_ROWS):
                window = rows[start : start + _PARQUET_ROWS]
                vectors = np.ascontiguousarray(window["embedding"])
                columns = [
                    pyarrow.array(np.arange(start, start + len(window))),
                    pyarrow.array(np.ascontiguousarray(window["tokens"])),
                    pyarrow.FixedSizeListArray.from_arrays(
                        pyarrow.array(vectors.reshape(-1)),
                        n_dimensions,
                        mask=pyarrow.array(np.isnan(vectors[:, 0])),
                    ),
                ]
                writer.write_table(pyarrow.table(columns, schema=schema))
        return finished


FORMATS: dict[str, type[Rows]] = {"jsonl": JsonLines, "npy": Npy, "parquet": Parquet}


def vector_format(name: str | None) -> str:
    """The format that a file's name says; JSON Lines if it says none."""
    suffix = PurePath(name or "").suffix.lower().removeprefix(".")
    return suffix if suffix in FORMATS else "jsonl"
