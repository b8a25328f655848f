# SPDX-License-Identifier: Apache-2.0
"""How a call reports its progress: to a function, or by a bar on standard error."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

__all__ = [
    "Bar",
    "Progress",
    "print_notice",
    "progress_bar",
    "progress_callback",
    "stderr_is_terminal",
]

# True asks for a bar on standard error; a function is called with (done, total).
Progress = bool | Callable[[int, int], None]


def stderr_is_terminal() -> bool:
    """Whether a user may be watching standard error."""
    return _can_write() and sys.stderr.isatty()


def _can_write() -> bool:
    """False in a process without standard error, such as a service, or if it is closed."""
    return sys.stderr is not None and not sys.stderr.closed


def print_notice(message: str) -> None:
    """Print a message on standard error, if there is one."""
    if _can_write():
        with contextlib.suppress(OSError):
            print(f"embellama: {message}", file=sys.stderr)


class Bar:
    """A progress bar that never makes a call fail, whatever the state of standard error.

    Parameters
    ----------
    bar : tqdm.tqdm or None
        None if nothing is to be shown.
    """

    def __init__(self, bar: Any) -> None:
        self._bar = bar

    def advance_to(self, done: int) -> None:
        """Show that `done` of the total are done."""
        if self._bar is not None:
            self._draw(lambda: self._bar.update(done - self._bar.n))

    def close(self) -> None:
        """Close the bar; its last state stays visible."""
        if self._bar is not None:
            self._draw(self._bar.close)

    def _draw(self, draw: Callable[[], object]) -> None:
        try:
            draw()
        # tqdm raises ValueError if the stream was closed meanwhile.
        except (OSError, ValueError):
            self._bar.disable = True
            self._bar = None


@contextlib.contextmanager
def progress_bar(show: bool, total: int | None, **settings: Any) -> Iterator[Bar]:
    """Yield a bar, which draws nothing without `show` or without an open standard error.

    Parameters
    ----------
    show : bool
    total : int or None
        None if it is not known.
    **settings
        As tqdm takes them.
    """
    bar = None
    # A hidden tqdm bar is not an alternative: it also takes a lock that all forked processes
    # share, and a process that is killed never releases the lock.
    if show and _can_write():
        # Imported here: most programs show no bar, and tqdm takes a while.
        from tqdm.auto import tqdm

        with contextlib.suppress(OSError, ValueError):
            bar = tqdm(total=total, **settings)
    shown = Bar(bar)
    try:
        yield shown
    finally:
        shown.close()


@contextlib.contextmanager
def progress_callback(
    progress: Progress, total: int | None
) -> Iterator[Callable[[int, int], None] | None]:
    """Yield the function of (done, total) to call for `progress`; None if there is none to call.

    A bar shows `total`, if it is known.
    """
    if not isinstance(progress, bool):
        yield progress
    elif not progress or total in (0, 1):  # one text is done before a bar can be read
        yield None
    else:
        with progress_bar(True, total, unit=" texts") as bar:
            yield lambda done, total: bar.advance_to(done)
