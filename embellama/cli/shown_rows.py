# SPDX-License-Identifier: Apache-2.0
"""What the commands on vectors print about a row: its texts, and other columns."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import click
import numpy as np
from numpy.typing import NDArray

from embellama.cli import options
from embellama.cli.corpus import Corpus, Row, Selection
from embellama.cli.input_files import input_files
from embellama.cli.stored_vectors import ParquetRows, StoredVectors
from embellama.cli.vector_files import OWN_COLUMNS, json_value
from embellama.errors import ConfigurationError, InvalidInputError

__all__ = ["BLOCK_ROWS", "Columns", "columns_of", "print_json", "print_plain", "row_options"]

_Function = TypeVar("_Function", bound=Callable[..., Any])

# Rows that are printed at a time, where all are.
BLOCK_ROWS = 4096


def _kept(context: click.Context, parameter: click.Parameter, value: str) -> list[str] | None:
    return None if value == "all" else options.column_names(context, parameter, value)


_ROW_OPTIONS = (
    options.dtype(
        default=None,
        help="What the rows are.  [default: as the file says; uint8 without a word is ubinary]",
    ),
    options.ranges,
    click.option(
        "--texts",
        type=options.UserPath(exists=True, dir_okay=False),
        metavar="FILE",
        help="The file whose texts the vectors were made of, to print them.",
    ),
    click.option(
        "--keep",
        callback=_kept,
        default="all",
        show_default=True,
        metavar="NAME[,NAME...]|all",
        help="Columns of Parquet, or of --texts, to print.",
    ),
    click.option("--json", "as_json", is_flag=True, help="Print JSON Lines."),
)


def row_options(function: _Function) -> _Function:
    """What the rows of a file are, and what is printed of them."""
    for option in reversed(_ROW_OPTIONS):
        function = option(function)
    return function


class Columns(Protocol):
    """The columns of each row that are printed."""

    def records(self, indices: NDArray[np.int64]) -> list[dict[str, Any]]:
        """Return those of the rows with these indices, in their order."""


def columns_of(
    vectors: StoredVectors, texts: str | None, keep: list[str] | None, own: Sequence[str]
) -> Columns:
    """Return the columns to print, none for vectors without any.

    Parameters
    ----------
    vectors : StoredVectors
    texts : str or None
        The file whose texts they were made of.
    keep : list of str or None
        The columns to print; None for all.
    own : sequence of str
        Names that the command prints itself.

    Raises
    ------
    ConfigurationError
        If there is no such column, or it has a name of `own`.
    """
    if texts is not None:
        return _TextFile(vectors, texts, keep or ["text"], own)
    if not isinstance(vectors.rows, ParquetRows):
        if keep is not None:
            raise ConfigurationError(
                f"{vectors.name} has no columns: give the file of its texts with --texts, or write "
                "Parquet with `embellama embed --keep`"
            )
        return _NoColumns()
    names = [name for name in vectors.rows.names if name not in OWN_COLUMNS]
    for name in keep or ():
        if name not in names:
            raise ConfigurationError(
                f"{vectors.name} has no column {name!r}: choose among "
                f"{', '.join(map(repr, names)) or 'none'}"
            )
    chosen = [name for name in (names if keep is None else keep) if name != vectors.rows.column]
    _check_names(vectors.name, chosen, own)
    return _ParquetColumns(vectors.rows, chosen)


def _check_names(name: str, columns: Sequence[str], own: Sequence[str]) -> None:
    for column in columns:
        if column in own:
            raise ConfigurationError(
                f"the column {column!r} of {name} has a name that the result needs: choose others "
                "with --keep"
            )


class _NoColumns:
    def records(self, indices: NDArray[np.int64]) -> list[dict[str, Any]]:
        return [{} for _ in indices]


class _ParquetColumns:
    def __init__(self, rows: ParquetRows, names: list[str]) -> None:
        self._rows = rows
        self._names = names

    def records(self, indices: NDArray[np.int64]) -> list[dict[str, Any]]:
        if not self._names:
            return [{} for _ in indices]
        wanted, places = np.unique(indices, return_inverse=True)
        found = self._rows.records(wanted, self._names)
        return [found[place] for place in places.reshape(-1)]


class _TextFile:
    """Columns of the file that the vectors were made of, which is read in order."""

    def __init__(
        self, vectors: StoredVectors, path: str, names: list[str], own: Sequence[str]
    ) -> None:
        _check_names(path, names, own)
        self._vectors = vectors
        self._path = path
        self._names = names
        self._corpus = Corpus(input_files([path], None), Selection(names[:1], keep=names))
        self._rows: Iterator[Row] = iter(())
        self._position = vectors.n_rows

    def records(self, indices: NDArray[np.int64]) -> list[dict[str, Any]]:
        wanted, places = np.unique(indices, return_inverse=True)
        if len(wanted) and wanted[0] < self._position:
            self._rows, self._position = iter(self._corpus), 0
        found = []
        for index in wanted.tolist():
            row = None
            while self._position <= index:
                row = next(self._rows, None)
                if row is None:
                    raise InvalidInputError(
                        f"{self._path} has {self._position} texts and {self._vectors.name} "
                        f"{self._vectors.n_rows} rows: name the file that the vectors were made of"
                    )
                self._position += 1
            assert row is not None
            found.append({name: row.kept.get(name) for name in self._names})
        return [found[place] for place in places.reshape(-1)]


def print_json(record: Mapping[str, Any]) -> None:
    """Print an object on a line."""
    values = {name: json_value(value) for name, value in record.items()}
    click.echo(json.dumps(values, ensure_ascii=False, allow_nan=False))


def print_plain(start: str, columns: Mapping[str, Any]) -> None:
    """Print a line: its start, then the columns, each without line breaks."""
    values = (json_value(value) for value in columns.values())
    shown = [
        " ".join((value if isinstance(value, str) else json.dumps(value)).split())
        for value in values
        if value is not None
    ]
    click.echo("  ".join([start, *shown]))
