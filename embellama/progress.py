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

# True for a bar on standard error, or a function of (done, total).
Progress = bool | Callable[[int, int], None]


def stderr_is_terminal() -> bool:
    """Whether somebody may be watching."""
    return _can_write() and sys.stderr.isatty()


def _can_write() -> bool:
    """False in a process without standard error, such as a service, or where it is closed."""
    return sys.stderr is not None and not sys.stderr.closed


def print_notice(message: str) -> None:
    """Write a line to standard error, where there is one."""
    if _can_write():
        with contextlib.suppress(OSError):
            print(f"embellama: {message}", file=sys.stderr)


class Bar:
    """A progress bar that no state of standard error can turn into an error of the call.

    Parameters
    ----------
    bar : tqdm.tqdm or None
        None for no bar.
    """

    def __init__(self, bar: Any) -> None:
        self._bar = bar

    def advance_to(self, done: int) -> None:
        """Show that so much is done."""
        if self._bar is not None:
            self._draw(lambda: self._bar.update(done - self._bar.n))

    def close(self) -> None:
        """Leave the bar as it stands."""
        if self._bar is not None:
            self._draw(self._bar.close)

    def _draw(self, draw: Callable[[], object]) -> None:
        try:
            draw()
        # tqdm raises ValueError where the stream was closed meanwhile.
        except (OSError, ValueError):
            self._bar.disable = True
            self._bar = None


@contextlib.contextmanager
def progress_bar(show: bool, total: int | None, **settings: Any) -> Iterator[Bar]:
    """Give a bar, which draws nothing unless `show`, nor where standard error is missing or closed.

    Parameters
    ----------
    show : bool
    total : int or None
        None if it is not known.
    **settings
        As tqdm takes them.
    """
    bar = None
    # No bar that is hidden: even that takes a lock which all forked processes share, and one that
    # is killed never gives it back.
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
    progress: Progress, total: int
) -> Iterator[Callable[[int, int], None] | None]:
    """Make one function of (done, total) of what the caller asked for; None for nothing to do."""
    if not isinstance(progress, bool):
        yield progress
    elif not progress or total <= 1:  # one text is done before a bar can be read
        yield None
    else:
        with progress_bar(True, total, unit=" texts") as bar:
            yield lambda done, total: bar.advance_to(done)
