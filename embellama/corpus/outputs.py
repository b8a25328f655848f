# SPDX-License-Identifier: Apache-2.0
"""The files of vectors of a corpus: a Parquet file a unit, complete if it is there.

The footer of each says what it holds. So the file and its record appear in one step, and a
manifest is read from the files: nothing else has to be kept in step with them.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import fsspec
import numpy as np
import pyarrow
import pyarrow.parquet

from embellama.arrow import result_columns, vectors_of
from embellama.corpus.units import Unit
from embellama.errors import ConfigurationError
from embellama.files.known_rows import KnownRows, content_digests
from embellama.results import EmbeddingResult

__all__ = ["OWN_COLUMNS", "Outputs", "UnitWriter", "output_name", "settings_digest"]

OWN_COLUMNS = ("source", "row", "content", "n_tokens", "truncated", "error", "embedding")

_RECORD = b"embellama"
_NAME = re.compile(r"-(?P<settings>[0-9a-f]{12})\.parquet$")
# What is put there appears in one step.
_OBJECT_STORES = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "memory"}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]


def settings_digest(settings: Mapping[str, Any]) -> str:
    """Return what names of outputs say of the settings."""
    return _digest(json.dumps(settings, sort_keys=True))


def output_name(unit: Unit, settings: str) -> str:
    """Return the name of a unit's file, the same in every process and every run."""
    stem = PurePosixPath(unit.source).name.partition(".")[0][:100]
    return f"{stem}-{unit.number:05d}-{_digest(unit.source)}-{settings}.parquet"


