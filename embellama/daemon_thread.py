# SPDX-License-Identifier: Apache-2.0
"""Blocking calls for asyncio, on threads that hold up nothing."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from typing import TypeVar

__all__ = ["in_daemon_thread"]

_Result = TypeVar("_Result")


async def in_daemon_thread(call: Callable[[], _Result]) -> _Result:
    """Call a function on a thread of its own and wait for what it returns or raises.

    Unlike :func:`asyncio.to_thread`: an executor's threads are joined before the process ends and
    before ``asyncio.run()`` returns, so a call that nobody waits for any more would delay both.
    """
    # Imported here: it takes longer than all of embellama, and most programs have no loop.
    import asyncio
    from concurrent.futures import Future

    future: Future[_Result] = Future()
    # From here on it can't be cancelled, so that its result may always be set.
    future.set_running_or_notify_cancel()
    context = contextvars.copy_context()

    def run() -> None:
        try:
            result = context.run(call)
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(result)

    threading.Thread(target=run, name="embellama", daemon=True).start()
    return await asyncio.wrap_future(future)
