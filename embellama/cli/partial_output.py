# SPDX-License-Identifier: Apache-2.0
"""A result that has its name only when it is complete, and the work done until then.

While it grows it is ``NAME.partial/rows``. Beside it, ``job.json`` says what makes it, and
``windows`` has a line for each window of rows that is complete: how many rows there are then, where
the window ends, and its SHA-256. A run that was killed is continued by one with the same job, from
the end of the last window whose bytes are those that were written.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from embellama.errors import ConfigurationError, EmbellamaError
from embellama.working_folder import clear, publish, working_folder

__all__ = ["PartialOutput", "file_identity", "not_written", "partial_output"]


def not_written(name: str, error: OSError) -> str:
    """What to say when a result can't be written."""
    return f"{name} can't be written ({error.strerror or error})"


def file_identity(path: str | os.PathLike[str]) -> list[Any]:
    """What tells a file from another one or from a later state of itself."""
    state = os.stat(path)
    return [os.path.realpath(path), state.st_size, state.st_mtime_ns]


class PartialOutput:
    """The file to write into.

    Parameters
    ----------
    file : BinaryIO
        Open for reading and writing.
    journal : BinaryIO
        Open for reading and writing; what is known of the windows in the file.
    folder : pathlib.Path
        Where both are.

    Attributes
    ----------
    file : BinaryIO
    result : pathlib.Path
        What becomes the result.
    """

    def __init__(self, file: BinaryIO, journal: BinaryIO, folder: Path) -> None:
        self.file = file
        self.result = folder / "rows"
        self._journal = journal
        self._end = 0

    def resume(self, start: int) -> int:
        """Cut off what an earlier run wrote after its last complete window.

        Parameters
        ----------
        start : int
            At which byte of the file the first window begins.

        Returns
        -------
        int
            How many rows there are. The file stands behind them.
        """
        size = self.file.seek(0, os.SEEK_END)
        self._end, n_rows, complete = start, 0, 0
        for line in self._journal:
            try:
                rows, end, digest = line.decode("ascii").removesuffix("\n").split(" ")
                if not (n_rows < int(rows) and self._end < int(end) <= size):
                    break
            except ValueError:
                break
            if self._digest(int(end)) != digest:
                break
            n_rows, self._end = int(rows), int(end)
            complete += len(line)
        for file, kept in ((self.file, self._end), (self._journal, complete)):
            file.truncate(kept)
            file.seek(kept)
        return n_rows

    def _digest(self, end: int) -> str:
        """The SHA-256 of the window from the last one's end to `end`."""
        digest = hashlib.sha256()
        self.file.seek(self._end)
        left = end - self._end
        while left and (block := self.file.read(min(left, 1 << 20))):
            digest.update(block)
            left -= len(block)
        return digest.hexdigest()

    def complete_window(self, n_rows: int) -> None:
        """Say that the file now holds so many rows, all written."""
        end = self.file.tell()
        line = f"{n_rows} {end} {self._digest(end)}\n"
        self.file.seek(end)
        self._journal.write(line.encode("ascii"))
        self._journal.flush()
        self._end = end

    def other_result(self) -> BinaryIO:
        """Open a file that becomes the result in place of the rows."""
        self.result = self.result.with_name("result")
        return open(self.result, "wb")


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

    Raises
    ------
    ConfigurationError
        If another process writes it, or an earlier run began something else there.
    OSError
        If it can't be written; the message names it and says what to do.
    """
    target = Path(os.path.realpath(path))

    def busy(folder: Path) -> NoReturn:
        raise ConfigurationError(f"another process is writing {path}: wait for it")

    try:
        with working_folder(target, busy, keep=job is not None) as folder:
            if restart or job is None or not _is_begun(folder, job):
                clear(folder)
                _describe(folder, job)
            with _open(folder / "rows") as rows, _open(folder / "windows") as journal:
                output = PartialOutput(rows, journal, folder)
                yield output
            if target.exists():
                shutil.copymode(target, output.result)
            publish(output.result, target)
    except (EmbellamaError, BrokenPipeError):
        raise
    except OSError as error:
        kept = "" if job is None else ", which goes on where this run was"
        raise OSError(
            f"{not_written(path, error)}: make room or give write access there, then give the same "
            f"command again{kept}"
        ) from error


def _open(path: Path) -> BinaryIO:
    """Open a file for reading and writing, whether it exists or not; but no other through it."""
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666), "r+b")


def _describe(folder: Path, job: Mapping[str, Any] | None) -> None:
    """Write down what is computed."""
    record = folder / "job.json"
    written = folder / "job.json.new"
    written.write_text(json.dumps(job, indent=2), encoding="utf-8")
    publish(written, record)


def _is_begun(folder: Path, job: Mapping[str, Any]) -> bool:
    """Whether what is in the folder is the beginning of the result of this job."""
    record = folder / "job.json"
    if not record.is_file():
        return False
    try:
        before = json.loads(record.read_text(encoding="utf-8"))
    except ValueError:
        before = {}
    if before is None:
        return False  # of what can't be read twice
    if not isinstance(before, dict):
        before = {}
    now = json.loads(json.dumps(job))  # JSON has no tuples
    differing = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    if differing:
        raise ConfigurationError(
            f"{folder} holds the beginning of another result ({', '.join(differing)} changed): "
            "give the same options to continue it, or --restart to begin anew"
        )
    return True
