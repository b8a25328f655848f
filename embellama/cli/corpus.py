# SPDX-License-Identifier: Apache-2.0
"""Texts from files: lines, whole documents, or columns of tables, read as they are needed."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import itertools
import json
import re
import reprlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO

import click

from embellama.cli.byte_streams import decoded_document, decoded_lines, decoded_texts
from embellama.cli.input_files import InputFile, input_files, reading
from embellama.cli.options import import_pyarrow
from embellama.errors import ConfigurationError, EmbellamaError, InvalidInputError

__all__ = ["Corpus", "Row", "Selection", "corpus_of", "in_terms_of_the_command"]

# Rows that the Parquet reader reads at a time.
_PARQUET_ROWS = 4096
# A column must appear in at least one of this many first objects of a JSON file.
_FIRST_OBJECTS = 1024

_DELIMITERS = {"csv": ",", "tsv": "\t"}


@dataclasses.dataclass(frozen=True)
class Selection:
    """Which columns of each row are read.

    Parameters
    ----------
    columns : sequence of str
        The columns that hold the text. The texts of several columns are joined by line breaks.
    keep : list of str or None
        The columns that go to the output; None for all.
    delimiter : str or None
        The delimiter of CSV; None for a comma, or a tab in TSV.
    """

    columns: Sequence[str] = ("text",)
    keep: list[str] | None = dataclasses.field(default_factory=list)
    delimiter: str | None = None

    @property
    def required(self) -> list[str]:
        """The columns that the input must have."""
        return [*self.columns, *(self.keep or ())]


@dataclasses.dataclass(frozen=True)
class Row:
    """A text, or the reason why there is none.

    Attributes
    ----------
    label : str
        The name of the row in messages.
    text : str or None
    problem : str
        The reason, which follows the label in a message; empty if there is a text.
    kept : Mapping of str to Any
        The columns that go to the output.
    """

    label: str
    text: str | None
    problem: str = ""
    kept: Mapping[str, Any] = dataclasses.field(default_factory=dict)


# A row before its text is selected: its label, and its columns or the reason why it has none.
_Record = tuple[str, Mapping[str, Any] | str]


def corpus_of(
    texts: Sequence[str], sources: Sequence[str], kind: str | None, selection: Selection
) -> Corpus | list[Row]:
    """The texts of the arguments, or the rows of the files that are named.

    Raises
    ------
    click.UsageError
        If there are no texts, or both arguments and files, or a file's format is unknown.
    ConfigurationError, InvalidInputError
        As :class:`Corpus`.
    """
    if texts and sources:
        raise click.UsageError(
            "give texts as arguments or with --input, not both; a pattern for --input has to be "
            "quoted"
        )
    if texts:
        if selection.keep != []:
            raise click.UsageError("--keep is for the columns of what --input names")
        return [Row(f"text {number}", text) for number, text in enumerate(texts, 1)]
    if not sources:
        if sys.stdin.isatty():
            raise click.UsageError("no text: give some as arguments, with --input, or in a pipe")
        sources = ["-"]
    return Corpus(input_files(sources, kind), selection)


@contextlib.contextmanager
def in_terms_of_the_command(labels: Sequence[str]) -> Iterator[Callable[[EmbellamaError], None]]:
    """Reword an error of the library, and yield a function that rewords further errors.

    The library counts texts from 0 and names its own settings, unlike the command.

    Parameters
    ----------
    labels : sequence of str
        The command's names of the texts that it passed to the library.
    """

    def label(match: re.Match[str]) -> str:
        index = int(match[1])
        return labels[index] if index < len(labels) else match[0]

    def reword(error: EmbellamaError) -> None:
        message = re.sub(r"\btext (\d+)\b", label, str(error), count=1)
        error.args = (message.replace("truncate=True", "--truncate"), *error.args[1:])

    try:
        yield reword
    except EmbellamaError as error:
        reword(error)
        raise


class Corpus:
    """The rows of some files, in order.

    Parameters
    ----------
    files : sequence of InputFile
    selection : Selection

    Raises
    ------
    ConfigurationError
        If a table lacks a column, or a column does not hold texts.
    InvalidInputError
        If a file can't be read.
    """

    def __init__(self, files: Sequence[InputFile], selection: Selection) -> None:
        self._files = files
        self._selection = selection
        # Arrow types of the kept columns of Parquet files.
        self.types: dict[str, Any] = {}
        for file in files:
            if selection.delimiter is not None and file.kind not in _DELIMITERS:
                raise click.UsageError(
                    f"{file.name} is read as {file.kind}, which has no delimiter"
                )
            # Missing columns are found now, not in the middle of the work.
            if file.is_regular:
                if file.kind == "parquet":
                    self._add_types(file)
                elif file.kind in _DELIMITERS:
                    with reading(file) as stream:
                        next(_table_records(stream, file, selection), None)

    def _add_types(self, file: InputFile) -> None:
        with reading(file) as stream:
            schema = _open_parquet(stream, file, self._selection).schema_arrow
        keep = self._selection.keep
        for name in schema.names if keep is None else keep:
            kind = schema.field(name).type
            if self.types.setdefault(name, kind) != kind:
                raise ConfigurationError(
                    f"the column {name!r} of {file.name} holds {kind}, and {self.types[name]} in "
                    "files before it: leave it out of --keep"
                )

    def __iter__(self) -> Iterator[Row]:
        for file in self._files:
            with reading(file) as stream:
                for label, record in _records(stream, file, self._selection):
                    yield _row(label, record, self._selection)

    def count(self) -> int | None:
        """Count the rows of all files; None if that takes long or a file can't be read twice."""
        total = 0
        for file in self._files:
            if file.kind == "document":
                total += 1
                continue
            if not file.is_regular or file.is_compressed or file.kind == "json":
                return None
            with reading(file) as stream:
                if file.kind == "parquet":
                    total += _open_parquet(stream, file, self._selection).metadata.num_rows
                elif file.kind in _DELIMITERS:
                    records = _table_records(stream, file, self._selection)
                    total += sum(1 for _ in records)
                else:
                    texts = decoded_texts if file.kind == "nul" else decoded_lines
                    total += sum(1 for _ in texts(stream))
        return total


