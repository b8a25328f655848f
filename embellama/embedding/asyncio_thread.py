# SPDX-License-Identifier: Apache-2.0
"""Blocking calls for asyncio, on threads that delay neither the loop nor the process's end."""

from __future__ import annotations

import contextvars
import math
import threading
import time
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from embellama.embedding.deadline import Deadline
from embellama.errors import ResourceLimitError

if TYPE_CHECKING:
    import asyncio

__all__ = ["MOST_THREADS", "in_daemon_thread"]

# The most threads of one event loop, as many as asyncio's own executor has.
MOST_THREADS = 32

_Result = TypeVar("_Result")

_slots: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = (
    weakref.WeakKeyDictionary()
)


async def in_daemon_thread(call: Callable[[], _Result], deadline: Deadline) -> _Result:
    """Call a function on a thread of its own and wait for what it returns or raises.

    While `MOST_THREADS` threads of this event loop are at work it waits for one to end, but not
    beyond the deadline: then `call` starts and finds the deadline passed. :func:`asyncio.to_thread`
    does not serve here. The threads of its executor are joined before ``asyncio.run()`` returns and
    before the process ends, so a call that nobody waits for any more would delay both.
    """
    # Imported here: it takes longer than all of embellama, and most programs have no loop.
    import asyncio

    loop = asyncio.get_running_loop()
    slots = _slots.setdefault(loop, asyncio.Semaphore(MOST_THREADS))
    seconds = None if math.isinf(deadline.end) else max(0.0, deadline.end - time.monotonic())
    try:
        await asyncio.wait_for(slots.acquire(), seconds)
    except asyncio.TimeoutError:
        return await _in_thread(call)
    try:
        return await _in_thread(call)
    finally:
        slots.release()


async def _in_thread(call: Callable[[], _Result]) -> _Result:
    import asyncio
    from concurrent.futures import Future

    future: Future[_Result] = Future()
    # From here on it can't be cancelled, so that its result may always be set.
    future.set_running_or_notify_cancel()
    context = contextvars.copy_context()

    def run() -> None:
        try:
            result = context.run(call)
        except StopIteration as error:
            # An asyncio future refuses StopIteration, and the caller would wait for ever.
            raised = RuntimeError("what the call was given raised StopIteration")
            raised.__cause__ = error
            future.set_exception(raised)
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(result)

    try:
        threading.Thread(target=run, name="embellama", daemon=True).start()
    except RuntimeError as error:
        raise ResourceLimitError(f"a thread for the call can't be started: {error}") from None
    return await asyncio.wrap_future(future)
