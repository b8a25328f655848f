# SPDX-License-Identifier: Apache-2.0
"""Files of vectors to compare: ``.npy``, mapped into memory, or Parquet, read a batch at a time."""

from __future__ import annotations

import dataclasses
import json
import tokenize
import warnings
from collections.abc import Iterator
from pathlib import PurePath
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from embellama.cli.options import import_pyarrow
from embellama.cli.vector_files import DESCRIPTION_KEY
from embellama.config import PoolingStrategy
from embellama.errors import ConfigurationError, DimensionMismatchError, InvalidInputError
from embellama.quantization import DTYPES, DTypeName, dtype_name, quantization_levels

__all__ = ["Description", "ParquetRows", "StoredVectors", "open_vectors"]

# What a type of numbers means unless the file or the user says otherwise.
_DTYPES = {
    "float64": "float32",
    "float32": "float32",
    "float16": "float16",
    "int8": "int8",
    "uint8": "ubinary",
}
# What numpy raises depends on which bytes of a header are damaged.
_HEADER_ERRORS = (
    *(OSError, ValueError, TypeError, EOFError, SyntaxError, OverflowError, MemoryError),
    *(RecursionError, tokenize.TokenError),
)
# Rows whose columns are read at a time.
_RECORDS = 4096
# Bytes that are read from a column of Parquet at a time, which otherwise is read as a whole.
_BUFFER_BYTES = 1 << 20


@dataclasses.dataclass(frozen=True)
class Description:
    """What a file says about how its vectors were made; None where it says nothing.

    Attributes
    ----------
    model : str or None
        As ``embed -m`` was given it.
    dimensions : int or None
        Length of a vector before it became a row of a smaller type.
    pooling : PoolingStrategy or None
    dtype : str or None
    ranges : list or None
    """

    model: str | None = None
    dimensions: int | None = None
    pooling: PoolingStrategy | None = None
    dtype: DTypeName | None = None
    ranges: list[Any] | None = None


class _Rows(Protocol):
    """Rows as they are in a file."""

    n_rows: int
    n_dims: int
    numpy_type: np.dtype[Any]
    description: Description

    def read(self, n_rows: int) -> Iterator[NDArray[Any]]: ...


class StoredVectors:
    """Vectors in a file, which are compared a chunk at a time.

    Attributes
    ----------
    name : str
        The path.
    rows : ParquetRows or NpyRows
        As they are in the file.
    n_rows : int
    n_dims : int
        Values in a row.
    dtype : str
        What they are; see :func:`embellama.quantize`.
    kind : str
        The kind of similarity that suits them.
    description : Description
    """

    def __init__(
        self, name: str, rows: _Rows, dtype: str | None, ranges: NDArray[np.float32] | None
    ) -> None:
        self.name = name
        self.rows = rows
        self.n_rows = rows.n_rows
        self.n_dims = rows.n_dims
        self.description = rows.description
        found = rows.numpy_type.newbyteorder("=").name
        self.dtype = dtype_name(dtype or self.description.dtype or _DTYPES[found])
        if not (np.dtype(DTYPES[self.dtype][0]).name == found or found == "float64"):
            raise ConfigurationError(
                f"{name} holds {found}, and --dtype is {self.dtype}: leave --dtype away, or name "
                "another file"
            )
        self.kind = "hamming" if self.dtype.endswith("binary") else "cosine"
        given = self.description.ranges if ranges is None else ranges
        if self.dtype == "uint8" and given is None:
            raise ConfigurationError(
                f"{name} holds uint8, whose levels mean nothing without their ranges: give the "
                "file of ranges that they were made with, with --ranges"
            )
        self._levels = quantization_levels(self.dtype, self.n_dims, given)

    def read(self, n_rows: int) -> Iterator[NDArray[Any]]:
        """Yield all rows; levels of ranges as the numbers in their middle."""
        for rows in self.rows.read(n_rows):
            if self._levels is None:
                yield rows
                continue
            starts, steps = self._levels
            levels = rows.astype(np.float32)
            if self.dtype == "int8":
                levels += 128
            yield starts + (levels + np.float32(0.5)) * steps