def _records(stream: BinaryIO, file: InputFile, selection: Selection) -> Iterator[_Record]:
    if file.kind == "parquet":
        return _parquet_records(stream, file, selection)
    if file.kind in _DELIMITERS:
        return _table_records(stream, file, selection)
    if file.kind in ("json", "jsonl"):
        objects = _array(stream, file) if file.kind == "json" else _json_lines(stream, file)
        return _with_columns(_named(objects, selection), file, selection)
    _check_columns(file, ["path", "text"] if file.kind == "document" else ["text"], selection)
    if file.kind == "nul":
        return _texts(stream, file)
    return _documents(stream, file) if file.kind == "document" else _lines(stream, file)


def _check_columns(file: InputFile, found: Sequence[str], selection: Selection) -> None:
    for name in selection.required:
        if found.count(name) == 1:
            continue
        if name in found:
            raise ConfigurationError(f"{file.name} has several columns {name!r}: rename them")
        hint = ""
        if file.kind in _DELIMITERS and len(found) == 1:
            others = [mark for mark in ";|\t," if mark in found[0]]
            hint = f"; if {others[0]!r} is between its cells, say --delimiter" if others else ""
        raise ConfigurationError(
            f"{file.name} has no column {name!r}: choose among "
            f"{', '.join(map(repr, found)) or 'none'}{hint}"
        )


def _row(label: str, record: Mapping[str, Any] | str, selection: Selection) -> Row:
    if isinstance(record, str):
        return Row(label, None, record)
    keep = selection.keep
    kept = record if keep is None else {name: record.get(name) for name in keep}
    parts: list[str] = []
    problems: list[str] = []
    for name in selection.columns:
        value = record.get(name)
        if isinstance(value, str):
            parts.append(value)
        elif name in record:
            problems.append(f"has no text in {name!r} ({reprlib.repr(value)})")
        else:
            has = ", ".join(map(repr, record)) or "none"
            problems.append(f"lacks the column {name!r} (it has {has})")
    if len(selection.columns) > 1:
        # A text without its title still has a vector.
        texts = [part for part in parts if part and not part.isspace()]
        parts = ["\n".join(texts)] if texts else []
        problems = problems or [f"has no text in {', '.join(map(repr, selection.columns))}"]
    return Row(label, parts[0], "", kept) if parts else Row(label, None, problems[0], kept)


def _lines(stream: BinaryIO, file: InputFile) -> Iterator[_Record]:
    for number, (line, problem) in enumerate(decoded_lines(stream), 1):
        text = line.removesuffix("\n").removesuffix("\r")
        yield f"line {number} of {file.name}", problem or {"text": text}


def _texts(stream: BinaryIO, file: InputFile) -> Iterator[_Record]:
    for number, (text, problem) in enumerate(decoded_texts(stream), 1):
        yield f"text {number} of {file.name}", problem or {"text": text}


def _documents(stream: BinaryIO, file: InputFile) -> Iterator[_Record]:
    text, problem = decoded_document(stream)
    yield file.name, problem or {"path": file.name, "text": text}


def _json_lines(stream: BinaryIO, file: InputFile) -> Iterator[tuple[str, Any]]:
    for number, (line, problem) in enumerate(decoded_lines(stream), 1):
        label = f"line {number} of {file.name}"
        value: Any = _Problem(problem)
        if not problem:
            try:
                value = json.loads(line)
            except (ValueError, RecursionError) as error:
                value = _Problem(f"is no JSON: {error}")
        yield label, value


