# SPDX-License-Identifier: Apache-2.0
"""How a GGUF file gets into the cache: a checkpoint is converted and recorded, each step atomic.

Unfinished files are in a working folder beside the complete ones, and are renamed when they are
complete. A run that was killed therefore continues after its last complete stage. Only one thread
of one process works at a time.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import importlib.metadata
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from embellama.convert import FILE_TYPES
from embellama.convert.checkpoint import convert_completed
from embellama.convert.sentence_transformers import SentenceTransformers
from embellama.errors import EmbellamaError, ModelLoadError
from embellama.files.checksum import is_as_recorded, record_path, sha256_record
from embellama.files.working_folder import publish, waiting_notice, working_folder
from embellama.gguf.reader import read_header
from embellama.obtaining.default_type import DEFAULT_TYPES, is_intact_default
from embellama.obtaining.known_models import CatalogEntry
from embellama.progress import stderr_is_terminal

__all__ = ["cache_folder", "make_gguf", "publish_gguf", "publish_source", "remove", "require_space"]

# enum llama_pooling_type, llama.h; a classification head shows that a model ranks.
_POOLING_TYPES = {"mean": 1, "cls": 2, "last": 3}


def make_gguf(
    name: str,
    gguf: Path,
    file_type: str | None,
    checkpoint: Callable[[Path, bool], Path],
    *,
    entry: CatalogEntry | None,
    progress: bool,
    keep: Callable[[Path], bool] = lambda folder: False,
) -> Path:
    """Make a GGUF file of the cache from a checkpoint.

    Parameters
    ----------
    name : str
        What messages call the model.
    gguf : pathlib.Path
        The file to make. Its name ends with its type; without a type, with F16.
    file_type : str or None
        A key of :data:`embellama.convert.FILE_TYPES`; None for the converter's choice.
    checkpoint : callable
        Called with the working folder and whether to show progress; returns the directory of the
        checkpoint.
    entry : CatalogEntry or None
        The known model, whose prompts go into the file where its checkpoint has none.
    progress : bool
        Show a progress bar when standard error is a terminal.
    keep : callable, optional
        As :func:`embellama.files.working_folder.working_folder` takes it.

    Returns
    -------
    pathlib.Path
        `gguf`, or the file beside it with the type that the converter chose.

    Raises
    ------
    EmbellamaError
        As `checkpoint` and the conversion raise it; ModelLoadError if the cache can't be written.
    """
    with cache_folder(name, gguf, progress=progress, keep=keep) as folder:
        types = (file_type,) if file_type else DEFAULT_TYPES
        stem = gguf.name.removesuffix(f"-{types[0]}.gguf")
        files = {kind: gguf.with_name(f"{stem}-{kind}.gguf") for kind in types}
        is_intact = is_as_recorded if file_type else is_intact_default
        found = next(filter(is_intact, files.values()), None)
        if found is None:
            show = progress and stderr_is_terminal()
            source = checkpoint(folder, show)
            made = folder / gguf.name
            try:
                convert_completed(
                    source,
                    made,
                    lambda settings: _with_entry(settings, entry),
                    file_type=file_type,
                    progress=show,
                )
            except ModelLoadError as error:
                if isinstance(error.__cause__, OSError):
                    raise error.__cause__ from None  # reported in terms of the cache
                raise
            number = read_header(made).metadata["general.file_type"]
            found = next(files[kind] for kind in types if FILE_TYPES[kind] == number)
            publish_gguf(made, found)
        return found


def _with_entry(settings: SentenceTransformers, entry: CatalogEntry | None) -> SentenceTransformers:
    """Add what the catalog knows of a model, so that a copy of its file has it too."""
    if entry is None:
        return settings
    known = {"query": entry.query_prompt, "document": entry.document_prompt}
    added = {
        name: prompt for name, prompt in known.items() if prompt and not settings.prompts.get(name)
    }
    return dataclasses.replace(
        settings,
        pooling_type=settings.pooling_type or _POOLING_TYPES.get(entry.pooling),
        prompts=settings.prompts | added,
        layer_norm_before_cut=entry.layer_norm_before_cut,
    )


@contextlib.contextmanager
def cache_folder(
    name: str,
    gguf: Path,
    *,
    progress: bool,
    keep: Callable[[Path], bool] = lambda folder: False,
) -> Iterator[Path]:
    """Give the working folder in which a GGUF file of the cache is made.

    Parameters
    ----------
    name, gguf, progress, keep
        As :func:`make_gguf`.

    Raises
    ------
    ModelLoadError
        If the cache can't be written.
    """
    directory = gguf.parent
    busy = waiting_notice(f"obtains {name}", show=progress)
    try:
        # `embellama rm` may remove the directory while this waits.
        with working_folder(directory / directory.name, busy, keep=keep, parents=True) as folder:
            yield folder
    except EmbellamaError:
        raise
    except OSError as error:
        stale = f"{gguf.name} is not as it was made, and now: " if os.path.lexists(gguf) else ""
        raise ModelLoadError(
            f"{stale}cannot keep {name} in {directory}: {error}; make room or give write "
            "access, or set the environment variable EMBELLAMA_CACHE to another directory"
        ) from error


def publish_gguf(made: Path, gguf: Path) -> None:
    """Give a complete GGUF file its name, and write its record."""
    record = record_path(gguf)
    # A killed run must not leave the old file beside the checksum of the new one.
    remove(gguf)
    record_path(made).write_text(sha256_record(made, gguf.name), encoding="utf-8")
    remove(record)
    publish(record_path(made), record)
    publish(made, gguf)


def publish_source(scratch: Path, directory: Path, readme: Path | None, **source: Any) -> None:
    """Write where a model came from, and the authors' own page.

    Parameters
    ----------
    scratch : pathlib.Path
        The working folder.
    directory : pathlib.Path
        The model's directory in the cache.
    readme : pathlib.Path or None
        The authors' page.
    **source
        What :func:`embellama.catalog.provenance` returns, without date and version.
    """
    source_record = scratch / "SOURCE.json"
    source["obtained_on"] = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    source["embellama_version"] = importlib.metadata.version("embellama")
    source_record.write_text(json.dumps(source, indent=2) + "\n", encoding="utf-8")
    files = [source_record]
    if readme is not None:
        files.append(scratch / "README.md")
        shutil.copyfile(readme, files[-1])
    for file in files:
        remove(directory / file.name)
        publish(file, directory / file.name)


def remove(path: Path) -> None:
    """Remove the file, link or folder that has one of the cache's own names."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def require_space(directory: Path, n_bytes: int, name: str, variable: str) -> None:
    """Raise ModelLoadError unless a file system has room.

    Parameters
    ----------
    directory : pathlib.Path
        Where files will be written; it need not exist yet.
    n_bytes : int
        How many.
    name : str
        What messages call the model.
    variable : str
        The environment variable that names another directory.
    """
    existing = next(path for path in (directory, *directory.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if free < n_bytes:
        raise ModelLoadError(
            f"{name} needs {n_bytes / 1e6:,.0f} MB in {directory}, where {free / 1e6:,.0f} MB are "
            f"free: make room, or set the environment variable {variable} to another directory"
        )
