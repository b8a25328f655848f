# SPDX-License-Identifier: Apache-2.0
"""Files of vectors: JSON Lines, ``.npy`` or Parquet, written a window of rows at a time."""

from __future__ import annotations

import abc
import contextlib
import dataclasses
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar

import click
import numpy as np
from numpy.typing import NDArray

from embellama.cli.options import import_pyarrow
from embellama.errors import ConfigurationError, InvalidInputError
from embellama.quantization import DTYPES, DTypeName, quantize, quantized_width
from embellama.results import EmbeddingResult

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = [
    "DESCRIPTION_KEY",
    "FORMATS",
    "OWN_COLUMNS",
    "WINDOW_TEXTS",
    "Layout",
    "VectorFile",
    "json_value",
    "vector_format",
]

# Texts computed, then written, at a time: enough for well-packed micro-batches.
WINDOW_TEXTS = 1024

_PARQUET_ROWS = 8 * WINDOW_TEXTS

# Columns of the result; a column of the input can't have one of these names.
OWN_COLUMNS = ("index", "tokens", "embedding")

# Under this key the metadata of a Parquet file says in JSON how its vectors were made.
DESCRIPTION_KEY = b"embellama"

Kept = Sequence[Mapping[str, Any]]


@dataclasses.dataclass(frozen=True)
class Layout:
    """What the rows of a file of vectors are.

    Attributes
    ----------
    n_dimensions : int
        Length D of a vector.
    dtype : str
        The type of the rows; see :func:`embellama.quantize`.
    ranges : numpy.ndarray of float32, shape (2, D), or None
        For int8 and uint8.
    types : Mapping
        The Arrow types of the kept columns that have one.
    description : Mapping
        How the vectors were made, for the metadata of Parquet.
    """

    n_dimensions: int
    dtype: DTypeName = "float32"
    ranges: NDArray[np.float32] | None = None
    types: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    description: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def width(self) -> int:
        """The number of values in a row."""
        return quantized_width(self.n_dimensions, self.dtype)

    @property
    def numpy_type(self) -> np.dtype[Any]:
        """The type of a value, little-endian."""
        kind: np.dtype[Any] = np.dtype(DTYPES[self.dtype][0]).newbyteorder("<")
        return kind

    def encoded(self, vectors: NDArray[np.float32]) -> NDArray[Any]:
        """Turn vectors of float32 into rows."""
        rows: NDArray[Any] = quantize(vectors, self.dtype, ranges=self.ranges)
        return rows.astype(self.numpy_type, copy=False)


class VectorFile(abc.ABC):
    """A file of vectors with one row per text, complete at the end of its with block.

    Parameters
    ----------
    file : BinaryIO
        Where to write.
    layout : Layout
    """

    # Whether rows can be written to a file that can't seek, such as a pipe.
    streams: ClassVar[bool] = False
    # Whether the format can hold columns of the input.
    keeps_columns: ClassVar[bool] = True

    def __init__(self, file: BinaryIO, layout: Layout) -> None:
        self.file = file
        self.layout = layout
        self.n_rows = 0

    def append(self, result: EmbeddingResult, kept: Kept) -> None:
        """Write the rows of one window, each with the kept columns of the input.

        Raises
        ------
        ConfigurationError
            If a kept column has a name that the result needs.
        InvalidInputError
            If a kept value does not fit its column.
        """
        for name in OWN_COLUMNS:
            if any(name in columns for columns in kept):
                raise ConfigurationError(
                    f"the column {name!r} can't be kept, because the result has one of that name: "
                    "rename it, or list the columns to keep"
                )
        self._write(result, kept)
        self.n_rows += len(kept)

    @abc.abstractmethod
    def _write(self, result: EmbeddingResult, kept: Kept) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            self._complete()

    def _complete(self) -> None:
        """Write what completes the file after the last row."""
        self.file.flush()