def _array(stream: BinaryIO, file: InputFile) -> Iterator[tuple[str, Any]]:
    text, problem = decoded_document(stream)
    try:
        # Bytes that are not UTF-8 stay in their text, so that only this text is refused.
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        problem = problem or f"is no JSON: {error}"
        raise InvalidInputError(
            f"{file.name} {problem}; for an object on each line, give --input-format jsonl"
        ) from None
    if not isinstance(values, list):
        raise InvalidInputError(
            f"{file.name} is no JSON array; for an object on each line, give --input-format jsonl"
        )
    for number, value in enumerate(values, 1):
        yield f"item {number} of {file.name}", value


class _Problem(str):
    """The reason why a line can't be used; a plain str is a text."""


def _named(objects: Iterator[tuple[str, Any]], selection: Selection) -> Iterator[_Record]:
    """Give each plain string of JSON a column, and report values that are not objects either."""
    for label, value in objects:
        if isinstance(value, (_Problem, Mapping)):
            yield label, value
        elif isinstance(value, str):
            yield label, {selection.columns[0]: value}
        else:
            yield label, f"is no JSON object or string ({reprlib.repr(value)})"


def _with_columns(
    records: Iterator[_Record], file: InputFile, selection: Selection
) -> Iterator[_Record]:
    """Refuse a column that none of the first objects has: that is probably a typo."""
    first = list(itertools.islice(records, _FIRST_OBJECTS))
    objects = [record for _, record in first if not isinstance(record, str)]
    found = list(dict.fromkeys(name for record in objects for name in record))
    if objects:
        _check_columns(file, found, selection)
    yield from first
    yield from records


def _table_records(stream: BinaryIO, file: InputFile, selection: Selection) -> Iterator[_Record]:
    csv.field_size_limit(2**31 - 1)  # the default of 128 KiB is less than a long document
    problems: list[str] = []

    def lines() -> Iterator[str]:
        for line, problem in decoded_lines(stream):
            if problem:
                problems.append(problem)
            yield line

    cells = csv.reader(lines(), delimiter=selection.delimiter or _DELIMITERS[file.kind])
    header = next(cells, [])
    _check_columns(file, header, selection)
    places = [header.index(name) for name in selection.columns]
    number = 0
    while True:
        problems.clear()
        try:
            row = next(cells)
        except StopIteration:
            return
        except csv.Error as error:
            number += 1
            yield f"row {number} of {file.name}", f"can't be read: {error}"
            continue
        if not row:
            continue
        number += 1
        label = f"row {number} of {file.name}"
        if any(row[len(header) :]):
            yield (
                label,
                (
                    f"has {len(row)} cells, and the header {len(header)}: quote what holds the "
                    "delimiter"
                ),
            )
        # Bytes that are not UTF-8 matter only in the text that is embedded.
        elif problems and not all(_is_unicode(row[i]) for i in places if i < len(row)):
            yield label, problems[0]
        else:
            # A row with too few cells lacks its last columns.
            yield label, dict(zip(header, row, strict=False))


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _open_parquet(stream: BinaryIO, file: InputFile, selection: Selection) -> Any:
    """Open a file of Parquet that has the columns, with texts in those that hold the text."""
    pyarrow = import_pyarrow()
    if not stream.seekable():
        raise ConfigurationError("Parquet can't be read from a pipe: name the file with --input")
    if file.is_compressed:
        raise ConfigurationError(f"{file.name}: Parquet is compressed inside: decompress it first")
    try:
        parquet = pyarrow.parquet.ParquetFile(stream)
    except pyarrow.ArrowException as error:
        raise InvalidInputError(f"{file.name} is no Parquet file: {error}") from None
    schema = parquet.schema_arrow
    _check_columns(file, schema.names, selection)
    for name in selection.columns:
        kind = schema.field(name).type
        if pyarrow.types.is_dictionary(kind):
            kind = kind.value_type
        if str(kind) not in ("string", "large_string", "string_view"):
            raise ConfigurationError(f"the column {name!r} of {file.name} holds {kind}, not texts")
    return parquet


def _parquet_records(stream: BinaryIO, file: InputFile, selection: Selection) -> Iterator[_Record]:
    pyarrow = import_pyarrow()
    parquet = _open_parquet(stream, file, selection)
    names = parquet.schema_arrow.names
    kept = names if selection.keep is None else list(selection.keep)
    columns = list(dict.fromkeys([*selection.columns, *kept]))
    number = 0
    batches = parquet.iter_batches(_PARQUET_ROWS, columns=columns)
    while True:
        try:
            batch = next(batches, None)
        except pyarrow.ArrowException as error:
            raise InvalidInputError(
                f"{file.name} can't be read after row {number}: {error}"
            ) from None
        if batch is None:
            return
        # Kept values stay Arrow scalars: as Python values they would lose nanoseconds, for
        # example.
        values = [
            batch.column(name).to_pylist() if name in selection.columns else batch.column(name)
            for name in columns
        ]
        for row in zip(*values, strict=True):
            number += 1
            yield f"row {number} of {file.name}", dict(zip(columns, row, strict=True))
