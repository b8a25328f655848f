# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio
import threading

import numpy as np
import pytest

from embellama import (
    EmbeddingModel,
    InvalidInputError,
    OperationTimeoutError,
    ResourceLimitError,
)
from embellama.embedding.asyncio_thread import MOST_THREADS


def test_async_equals_sync(minilm: EmbeddingModel) -> None:
    async def main() -> None:
        np.testing.assert_allclose(await minilm.aembed("cats"), minilm.embed("cats"), atol=1e-6)
        rows = await minilm.aembed_batch(["cats", "dogs"], dtype="ubinary")
        np.testing.assert_array_equal(rows, minilm.embed_batch(["cats", "dogs"], dtype="ubinary"))
        with pytest.raises(InvalidInputError, match="text 1 is empty"):
            await minilm.aembed_batch(["a", ""])
        with pytest.raises(InvalidInputError, match="is empty"):
            await minilm.aembed("")

    asyncio.run(main())


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_stop_iteration_of_the_callers(minilm: EmbeddingModel) -> None:
    """asyncio takes no StopIteration as a result, and waited for ever."""

    def stop(done: int, total: int) -> None:
        raise StopIteration

    async def main() -> None:
        with pytest.raises(RuntimeError, match="StopIteration"):
            await asyncio.wait_for(minilm.aembed_batch(["a cat"] * 100, progress=stop), 20)
        assert (await minilm.aembed("works on")).shape == (384,)

    asyncio.run(main())


def test_no_thread_for_a_call(minilm: EmbeddingModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def main() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            with pytest.raises(ResourceLimitError, match="a thread for the call"):
                await minilm.aembed("a cat")
        assert (await minilm.aembed("works on")).shape == (384,)

    asyncio.run(main())


def test_the_event_loop_keeps_running(minilm: EmbeddingModel) -> None:
    async def main() -> int:
        task = asyncio.create_task(minilm.aembed_batch(["word " * 300] * 60))
        ticks = 0
        while not task.done():
            await asyncio.sleep(0.005)
            ticks += 1
        await task
        return ticks

    assert asyncio.run(main()) > 10


def test_cancelling_stops_the_work(minilm: EmbeddingModel) -> None:
    n_done = 0

    def count(done: int, total: int) -> None:
        nonlocal n_done
        n_done = done

    async def main() -> None:
        task = asyncio.create_task(minilm.aembed_batch(["word " * 400] * 3000, progress=count))
        await asyncio.sleep(0.3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        # The workers are free again; busy ones would finish the texts first.
        await minilm.aembed("works on")

    asyncio.run(main())
    assert n_done < 3000


def test_many_at_once(minilm: EmbeddingModel) -> None:
    async def main() -> list[np.ndarray]:
        return await asyncio.gather(*(minilm.aembed(f"text {i}") for i in range(40)))

    rows = asyncio.run(main())
    np.testing.assert_allclose(
        rows, minilm.embed_batch([f"text {i}" for i in range(40)]), atol=2e-3
    )


def test_thousands_at_once_take_a_bounded_number_of_threads(minilm: EmbeddingModel) -> None:
    most = 0

    async def count() -> None:
        nonlocal most
        while True:
            most = max(most, threading.active_count())
            await asyncio.sleep(0)

    async def main() -> list[np.ndarray]:
        counting = asyncio.create_task(count())
        try:
            return await asyncio.gather(*(minilm.aembed(f"text {i % 50}") for i in range(2000)))
        finally:
            counting.cancel()

    before = threading.active_count()
    rows = asyncio.run(main())
    assert len(rows) == 2000
    # A thread that has given its result may live for a moment beside the next one.
    assert 2 < most - before <= 2 * MOST_THREADS


def test_a_call_that_finds_no_thread_ends_at_its_time(minilm: EmbeddingModel) -> None:
    async def main() -> None:
        long = [
            asyncio.create_task(minilm.aembed_batch(["word " * 400] * 3000))
            for _ in range(MOST_THREADS)
        ]
        await asyncio.sleep(0)
        try:
            with pytest.raises(OperationTimeoutError):
                await minilm.aembed_batch(["a cat"], timeout=0.2)
            assert not any(task.done() for task in long)
        finally:
            for task in long:
                task.cancel()
            await asyncio.gather(*long, return_exceptions=True)
        await minilm.aembed("works on")

    asyncio.run(main())
