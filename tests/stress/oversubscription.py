# SPDX-License-Identifier: Apache-2.0
"""A lone text's team of threads and batches, where far more threads than cores want to run.

Looks for a call that hangs or starves, for a wrong row, and for a child process or an end of the
process that does not come: the program forks amid the calls, and ends amid them::

    python tests/stress/oversubscription.py --seconds 300
    python tests/stress/oversubscription.py --seconds 300 --cores 1
    python tests/stress/oversubscription.py --seconds 300 --neighbours 4
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np

from embellama import EmbeddingModel, EmbellamaError, ModelConfig
from embellama.embedding.verification import tolerance
from embellama.machine.cores import usable_cores

LONE = "a lone text of some length " * 12
BATCH = ["word " * n for n in (3, 30, 300)] * 8
# A call may take this many times what half the calls take at most, or this long: what a loaded
# system does to a process for a moment is no starvation.
MOST_MEDIANS = 100
LEAST_SECONDS = 5.0
FORK_EVERY_SECONDS = 3.0
CHILD_SECONDS = 240


class Calls:
    """Calls of one kind: how long they took, and whether they were right."""

    def __init__(self, name: str, call: Callable[[], np.ndarray], allowed: float) -> None:
        self.name = name
        self.call = call
        self.allowed = allowed
        self.expected = call()
        self.seconds: list[float] = []
        self.wrong = 0

    def once(self) -> None:
        start = time.monotonic()
        found = self.call()
        self.seconds.append(time.monotonic() - start)
        cosines = (np.float64(found) * self.expected).sum(axis=-1)
        self.wrong += not np.all(1 - cosines <= self.allowed)

    def report(self) -> bool:
        seconds = np.array(self.seconds)
        median, late, worst = np.quantile(seconds, [0.5, 0.99, 1])
        starved = worst > max(MOST_MEDIANS * median, LEAST_SECONDS)
        print(
            f"{self.name}: {len(seconds)} calls, {self.wrong} wrong, median {median * 1e3:.1f} ms, "
            f"99 % within {late * 1e3:.1f} ms, the longest {worst * 1e3:.1f} ms"
            f"{': STARVED' if starved else ''}"
        )
        return not starved and self.wrong == 0


@contextlib.contextmanager
def neighbours(number: int) -> Iterator[None]:
    """Processes that want a core each."""
    with contextlib.ExitStack() as stack:
        for _ in range(number):
            process = stack.enter_context(
                subprocess.Popen([sys.executable, "-c", "while True: pass"])
            )
            stack.callback(process.kill)
        yield


def fork(model: EmbeddingModel, kinds: list[Calls]) -> int:
    """Fork, have the child compute and end, and return its exit code."""
    child = os.fork()
    if child == 0:
        signal.alarm(CHILD_SECONDS)
        for calls in kinds:
            calls.once()
        model.unload()
        sys.exit(sum(calls.wrong for calls in kinds))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def until_the_end(call: Callable[[], np.ndarray]) -> None:
    with contextlib.suppress(EmbellamaError):
        while True:
            call()


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--cores", type=int, help="leave the process only so many")
    parser.add_argument("--neighbours", type=int, default=0, help="busy processes beside it")
    parser.add_argument("--instruction-set", help="llama.cpp to leave the encoder out")
    options = parser.parse_args()
    faulthandler.enable()
    # Not dump_traceback_later(), for whose thread a child would wait when it ends.
    faulthandler.register(signal.SIGALRM, chain=True)
    signal.alarm(int(options.seconds) + 2 * CHILD_SECONDS)
    if options.cores:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.cores])
    n_threads = 4 * usable_cores()
    model = EmbeddingModel(
        ModelConfig(
            "all-MiniLM-L6-v2", n_threads=n_threads, instruction_set=options.instruction_set
        )
    )
    allowed = tolerance(model.info.file_type, model.core_model.instruction_set)
    lone = Calls("lone text", lambda: model.embed(LONE), allowed)
    batch = Calls("batch", lambda: model.embed_batch(BATCH), allowed)
    stop = threading.Event()

    def embed_lone() -> None:
        while not stop.is_set():
            lone.once()

    def embed_batches() -> None:
        # With pauses, in which the lone text has the team to itself.
        while not stop.wait(batch.seconds[-1] if batch.seconds else 0):
            batch.once()

    threads = [
        threading.Thread(target=target, daemon=True)
        for target in (embed_lone, embed_batches, embed_batches)
    ]
    codes = []
    with neighbours(options.neighbours):
        for thread in threads:
            thread.start()
        end = time.monotonic() + options.seconds
        while time.monotonic() < end:
            time.sleep(FORK_EVERY_SECONDS)
            codes.append(fork(model, [lone, batch]))
        stop.set()
        for thread in threads:
            thread.join()
        good = [calls.report() for calls in (lone, batch)]
        print(f"{n_threads} threads; {len(codes)} forks, exit codes {sorted(set(codes))}")
    # The process ends with these inside their calls.
    for calls in (lone, batch, lone):
        threading.Thread(target=until_the_end, args=(calls.call,), daemon=True).start()
    time.sleep(0.1)
    return 0 if all(good) and set(codes) == {0} else 1


if __name__ == "__main__":
    sys.exit(main())