class UnitWriter:
    """Writes the rows of a unit, and in the end the record of them.

    Parameters
    ----------
    file : BinaryIO
        Empty.
    unit : Unit
    """

    def __init__(self, file: BinaryIO, unit: Unit) -> None:
        self._file = file
        self._unit = unit
        self._writer: Any = None
        self._contents, self._vectors = hashlib.sha256(), hashlib.sha256()
        self.counts = {"rows": 0, "errors": 0, "tokens": 0}

    def append(self, texts: list[str | None], result: EmbeddingResult, kept: pyarrow.Table) -> None:
        """Write the rows of the next texts of the unit."""
        n_rows = self.counts["rows"]
        first = self._unit.first_row + n_rows
        digests = content_digests(texts)
        contents = pyarrow.Array.from_buffers(
            pyarrow.binary(16), len(texts), [None, pyarrow.py_buffer(digests)]
        )
        columns = {
            "source": pyarrow.repeat(self._unit.source, len(texts)),
            "row": pyarrow.array(np.arange(first, first + len(texts))),
            **dict(zip(kept.column_names, kept.columns, strict=True)),
            "content": contents,
        }
        computed = result_columns(result)
        embedding = computed.pop("embedding")
        table = pyarrow.table({**columns, **computed, "embedding": embedding})
        if self._writer is None:
            self._writer = pyarrow.parquet.ParquetWriter(self._file, table.schema)
        self._writer.write_table(table, row_group_size=max(1, len(texts)))
        self._contents.update(digests.data)
        self._vectors.update(np.ascontiguousarray(result.embeddings).data)
        self.counts["rows"] += len(texts)
        self.counts["errors"] += len(texts) - computed["error"].null_count
        self.counts["tokens"] += int(result.token_counts.sum())

    def complete(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """Write the record, with what was counted, and return it."""
        whole = {
            **record,
            **self.counts,
            "content_sha256": self._contents.hexdigest(),
            "vectors_sha256": self._vectors.hexdigest(),
        }
        self._writer.add_key_value_metadata({_RECORD.decode(): json.dumps(whole)})
        self._writer.close()
        return whole


class Outputs:
    """The folder of the files of vectors, on a local disk or on any file system of fsspec.

    Parameters
    ----------
    folder : str
        A path or a URL.
    options : Mapping
        What fsspec needs to reach it.
    """

    def __init__(self, folder: str, options: Mapping[str, Any]) -> None:
        self._files, self._root = fsspec.url_to_fs(folder, **options)
        protocols = self._files.protocol
        self._protocols = {protocols} if isinstance(protocols, str) else set(protocols)
        self.name: str = self._files.unstrip_protocol(self._root)

    @property
    def local_folder(self) -> Path | None:
        """The folder, if it is on a local disk."""
        return Path(self._root) if "file" in self._protocols else None

    def make(self) -> None:
        """Make the folder."""
        self._files.makedirs(self._root, exist_ok=True)

    def names(self) -> list[str]:
        """Return the names of the files that are there, sorted."""
        self._files.invalidate_cache()
        if not self._files.exists(self._root):
            return []
        found = (PurePosixPath(path).name for path in self._files.ls(self._root, detail=False))
        return sorted(name for name in found if _NAME.search(name))

    def path(self, name: str) -> str:
        """Return the path of a file, as its file system spells it."""
        return f"{self._root.rstrip('/')}/{name}"

    def record(self, name: str) -> dict[str, Any] | None:
        """Return what the footer of a file says; None if the file is missing.

        Raises
        ------
        ConfigurationError
            If a file of that name is something else.
        """
        self._files.invalidate_cache()  # what other processes have written since
        try:
            with self._files.open(self.path(name), "rb") as stream:
                metadata = pyarrow.parquet.read_metadata(stream).metadata or {}
            record: dict[str, Any] = json.loads(metadata[_RECORD])
        except FileNotFoundError:
            return None
        except (KeyError, ValueError, pyarrow.ArrowException) as error:
            raise ConfigurationError(
                f"{self.name}/{name} is no file of vectors that embellama has written "
                f"({error}): remove it, and it is computed again"
            ) from None
        return record

    def other_settings(self, settings: str) -> str | None:
        """Return the name of a file that was made with other settings, if there is one."""
        for name in self.names():
            match = _NAME.search(name)
            if match is not None and match["settings"] != settings:
                return name
        return None

    def known_rows(self, name: str) -> KnownRows | None:
        """Return the rows of a file; None if the file is missing or damaged."""
        record = self.record(name)
        if record is None or not self.is_as_recorded(name, record):
            return None
        with self._files.open(self.path(name), "rb") as stream:
            columns = ["content", "n_tokens", "truncated", "error", "embedding"]
            table = pyarrow.parquet.ParquetFile(stream).read(columns)
        contents = b"".join(table["content"].to_pylist())
        return KnownRows(
            np.frombuffer(contents, dtype="<u8").reshape(-1, 2),
            vectors_of(table["embedding"]),
            table["n_tokens"].to_numpy(),
            table["truncated"].to_numpy(),
            table["error"].is_null().to_numpy(),
        )

    def is_as_recorded(self, name: str, record: Mapping[str, Any]) -> bool:
        """Read a whole file, and say whether its rows are those that its record counts."""
        contents, vectors, n_rows = hashlib.sha256(), hashlib.sha256(), 0
        try:
            with self._files.open(self.path(name), "rb") as stream:
                file = pyarrow.parquet.ParquetFile(stream)
                for number in range(file.num_row_groups):
                    table = file.read_row_group(number, columns=["content", "embedding"])
                    contents.update(b"".join(table["content"].to_pylist()))
                    vectors.update(vectors_of(table["embedding"]).data)
                    n_rows += table.num_rows
        except (OSError, ValueError, pyarrow.ArrowException):
            return False
        found = (n_rows, contents.hexdigest(), vectors.hexdigest())
        return found == (record["rows"], record["content_sha256"], record["vectors_sha256"])

    def n_bytes(self, name: str) -> int:
        """Return the size of a file."""
        return int(self._files.size(self.path(name)))

    def put(self, made: Path, name: str) -> None:
        """Copy a complete local file to its place, where it appears in one step."""
        if self._protocols & _OBJECT_STORES:
            self._files.put_file(str(made), self.path(name))
        else:
            aside = self.path(f".{name}.{os.getpid()}")
            self._files.put_file(str(made), aside)
            self._files.mv(aside, self.path(name))