class JsonLines(VectorFile):
    """An object per text."""

    streams = True

    def _write(self, result: EmbeddingResult, kept: Kept) -> None:
        missing = _without_vector(result)
        for i, row in enumerate(self.layout.encoded(result.embeddings)):
            # str of a numpy.float32 is the shortest text that reads back as the same float32.
            embedding = "null" if missing[i] else f"[{', '.join(map(str, row))}]"
            others = "".join(
                f"{json.dumps(name)}: {json.dumps(json_value(value), allow_nan=False)}, "
                for name, value in kept[i].items()
            )
            line = (
                f'{{"index": {self.n_rows + i}, {others}"tokens": {result.token_counts[i]}, '
                f'"embedding": {embedding}}}\n'
            )
            self.file.write(line.encode("ascii"))
        self.file.flush()


def _without_vector(result: EmbeddingResult) -> NDArray[np.bool_]:
    missing: NDArray[np.bool_] = np.isnan(result.embeddings[:, 0])
    return missing


def json_value(value: Any) -> Any:
    """The JSON form of a value of any column: null for NaN, the ISO form for a date."""
    if hasattr(value, "as_py"):  # a scalar of pyarrow
        value = value.as_py()
    if isinstance(value, Mapping):
        return {str(name): json_value(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_value(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, bytes):
        return value.hex()
    if value is None or isinstance(value, (str, int)):
        return value
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


class Npy(VectorFile):
    """An array with a row per text; NaN where a text has no vector."""

    keeps_columns = False

    def __init__(self, file: BinaryIO, layout: Layout) -> None:
        super().__init__(file, layout)
        self._write_header()

    def _write_header(self) -> None:
        buffer = io.BytesIO()
        # NumPy pads the header so that the count can be filled in afterwards
        # (numpy/lib/_format_impl.py, GROWTH_AXIS_MAX_DIGITS).
        np.lib.format.write_array_header_1_0(
            buffer,
            {
                "descr": np.lib.format.dtype_to_descr(self.layout.numpy_type),
                "fortran_order": False,
                "shape": (self.n_rows, self.layout.width),
            },
        )
        self.file.write(buffer.getvalue())

    def _write(self, result: EmbeddingResult, kept: Kept) -> None:
        self.file.write(self.layout.encoded(result.embeddings).data)

    def _complete(self) -> None:
        self.file.seek(0)
        self._write_header()
        self.file.flush()


class Parquet(VectorFile):
    """The columns index, kept columns, tokens and embedding.

    The embedding of a text without a vector is NaN, not null: pyarrow before 26 can't read a
    null in a column of lists of one fixed length ("Expected all lists to be of size").
    """

    def __init__(self, file: BinaryIO, layout: Layout) -> None:
        super().__init__(file, layout)
        self._pyarrow = import_pyarrow()
        self._writer: Any = None
        self._results: list[EmbeddingResult] = []
        self._kept: list[Mapping[str, Any]] = []
        self._n_written = 0

    def _write(self, result: EmbeddingResult, kept: Kept) -> None:
        self._results.append(result)
        self._kept.extend(kept)
        if len(self._kept) >= _PARQUET_ROWS:
            self._write_group()

    def _write_group(self) -> None:
        pyarrow = self._pyarrow
        width = self.layout.width
        nothing = np.zeros((0, self.layout.n_dimensions), np.float32)
        vectors = self.layout.encoded(
            np.concatenate([nothing, *(each.embeddings for each in self._results)])
        )
        value_type = pyarrow.from_numpy_dtype(vectors.dtype)
        tokens = np.concatenate(
            [np.zeros(0, np.int32), *(each.token_counts for each in self._results)]
        )
        names = list(
            dict.fromkeys([*self.layout.types, *(name for row in self._kept for name in row)])
        )
        if self._writer is not None:
            known = set(self._writer.schema.names)
            names = [name for name in self._writer.schema.names if name not in OWN_COLUMNS]
            for i, row in enumerate(self._kept):
                for name in row:
                    if name not in known:
                        raise self._unfit(i, name)
        kept = {name: self._column(name) for name in names}
        schema = pyarrow.schema(
            [
                pyarrow.field("index", pyarrow.int64(), nullable=False),
                *(pyarrow.field(name, column.type) for name, column in kept.items()),
                pyarrow.field("tokens", pyarrow.int32(), nullable=False),
                pyarrow.field("embedding", pyarrow.list_(value_type, width), nullable=False),
            ],
            {DESCRIPTION_KEY: json.dumps(self.layout.description)},
        )
        columns = [
            pyarrow.array(np.arange(self._n_written, self._n_written + len(vectors))),
            *kept.values(),
            pyarrow.array(tokens),
            pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(vectors.reshape(-1)), width),
        ]
        if self._writer is None:
            self._writer = pyarrow.parquet.ParquetWriter(self.file, schema)
        self._writer.write_table(pyarrow.table(columns, schema=schema))
        self._n_written += len(vectors)
        self._results, self._kept = [], []

    def _column(self, name: str) -> Any:
        """The values of a kept column, in the type that its first rows have."""
        pyarrow = self._pyarrow
        # pyarrow can't use the type of a null scalar in a list, so None replaces it.
        values = [
            value if getattr(value, "is_valid", True) else None
            for value in (row.get(name) for row in self._kept)
        ]
        kind = self.layout.types.get(name)
        if self._writer is not None:
            kind = self._writer.schema.field(name).type
        try:
            column = pyarrow.array(values, kind)
        except (pyarrow.ArrowException, TypeError, ValueError, OverflowError):
            # The values have several types, or are not UTF-8.
            if kind is None or pyarrow.types.is_string(kind):
                return pyarrow.array([_as_text(value) for value in values], pyarrow.string())
            for i, value in enumerate(values):
                try:
                    pyarrow.array([value], kind)
                except (pyarrow.ArrowException, TypeError, ValueError, OverflowError):
                    raise self._unfit(i, name) from None
            raise
        # A column of type null could not hold the values of later rows.
        return column.cast(pyarrow.string()) if pyarrow.types.is_null(column.type) else column

    def _unfit(self, row: int, name: str) -> InvalidInputError:
        index = self._n_written + row
        return InvalidInputError(
            f"the value of {name!r} in row {index + 1} does not fit a column of Parquet, whose "
            "type the first rows decide: write JSON Lines, or leave it out of --keep",
            index=index,
        )

    def _complete(self) -> None:
        if self._kept or self._writer is None:
            self._write_group()
        self._writer.close()
        super()._complete()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            super().__exit__(kind, error, traceback)
        finally:
            if self._writer is not None and self._writer.is_open:
                # The writer writes when it is freed, and the file is closed by then, so it is
                # closed now.
                with contextlib.suppress(OSError, self._pyarrow.ArrowException):
                    self._writer.close()
                self._writer.is_open = False


def _as_text(value: Any) -> str | None:
    if value is None:
        return None
    text = value if isinstance(value, str) else json.dumps(json_value(value), ensure_ascii=False)
    return text.encode("utf-8", "replace").decode("utf-8")


FORMATS: dict[str, type[VectorFile]] = {"jsonl": JsonLines, "npy": Npy, "parquet": Parquet}
_SUFFIXES = {
    "": "jsonl",
    ".jsonl": "jsonl",
    ".jsonlines": "jsonl",
    ".ndjson": "jsonl",
    ".npy": "npy",
    ".parquet": "parquet",
    ".pq": "parquet",
}


def vector_format(name: str | None, chosen: str | None) -> str:
    """The chosen format, or that of the file's suffix; JSON Lines if it has no suffix.

    Raises
    ------
    click.UsageError
        If the suffix belongs to another format than the chosen one, or to none that can be
        written.
    """
    suffix = PurePath(name or "").suffix.lower()
    said = _SUFFIXES.get(suffix)
    if chosen is None and said is None:
        raise click.UsageError(
            f"{name}: no vectors are written as {suffix}: end the name in .npy, .parquet or "
            f".jsonl, or choose with --format among {', '.join(FORMATS)}"
        )
    if chosen is not None and said is not None and suffix and said != chosen:
        raise click.UsageError(
            f"{name} ends in {suffix}, and --format is {chosen}: give one of the two"
        )
    return chosen or said or "jsonl"
