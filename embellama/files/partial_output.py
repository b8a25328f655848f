# SPDX-License-Identifier: Apache-2.0
"""A file of vectors that has its name only when it is complete, and the work done until then.

While it grows it is ``NAME.partial/result``, which each run writes from its beginning. Beside it
are the rows that are finished, and ``job.json``, which says what bears on them. A run that was
stopped is continued by one for which all of that is the same, whatever happened to the input.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import DTypeLike

from embellama.errors import ConfigurationError, EmbellamaError
from embellama.files.finished_rows import FinishedRows, has_finished_rows, open_for_update
from embellama.files.working_folder import clear, publish, working_folder

__all__ = ["PartialOutput", "differing_settings", "not_written", "partial_output"]


def not_written(name: str, error: OSError) -> str:
    """Return the message for a result that can't be written."""
    return f"{name} can't be written ({error.strerror or error})"


class PartialOutput:
    """The file to write, and the rows that are finished.

    Attributes
    ----------
    folder : pathlib.Path
        Where all of it is.
    file : BinaryIO
        Empty, and open for reading and writing.
    finished : FinishedRows
    """

    def __init__(self, folder: Path, file: BinaryIO, finished: FinishedRows) -> None:
        self.folder = folder
        self.file = file
        self.finished = finished


@contextlib.contextmanager
def partial_output(
    path: str | os.PathLike[str],
    settings: Mapping[str, Any],
    width: int,
    *,
    max_tokens: int | None = None,
    vector_type: DTypeLike = np.float32,
    restart: bool = False,
    wait: bool = False,
    folder: Path | None = None,
) -> Iterator[PartialOutput]:
    """Give a file to write; on success it becomes `path`.

    On failure the rows that are finished are kept for the next run.

    Parameters
    ----------
    path : str or os.PathLike
    settings : Mapping
        What a vector depends on beside its text and where that is cut, ready for JSON.
    width : int
        Values of a vector.
    max_tokens : int or None, optional
        At how many tokens texts are cut. Default: None, a text that is too long is an error.
    vector_type : dtype_like, optional
        Type of these values. Default: float32.
    restart : bool, optional
        Forget what an earlier run left (default False).
    wait : bool, optional
        Wait for another process that writes it, instead of raising (default False).
    folder : pathlib.Path, optional
        Where to keep it until it is complete, on the same file system. Default: ``PATH.partial``.

    Raises
    ------
    ConfigurationError
        If another process writes it, or the rows that an earlier run finished are others.
    OSError
        If it can't be written; the message names it and says what to do.
    """
    target = Path(os.path.realpath(os.path.expanduser(path)))

    def busy(folder: Path) -> None:
        if not wait:
            raise ConfigurationError(f"another process is writing {path}: wait for it")

    try:
        with working_folder(target, busy, keep=has_finished_rows, folder=folder) as folder:
            if restart or not _is_begun(folder, settings):
                clear(folder)
                _describe(folder, settings)
            result = folder / "result"
            with (
                open_for_update(result) as file,
                FinishedRows(folder, width, max_tokens, vector_type) as finished,
            ):
                file.truncate()
                yield PartialOutput(folder, file, finished)
            if target.exists():
                shutil.copymode(target, result)
            publish(result, target)
    except (EmbellamaError, BrokenPipeError):
        raise
    except OSError as error:
        raise OSError(
            f"{not_written(str(path), error)}: make room or give write access there, then run the "
            "same again, which goes on where this run was"
        ) from error


def differing_settings(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return the names of settings that are not what a record in JSON says."""
    now = json.loads(json.dumps(now))  # JSON has no tuples
    return [name for name in {**before, **now} if before.get(name) != now.get(name)]


def _describe(folder: Path, settings: Mapping[str, Any]) -> None:
    """Write down what the rows depend on."""
    written = folder / "job.json.new"
    written.write_text(json.dumps(settings, indent=2), encoding="utf-8")
    publish(written, folder / "job.json")


def _is_begun(folder: Path, settings: Mapping[str, Any]) -> bool:
    """Whether the rows in the folder may be continued with these settings."""
    if not has_finished_rows(folder):
        return False
    record, before = folder / "job.json", None
    if record.is_file():  # a pipe of that name would wait for somebody to write
        with contextlib.suppress(ValueError):
            before = json.loads(record.read_text(encoding="utf-8"))
    if not isinstance(before, dict):
        before = {}
    if differing := differing_settings(before, settings):
        raise ConfigurationError(
            f"{folder} holds rows of another result ({', '.join(differing)} changed): give the "
            "same settings to go on with it, or restart=True (--restart) to begin anew"
        )
    return True
