# SPDX-License-Identifier: Apache-2.0
"""The input files that paths, patterns and folders of the command mean, and how to read each."""

from __future__ import annotations

import contextlib
import dataclasses
import glob
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import click

from embellama.cli.byte_streams import COMPRESSIONS, READ_ERRORS, open_bytes
from embellama.errors import EmbellamaError, InvalidInputError

__all__ = ["InputFile", "input_files", "reading"]

_SUFFIXES = {
    "": "lines",
    ".txt": "lines",
    ".text": "lines",
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".json": "json",
    ".jsonl": "jsonl",
    ".jsonlines": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
}


@dataclasses.dataclass(frozen=True)
class InputFile:
    """A file to read, and its format; standard input if it has no path."""

    path: str | None
    kind: str

    @property
    def name(self) -> str:
        """The name of the file in messages."""
        return "standard input" if self.path is None else self.path

    @property
    def is_compressed(self) -> bool:
        """Whether the file is compressed, by its name."""
        return Path(self.name).suffix.lower() in COMPRESSIONS

    @property
    def is_regular(self) -> bool:
        """Whether the file can be read twice."""
        return self.path is not None and os.path.isfile(self.path)

    def open(self) -> BinaryIO:
        """Open the file for reading, decompressed."""
        return sys.stdin.buffer if self.path is None else open_bytes(self.path)


def input_files(paths: Iterable[str], kind: str | None) -> list[InputFile]:
    """Find the files that paths, patterns and folders mean.

    Parameters
    ----------
    paths : iterable of str
        ``-`` is standard input.
    kind : str or None
        The format of the files; None to derive it from their names.

    Raises
    ------
    click.UsageError
        If there is no file, or a file's format is unknown.
    """
    files = []
    for path in paths:
        if path == "-":
            files.append(InputFile(None, kind or "lines"))
            continue
        path = os.path.expanduser(path)
        if os.path.isdir(path):
            files += _files_of_folder(path, kind)
        elif os.path.exists(path):
            files.append(InputFile(path, kind or _kind(path)))
        elif glob.has_magic(path):
            found = sorted(filter(os.path.isfile, glob.iglob(path, recursive=True)))
            if not found:
                raise click.UsageError(f"no file matches {path}")
            files += [InputFile(each, kind or _kind(each)) for each in found]
        else:
            raise click.UsageError(f"{path}: no such file")
    return files


def _suffix(path: str) -> str:
    """The suffix of a name, without the suffix of its compression."""
    name = Path(path)
    return (name.with_suffix("") if name.suffix.lower() in COMPRESSIONS else name).suffix.lower()


def _kind(path: str) -> str:
    suffix = _suffix(path)
    if suffix not in _SUFFIXES:
        raise click.UsageError(
            f"{path}: it is not known how to read {suffix}: say so with --input-format, such as "
            "lines for a text a line, or document for one text"
        )
    return _SUFFIXES[suffix]


def _files_of_folder(folder: str, kind: str | None) -> list[InputFile]:
    """Every file of the folder as a document, or all files with the suffix of `kind`."""
    paths = [
        os.path.join(parent, name) for parent, folders, names in _walk(folder) for name in names
    ]
    if kind is None:
        for path in paths:
            if _SUFFIXES.get(_suffix(path), "lines") != "lines":
                raise click.UsageError(
                    f"{folder} holds tables, such as {path}: --input-format says whether to read "
                    "their rows, or each file as a document"
                )
        kind = "document"
    if kind != "document":
        paths = [path for path in paths if _SUFFIXES.get(_suffix(path)) == kind]
    if not paths:
        raise click.UsageError(f"{folder} holds no file to read as {kind}")
    return [InputFile(path, kind) for path in paths]


def _walk(folder: str) -> Iterator[tuple[str, list[str], list[str]]]:
    """os.walk in the order of names, without hidden files and folders."""
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield parent, folders, sorted(name for name in names if not name.startswith("."))


@contextlib.contextmanager
def reading(file: InputFile) -> Iterator[BinaryIO]:
    """Open a file; if it can't be read, the error names it."""
    try:
        stream = file.open()
        # Standard input stays open.
        with stream if file.path is not None else contextlib.nullcontext():
            yield stream
    except EmbellamaError:
        raise
    except READ_ERRORS as error:
        reason = getattr(error, "strerror", None) or error
        raise InvalidInputError(f"{file.name} can't be read: {reason}") from error
