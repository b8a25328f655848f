# SPDX-License-Identifier: Apache-2.0
"""What a waiting call does every 50 ms: tell the progress."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

__all__ = ["Progress", "progress_callback"]

# True for a bar on standard error, or a function of (done, total).
Progress = bool | Callable[[int, int], None]


@contextlib.contextmanager
def progress_callback(
    progress: Progress, total: int
) -> Iterator[Callable[[int, int], None] | None]:
    """Make one function of (done, total) of what the caller asked for; None for nothing to do."""
    with contextlib.ExitStack() as stack:
        tell = None if isinstance(progress, bool) else progress
        if progress is True:
            # Imported here: most programs show no bar, and tqdm takes a while.
            from tqdm.auto import tqdm

            bar = stack.enter_context(tqdm(total=total, unit=" texts"))

            def tell(done: int, total: int) -> None:
                bar.update(done - bar.n)

        yield tell
