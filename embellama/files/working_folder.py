# SPDX-License-Identifier: Apache-2.0
"""The folder beside a file in which that file is made, by one process and thread at a time.

A run that is killed leaves it to the next one, which goes on with what it finds or clears it away.
A file in it gets its name, in one step, when it is complete.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import filelock

from embellama.errors import ConfigurationError
from embellama.progress import print_notice

__all__ = ["clear", "publish", "waiting_notice", "working_folder"]

_LOCK = "lock"


@contextlib.contextmanager
def working_folder(
    target: Path,
    busy: Callable[[Path], None],
    *,
    keep: Callable[[Path], bool] = lambda folder: False,
    folder: Path | None = None,
    parents: bool = False,
) -> Iterator[Path]:
    """Give the folder ``TARGET.partial``, and remove it afterwards.

    Parameters
    ----------
    target : pathlib.Path
        What is made there.
    busy : callable
        Called with the folder if another process or thread has it; waits for that unless it raises.
    keep : callable, optional
        Called with the folder when the work has failed: whether a later run can go on from there.
        Default: the folder is removed.
    folder : pathlib.Path, optional
        Another folder on the same file system.
    parents : bool, optional
        Whether to make the directories above it where they are missing, as they are after somebody
        removed them while this waited. Default False.

    Raises
    ------
    ConfigurationError
        If a file is where the folder should be.
    OSError
        If the folder can't be written.
    """
    folder = folder or target.with_name(f"{target.name}.partial")
    lock = _locked(folder, busy, parents=parents)
    try:
        yield folder
    except BaseException:
        if not keep(folder):
            _remove(folder)
        raise
    else:
        _remove(folder)
    finally:
        lock.release()


def waiting_notice(work: str, *, show: bool) -> Callable[[Path], None]:
    """Return what :func:`working_folder` may call as `busy`: it says what is waited for.

    Parameters
    ----------
    work : str
        What the other process does, such as ``"writes model.gguf"``.
    show : bool
        Whether to say anything.
    """

    def busy(folder: Path) -> None:
        if show:
            print_notice(f"waiting for another process that {work} ({folder})")

    return busy


def _locked(folder: Path, busy: Callable[[Path], None], *, parents: bool) -> filelock.BaseFileLock:
    has_reported = False
    while True:
        # Not exist_ok=True, which raises if somebody removes the folder meanwhile.
        with contextlib.suppress(FileExistsError):
            folder.mkdir(parents=parents)
        if _is_something_else(folder):
            raise ConfigurationError(
                f"{folder} is no folder, and work in progress needs one of that name: move it away"
            )
        lock = filelock.FileLock(folder / _LOCK)
        # Whoever had the folder is done with it and has removed it: the lock's mkdir(exist_ok=True)
        # raises FileExistsError if that happens within it.
        with contextlib.suppress(FileNotFoundError, FileExistsError):
            try:
                lock.acquire(timeout=0)
            except filelock.Timeout:
                if not has_reported:
                    busy(folder)
                    has_reported = True
                lock.acquire()
            return lock


def _is_something_else(folder: Path) -> bool:
    # One look, because the folder may go away between two.
    try:
        return not stat.S_ISDIR(folder.stat().st_mode)
    except FileNotFoundError:
        return folder.is_symlink()


def clear(folder: Path, *, keep: str = _LOCK) -> None:
    """Remove what a killed run left in a working folder, but for the entry `keep`."""
    with os.scandir(folder) as scanned:
        entries = list(scanned)
    for entry in entries:
        if entry.name in (_LOCK, keep):
            continue
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path)
        else:
            # Whoever waits for the lock may make and remove a probe here (filelock's UnixFileLock,
            # _probe_directory).
            Path(entry.path).unlink(missing_ok=True)


def _remove(folder: Path) -> None:
    with contextlib.suppress(FileNotFoundError):  # somebody else removed it
        clear(folder)
        (folder / _LOCK).unlink()
        # Another process may have made a lock there since.
        with contextlib.suppress(OSError):
            folder.rmdir()


def publish(made: Path, target: Path) -> None:
    """Give a complete file its name, so that a power cut leaves the old file or the new one whole.

    Parameters
    ----------
    made, target : pathlib.Path
        On one file system.
    """
    with made.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(made, target)
