# SPDX-License-Identifier: Apache-2.0
"""A result that has its name only when it is complete, and the work done until then.

While it grows it is ``NAME.partial/rows``, beside ``job.json``, which says what makes it. A run
that was killed is continued by one with the same job.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import filelock

from embellama.errors import ConfigurationError

__all__ = ["PartialOutput", "file_identity", "partial_output"]


def file_identity(path: str | os.PathLike[str]) -> list[Any]:
    """What tells a file from another one or from a later state of itself."""
    state = os.stat(path)
    return [os.path.realpath(path), state.st_size, state.st_mtime_ns]


class PartialOutput:
    """The file to write into, and the step that turns it into the result.

    Attributes
    ----------
    file : BinaryIO
        Open for reading and writing; holds what an earlier run of the same job left.
    finish : callable
        Takes the path of the complete file, returns the path of the result.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.finish: Callable[[Path], Path] = lambda path: path


@contextlib.contextmanager
def partial_output(
    path: str, job: Mapping[str, Any] | None, *, restart: bool
) -> Iterator[PartialOutput]:
    """Give a file to write; on success it becomes `path`.

    Parameters
    ----------
    path : str
    job : Mapping or None
        What the result depends on, ready for JSON. None for what can't be read twice: nothing is
        kept of it when it fails.
    restart : bool
        Forget what an earlier run left.
    """
    target = Path(os.path.realpath(path))
    folder = target.with_name(f"{target.name}.partial")
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from None
    lock = filelock.FileLock(folder / "lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise ConfigurationError(f"another process is writing {path}: wait for it") from None
    try:
        rows = folder / "rows"
        if restart or job is None:
            rows.unlink(missing_ok=True)
        _claim(folder, path, job)
        with open(rows, "r+b" if rows.exists() else "w+b") as file:
            output = PartialOutput(file)
            yield output
        finished = output.finish(rows)
        if target.exists():
            shutil.copymode(target, finished)
        os.replace(finished, target)
        shutil.rmtree(folder)
    except BaseException:
        if job is None:
            shutil.rmtree(folder)
        raise
    finally:
        lock.release()


def _claim(folder: Path, path: str, job: Mapping[str, Any] | None) -> None:
    """Write down what is computed, or compare it with what the rows there are made by."""
    record = folder / "job.json"
    if (folder / "rows").exists():
        try:
            before = json.loads(record.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            before = {}
        # JSON has no tuples.
        now = json.loads(json.dumps(job))
        differing = [name for name in {**before, **now} if before.get(name) != now.get(name)]
        if differing:
            raise ConfigurationError(
                f"{folder} holds the beginning of another result ({', '.join(differing)} changed): "
                "give the same options to continue it, or --restart to begin anew"
            )
        return
    written = folder / "job.json.new"
    written.write_text(json.dumps(job, indent=2), encoding="utf-8")
    os.replace(written, record)
