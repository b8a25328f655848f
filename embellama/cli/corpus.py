# SPDX-License-Identifier: Apache-2.0
"""Texts from a file: lines, or a column of CSV, JSON Lines or Parquet, read as they are needed."""

from __future__ import annotations

import csv
import dataclasses
import itertools
import json
import reprlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import PurePath
from typing import Any, BinaryIO

from embellama.cli.options import import_pyarrow
from embellama.errors import ConfigurationError, InvalidInputError

__all__ = ["FORMATS", "Corpus", "corpus_format"]

# Rows that Parquet's reader holds at a time.
_PARQUET_ROWS = 4096

_SUFFIXES = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
}
FORMATS = ("lines", *dict.fromkeys(_SUFFIXES.values()))


def corpus_format(name: str) -> str:
    """The format that a file's name says; ``"lines"`` if it says none."""
    return _SUFFIXES.get(PurePath(name).suffix.lower(), "lines")


@dataclasses.dataclass(frozen=True)
class Corpus:
    """Texts in order, what to call the one at an index, and how many there are, if known."""

    texts: Iterator[str]
    label: Callable[[int], str]
    total: int | None

    @classmethod
    def of_arguments(cls, texts: Sequence[str]) -> Corpus:
        """The texts of the command line."""
        return cls(iter(texts), lambda index: f"text {index + 1}", len(texts))

    @classmethod
    def of_file(
        cls, file: BinaryIO, kind: str, column: str, *, first: int = 0, count: bool = False
    ) -> Corpus:
        """The texts of an open file from index `first` on; `count` reads it once more before."""
        name = "standard input" if file.name == "<stdin>" else file.name
        what = "line" if kind in ("lines", "jsonl") else "row"

        def label(index: int) -> str:
            return f"{what} {index + 1} of {name}"

        total = None
        if kind == "parquet":
            parquet = _open_parquet(file, name, column)
            total = parquet.metadata.num_rows
            return cls(_parquet_texts(parquet, column, label, first), label, total)
        if count and file.seekable():
            start = file.tell()
            total = _count(file, kind)
            file.seek(start)
        if kind in ("csv", "tsv"):
            texts = _table_texts(file, kind, name, column, label)
        elif kind == "jsonl":
            texts = _json_texts(file, column, label, first)
        else:
            texts = _lines(file, label, first)
        return cls(texts if kind in ("lines", "jsonl") else _after(texts, first), label, total)

    def read(self, n_texts: int | None = None) -> list[str]:
        """The next texts, or all that are left."""
        try:
            return list(itertools.islice(self.texts, n_texts))
        except OSError as error:
            raise InvalidInputError(
                f"the input can't be read: {error.strerror or error}"
            ) from error


def _after(texts: Iterator[str], first: int) -> Iterator[str]:
    return itertools.islice(texts, first, None)


def _count(file: BinaryIO, kind: str) -> int | None:
    if kind in ("lines", "jsonl"):
        return sum(1 for _ in file)
    try:
        # Latin-1 can't fail and keeps what separates cells.
        rows = csv.reader((line.decode("latin-1") for line in file), delimiter=_DELIMITERS[kind])
        return max(sum(1 for row in rows if row) - 1, 0)
    except csv.Error:
        return None  # said with its row when it is reached


def _decoded(line: bytes, index: int, label: Callable[[int], str]) -> str:
    try:
        # A byte order mark is no part of the first text.
        return line.decode("utf-8-sig" if index == 0 else "utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInputError(
            f"{label(index)} is not UTF-8 ({error.reason} at byte {error.start + 1} of the "
            "line): convert the file, for example with iconv",
            index=index,
        ) from None


def _lines(file: BinaryIO, label: Callable[[int], str], first: int) -> Iterator[str]:
    for index, line in enumerate(file):
        if index >= first:
            yield _decoded(line, index, label).removesuffix("\n").removesuffix("\r")


def _json_texts(
    file: BinaryIO, column: str, label: Callable[[int], str], first: int
) -> Iterator[str]:
    for index, line in enumerate(file):
        if index < first:
            continue
        try:
            record = json.loads(_decoded(line, index, label))
        except InvalidInputError:
            raise
        except (ValueError, RecursionError) as error:
            raise InvalidInputError(f"{label(index)} is no JSON: {error}", index=index) from None
        yield _cell(record, column, index, label)


def _cell(record: Any, column: str, index: int, label: Callable[[int], str]) -> str:
    if not isinstance(record, dict):
        raise InvalidInputError(f"{label(index)} is no JSON object", index=index)
    value = record.get(column)
    if not isinstance(value, str):
        found = (
            reprlib.repr(value) if column in record else f"it has {', '.join(map(repr, record))}"
        )
        raise InvalidInputError(
            f"{label(index)} has no text in {column!r} ({found}): name the column with --column",
            index=index,
        )
    return value


_DELIMITERS = {"csv": ",", "tsv": "\t"}


def _table_lines(file: BinaryIO, name: str) -> Iterator[str]:
    # Rows may hold line breaks, so what is not UTF-8 is named by its line.
    return (
        _decoded(line, index, lambda index: f"line {index + 1} of {name}")
        for index, line in enumerate(file)
    )


def _table_texts(
    file: BinaryIO, kind: str, name: str, column: str, label: Callable[[int], str]
) -> Iterator[str]:
    csv.field_size_limit(2**31 - 1)  # the default of 128 KiB is less than a long document
    rows = csv.reader(_table_lines(file, name), delimiter=_DELIMITERS[kind])
    index = -1  # of the row that is read; the header has none
    try:
        header = next(rows, [])
        if column not in header:
            raise ConfigurationError(
                f"{name} has no column {column!r}: choose with --column among "
                f"{', '.join(map(repr, header))}"
            )
        position = header.index(column)
        index = 0
        for row in rows:
            if not row:
                continue
            if position >= len(row):
                raise InvalidInputError(
                    f"{label(index)} ends before the column {column!r}", index=index
                )
            yield row[position]
            index += 1
    except csv.Error as error:
        raise InvalidInputError(
            f"{label(max(index, 0))} can't be read: {error}", index=max(index, 0)
        ) from None


def _open_parquet(file: BinaryIO, name: str, column: str) -> Any:
    pyarrow = import_pyarrow()
    if not file.seekable():
        raise ConfigurationError("Parquet can't be read from a pipe: name the file with --input")
    try:
        parquet = pyarrow.parquet.ParquetFile(file)
    except pyarrow.ArrowException as error:
        raise InvalidInputError(f"{name} is no Parquet file: {error}") from None
    if column not in parquet.schema_arrow.names:
        raise ConfigurationError(
            f"{name} has no column {column!r}: choose with --column among "
            f"{', '.join(map(repr, parquet.schema_arrow.names))}"
        )
    kind = parquet.schema_arrow.field(column).type
    if not (pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind)):
        raise ConfigurationError(f"the column {column!r} of {name} holds {kind}, not texts")
    return parquet


def _parquet_texts(
    parquet: Any, column: str, label: Callable[[int], str], first: int
) -> Iterator[str]:
    index = 0
    for group in range(parquet.num_row_groups):
        n_rows = parquet.metadata.row_group(group).num_rows
        if index + n_rows <= first:
            index += n_rows
            continue
        batches = parquet.iter_batches(_PARQUET_ROWS, row_groups=[group], columns=[column])
        for text in itertools.chain.from_iterable(batch[0].to_pylist() for batch in batches):
            if index >= first:
                if text is None:
                    raise InvalidInputError(f"{label(index)} is null in {column!r}", index=index)
                yield text
            index += 1