def open_vectors(
    path: str, dtype: str | None = None, ranges: NDArray[np.float32] | None = None
) -> StoredVectors:
    """Open a file of vectors.

    Parameters
    ----------
    path : str
        Ends in ``.npy``, ``.parquet`` or ``.pq``.
    dtype : str, optional
        What its rows are. Default: what the file says, or its type of numbers; uint8 is taken for
        ``"ubinary"``.
    ranges : numpy.ndarray of float32, shape (2, D), optional
        The ranges of int8 and uint8. Default: those of the file.

    Raises
    ------
    ConfigurationError, DimensionMismatchError, InvalidInputError
        If it is no such file, or does not fit what was given.
    """
    suffix = PurePath(path).suffix.lower()
    if suffix == ".npy":
        return StoredVectors(path, NpyRows(path), dtype, ranges)
    if suffix in (".parquet", ".pq"):
        return StoredVectors(path, ParquetRows(path), dtype, ranges)
    raise ConfigurationError(
        f"{path}: vectors are read from .npy and .parquet: write such a file with "
        "`embellama embed -o`"
    )


def _check_numbers(name: str, kind: Any, n_dims: int) -> None:
    if str(kind) not in _DTYPES:
        raise DimensionMismatchError(
            f"{name} holds {kind}, and vectors are {', '.join(_DTYPES)}: name the file that "
            "`embellama embed -o` wrote"
        )
    if n_dims < 1:
        raise DimensionMismatchError(f"{name} has rows of no dimensions: compute it again")


class NpyRows:
    """The rows of a ``.npy`` file."""

    description = Description()

    def __init__(self, path: str) -> None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of headers as Python 2 wrote them
                array = np.load(path, mmap_mode="r", allow_pickle=False)
        except _HEADER_ERRORS as error:
            reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
            raise InvalidInputError(
                f"{path} can't be read as .npy ({reason}): compute it again"
            ) from None
        if not isinstance(array, np.ndarray) or array.ndim != 2:
            shape = getattr(array, "shape", "several arrays")
            raise DimensionMismatchError(
                f"{path} must hold one array of shape (rows, dimensions), not {shape}"
            )
        self._array = array
        self.numpy_type = array.dtype
        self.n_rows, self.n_dims = array.shape
        _check_numbers(path, array.dtype.newbyteorder("="), self.n_dims)

    def read(self, n_rows: int) -> Iterator[NDArray[Any]]:
        """Yield all rows, `n_rows` at a time or fewer."""
        native = self.numpy_type.newbyteorder("=")
        for start in range(0, self.n_rows, n_rows):
            yield np.asarray(self._array[start : start + n_rows]).astype(native, copy=False)


