# SPDX-License-Identifier: Apache-2.0
"""The progress of a download that another library or process makes: how much lies on the disk."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from embellama.progress import print_notice, progress_bar

__all__ = ["download_bar", "print_obtained", "size_on_disk"]

_SECONDS_BETWEEN_LOOKS = 0.2


def size_on_disk(paths: Iterable[Path]) -> int:
    """Return the bytes of files, of which some may vanish meanwhile; links count for nothing."""
    total = 0
    for path in paths:
        with contextlib.suppress(OSError):
            total += 0 if path.is_symlink() or not path.is_file() else path.stat().st_size
    return total


@contextlib.contextmanager
def download_bar(
    name: str, size: Callable[[], int], total: int | None, show: bool
) -> Iterator[None]:
    """Show a progress bar of bytes while something is downloaded.

    Parameters
    ----------
    name : str
        What is downloaded.
    size : callable
        Returns the bytes that have come.
    total : int or None
        Bytes that will have come at the end; None if that is not known.
    show : bool
    """
    if not show:
        yield
        return
    ended = threading.Event()
    with progress_bar(True, total, unit="B", unit_scale=True, desc=name) as bar:

        def look() -> None:
            while not ended.wait(_SECONDS_BETWEEN_LOOKS):
                bar.advance_to(size() if total is None else min(size(), total))

        looking = threading.Thread(target=look, daemon=True)
        looking.start()
        try:
            yield
            finished = total
        except BaseException:
            finished = None
            raise
        finally:
            ended.set()
            looking.join()
        if finished is not None:
            bar.advance_to(finished)


def print_obtained(name: str, source: str, path: Path, show: bool) -> None:
    """Say in one line what was fetched and where it lies."""
    if show:
        n_bytes = path.stat().st_size
        print_notice(f"{name} came from {source}; it lies in {path} ({n_bytes / 1e6:,.1f} MB)")
