# SPDX-License-Identifier: Apache-2.0
"""The units of a corpus: the row groups of Parquet files, and whole files of other formats.

They come from the source, not from how an engine cuts it into blocks: those differ between two
runs of the same job, and what a unit is called must not.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePosixPath
from typing import Any, BinaryIO

import fsspec
import pyarrow
import pyarrow.json
import pyarrow.parquet

from embellama.errors import ConfigurationError, EmbellamaError, InvalidInputError

__all__ = ["WINDOW_ROWS", "Unit", "each_unit", "each_window"]

# Rows computed at a time, and those of a row group of the output: 12 MB of 384 float32 each.
WINDOW_ROWS = 8192

# Footers of a corpus that are read at a time.
_READERS = 16
# A line of JSON must be shorter than this.
_JSON_BLOCK = 1 << 26
_FORMATS = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".jsonl": "json",
    ".jsonlines": "json",
    ".ndjson": "json",
    ".txt": "lines",
    ".text": "lines",
}
_COMPRESSIONS = (".gz", ".bz2", ".xz", ".zst")


@dataclasses.dataclass(frozen=True)
class Unit:
    """A part of a corpus that is done or not done.

    Attributes
    ----------
    source : str
        The file, as a URL of fsspec.
    number : int
        Which row group of the file; 0 for a file that is one unit.
    first_row : int
        How many rows of the file are before it.
    n_rows : int or None
        Its rows; None where only reading the file would tell.
    identity : str
        What differs between the file and itself after a change.
    """

    source: str
    number: int
    first_row: int
    n_rows: int | None
    identity: str


def each_unit(sources: Sequence[str], options: Mapping[str, Any]) -> Iterator[Unit]:
    """Yield the units of files, patterns and folders, in the order of names.

    Raises
    ------
    ConfigurationError
        If there is no file, or one whose format is unknown.
    InvalidInputError
        If a file can't be read.
    """
    files = [file for source in sources for file in _files(source, options)]
    with ThreadPoolExecutor(_READERS) as readers:
        for units in readers.map(lambda file: _units_of(*file), files):
            yield from units


def _files(source: str, options: Mapping[str, Any]) -> list[tuple[Any, str]]:
    """Return the file systems and paths that a name means."""
    files, path = fsspec.url_to_fs(source, **options)
    files.invalidate_cache()  # what other processes have written since
    if files.isdir(path):
        # Names that begin with an underscore or a dot are no data, as for Spark and Arrow.
        found = [
            each
            for each in files.find(path)
            if _format(each) is not None
            and not any(part[0] in "_." for part in PurePosixPath(each).relative_to(path).parts)
        ]
    elif files.exists(path):
        found = [path]
    else:
        found = files.glob(path) if any(mark in path for mark in "*?[") else []
    if not found:
        raise ConfigurationError(f"{source}: there is no such file, or no file of texts in it")
    for each in found:
        if _format(each) is None:
            raise ConfigurationError(
                f"{each}: a corpus is read from Parquet, JSON Lines (.jsonl) or lines (.txt), "
                "compressed or not: write it as one of these"
            )
    return [(files, each) for each in sorted(found)]


def _format(path: str) -> str | None:
    name = PurePosixPath(path)
    suffix = (name.with_suffix("") if name.suffix in _COMPRESSIONS else name).suffix.lower()
    return _FORMATS.get(suffix)


def _units_of(files: Any, path: str) -> list[Unit]:
    url: str = files.unstrip_protocol(path)
    size = files.size(path)
    if size == 0:
        return []
    # fsspec's key of a local file has its inode, which may be another on each node.
    identity = f"{size} {files.modified(path)}" if files.protocol[0] == "file" else files.ukey(path)
    if _format(path) != "parquet":
        return [Unit(url, 0, 0, None, identity)]
    with _reading(url), files.open(path, "rb") as stream:
        metadata = pyarrow.parquet.read_metadata(stream)
    units, first_row = [], 0
    for number in range(metadata.num_row_groups):
        n_rows = metadata.row_group(number).num_rows
        if n_rows:
            units.append(Unit(url, number, first_row, n_rows, identity))
        first_row += n_rows
    return units


@contextlib.contextmanager
def _reading(url: str) -> Iterator[None]:
    try:
        yield
    except EmbellamaError:
        raise
    except (OSError, ValueError, pyarrow.ArrowException) as error:  # EOFError and UnicodeError too
        raise InvalidInputError(f"{url} can't be read: {error}") from error


def each_window(
    unit: Unit, columns: Sequence[str], options: Mapping[str, Any]
) -> Iterator[pyarrow.Table]:
    """Yield some columns of the rows of a unit, :data:`WINDOW_ROWS` at a time.

    Raises
    ------
    ConfigurationError
        If the file lacks a column.
    InvalidInputError
        If it can't be read.
    """
    files, path = fsspec.url_to_fs(unit.source, **options)
    kind = _format(path)
    with _reading(unit.source):
        compression = None if kind == "parquet" else "infer"
        stream = files.open(path, "rb", compression=compression)
    with stream:
        windows = _windows(stream, unit, columns, str(kind))
        while True:
            with _reading(unit.source):
                window = next(windows, None)
            if window is None:
                return
            yield window


def _windows(
    stream: BinaryIO, unit: Unit, columns: Sequence[str], kind: str
) -> Iterator[pyarrow.Table]:
    if kind == "parquet":
        file = pyarrow.parquet.ParquetFile(stream)
        _check_columns(unit, file.schema_arrow.names, columns)
        batches = file.iter_batches(WINDOW_ROWS, row_groups=[unit.number], columns=list(columns))
        for batch in batches:
            # Parquet gives the columns in its own order.
            yield pyarrow.Table.from_batches([batch]).select(list(columns))
        return
    if kind == "json":
        options = pyarrow.json.ReadOptions(block_size=_JSON_BLOCK)
        table = pyarrow.json.read_json(stream, options)
    else:
        lines = stream.read().decode("utf-8").removesuffix("\n").split("\n")
        texts = [line.removesuffix("\r") for line in lines]
        table = pyarrow.table({"text": pyarrow.array(texts, pyarrow.large_string())})
    _check_columns(unit, table.schema.names, columns)
    table = table.select(list(columns))
    for start in range(0, table.num_rows, WINDOW_ROWS):
        yield table.slice(start, WINDOW_ROWS)


def _check_columns(unit: Unit, found: Sequence[str], wanted: Sequence[str]) -> None:
    for name in wanted:
        if name not in found:
            raise ConfigurationError(
                f"{unit.source} has no column {name!r}: choose among "
                f"{', '.join(map(repr, found)) or 'none'}"
            )