class ParquetRows:
    """The vectors in a column of a Parquet file, and its other columns.

    Attributes
    ----------
    parquet : pyarrow.parquet.ParquetFile
    names : list of str
        All columns.
    column : str
        The column of the vectors: ``embedding``, or the only one that holds lists of numbers.
    """

    def __init__(self, path: str) -> None:
        self._name = path
        self._pyarrow = import_pyarrow()
        try:
            self.parquet = self._pyarrow.parquet.ParquetFile(path, buffer_size=_BUFFER_BYTES)
            self.names = self.parquet.schema_arrow.names
        except (self._pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
            reason = str(error).splitlines()[0]
            raise InvalidInputError(
                f"{path} can't be read as Parquet ({reason}): compute it again"
            ) from None
        self.n_rows = self.parquet.metadata.num_rows
        self.column = self._vector_column()
        kind = self.parquet.schema_arrow.field(self.column).type
        self._values = kind.value_type
        self.description = _description(self.parquet.schema_arrow.metadata or {})
        self.n_dims = getattr(kind, "list_size", 0) or self._first_length()
        names = {"float": "float32", "double": "float64", "halffloat": "float16"}
        value_type = names.get(str(self._values), str(self._values))
        _check_numbers(f"the column {self.column!r} of {path}", value_type, self.n_dims)
        self.numpy_type = np.dtype(value_type)

    def _vector_column(self) -> str:
        schema, types = self.parquet.schema_arrow, self._pyarrow.types
        lists = [
            field.name
            for field in schema
            if types.is_list(field.type)
            or types.is_large_list(field.type)
            or types.is_fixed_size_list(field.type)
        ]
        if "embedding" in lists:
            return "embedding"
        if len(lists) != 1:
            raise ConfigurationError(
                f"{self._name} has no column 'embedding' with a list of numbers in each row: "
                "rename the column of the vectors"
            )
        return str(lists[0])

    def _first_length(self) -> int:
        """The length of the first list, in a column whose type does not say it."""
        for batch in self._batches(1024, [self.column]):
            for length in self._pyarrow.compute.list_value_length(batch.column(0)).to_pylist():
                if length is not None:
                    return int(length)
        return 1

    def _batches(self, n_rows: int, columns: list[str], **settings: Any) -> Iterator[Any]:
        try:
            yield from self.parquet.iter_batches(n_rows, columns=columns, **settings)
        except (self._pyarrow.ArrowException, OSError) as error:
            raise InvalidInputError(
                f"{self._name} can't be read ({str(error).splitlines()[0]}): compute it again"
            ) from None

    def read(self, n_rows: int) -> Iterator[NDArray[Any]]:
        """Yield all rows, `n_rows` at a time or fewer; NaN where there is no vector."""
        start = 0
        for batch in self._batches(n_rows, [self.column]):
            yield self._vectors(batch.column(0), start)
            start += len(batch)

    def _vectors(self, column: Any, start: int) -> NDArray[Any]:
        pyarrow = self._pyarrow
        missing = column.is_null().to_numpy(zero_copy_only=False)
        lengths = pyarrow.compute.list_value_length(column).to_numpy(zero_copy_only=False)
        wrong = np.flatnonzero((lengths != self.n_dims) & ~missing)
        if len(wrong):
            raise DimensionMismatchError(
                f"row {start + wrong[0]} of {self._name} has {int(lengths[wrong[0]])} dimensions, "
                f"and the rows before it have {self.n_dims}: compute it again with one model"
            )
        values = column.drop_null().flatten()
        if (values.null_count or missing.any()) and self.numpy_type.kind != "f":
            raise InvalidInputError(
                f"a row of {self._name} from row {start} on lacks numbers: compute it again"
            )
        flat = values.to_numpy(zero_copy_only=False).astype(self.numpy_type, copy=False)
        vectors: NDArray[Any] = flat.reshape(-1, self.n_dims)
        if missing.any():
            every = np.full((len(missing), self.n_dims), np.nan, dtype=self.numpy_type)
            every[~missing] = vectors
            vectors = every
        return vectors

    def records(self, indices: NDArray[np.int64], names: list[str]) -> list[dict[str, Any]]:
        """Return columns of the rows with these indices, which are sorted."""
        found: list[dict[str, Any]] = []
        metadata = self.parquet.metadata
        start = 0
        for group in range(metadata.num_row_groups):
            end = start + metadata.row_group(group).num_rows
            first, last = np.searchsorted(indices, (start, end))
            if first < last:
                for batch in self._batches(_RECORDS, names, row_groups=[group]):
                    first, last = np.searchsorted(indices, (start, start + len(batch)))
                    wanted = self._pyarrow.array(indices[first:last] - start)
                    try:
                        found += batch.take(wanted).to_pylist()
                    except UnicodeDecodeError as error:
                        raise InvalidInputError(
                            f"{self._name} holds a text that is not UTF-8 ({error}): make it again"
                        ) from None
                    start += len(batch)
            start = end
        return found

    def copied(self) -> Iterator[tuple[int, Any]]:
        """Yield all rows with all columns, in batches with the index of their first row."""
        start = 0
        for batch in self._batches(_RECORDS, self.names):
            yield start, batch
            start += len(batch)


def _description(metadata: dict[bytes, bytes]) -> Description:
    """Read what ``embed`` wrote; what it can't have written is left out."""
    try:
        found = json.loads(metadata.get(DESCRIPTION_KEY, b"{}"))
    except (ValueError, RecursionError):
        return Description()
    if not isinstance(found, dict):
        return Description()
    model, dimensions, pooling, dtype, ranges = (
        found.get(name) for name in ("model", "dimensions", "pooling", "dtype", "ranges")
    )
    poolings = [pooling.value for pooling in PoolingStrategy]
    return Description(
        model if isinstance(model, str) else None,
        dimensions if isinstance(dimensions, int) and dimensions > 0 else None,
        PoolingStrategy(pooling) if pooling in poolings else None,
        dtype_name(dtype) if isinstance(dtype, str) and dtype in DTYPES else None,
        ranges if isinstance(ranges, list) else None,
    )
