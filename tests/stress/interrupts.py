# SPDX-License-Identifier: Apache-2.0
"""Interrupt calls at random moments: how late do they end, and does the model work on?

For each model, each number of threads and each kind of work, calls are ended by a time-out, by
Ctrl-C (a real SIGINT) and by cancelling their task. Printed is the longest time from that moment to
the exception, and to the end of another call on the same model. A wrong exception, a wrong vector
afterwards, or an exception later than ``--limit`` is a finding::

    python tests/stress/interrupts.py --rounds 10
"""

from __future__ import annotations

import argparse
import asyncio
import faulthandler
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1]))
from support.tiny_model import write_tiny_model

from embellama import EmbeddingModel, ModelConfig, OperationTimeoutError, PoolingStrategy

# As MiniLM, with room for long texts.
SIZES = {
    "embedding_length": 384,
    "feed_forward_length": 1536,
    "head_count": 12,
    "head_count_kv": 12,
    "key_length": 32,
    "block_count": 6,
    "context_length": 8192,
}
HEAD = {"cls.weight": (384, 384), "cls.output.weight": (1, 384)}


def models(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Names, and arguments of ModelConfig."""
    yield "MiniLM", {"model_path": "all-MiniLM-L6-v2"}
    yield (
        "MiniLM, llama.cpp",
        {
            "model_path": "all-MiniLM-L6-v2",
            "instruction_set": "llama.cpp",
        },
    )
    regex = {"tokenizer.ggml.pre": "default"}
    for name, architecture, options, settings in [
        ("bert", "bert", SIZES, {}),
        ("bert, llama.cpp", "bert", SIZES, {"instruction_set": "llama.cpp"}),
        ("causal", "llama", SIZES, {}),
        ("SentencePiece", "gemma", {"context_length": 8192}, {}),
        ("unigram", "t5encoder", {"context_length": 8192}, {}),
        ("std::regex", "modern-bert", {"context_length": 8192, "metadata": regex}, {}),
        (
            "reranker",
            "modern-bert",
            SIZES
            | {
                "metadata": {"modern-bert.pooling_type": 4},
                "tensors": {name: np.ones(shape, np.float32) for name, shape in HEAD.items()},
            },
            {},
        ),
    ]:
        path = folder / f"{name.replace(':', '')}.gguf"
        if not path.exists():
            write_tiny_model(path, architecture, **options)
        yield name, {"model_path": path, **settings}


def works(model: EmbeddingModel) -> dict[str, tuple[str, tuple[Any, ...]]]:
    """What takes long enough to be interrupted: a method and its arguments."""
    short = ["a cat, a dog and a red fox"] * 20_000
    long = ["a b c d " * 1_000] * 20
    huge = ["word " * 1_000_000] * 4
    strange = ["[SEP] <s> \U0001f468 " * 300_000] * 4
    if model.pooling is PoolingStrategy.RANK:
        return {"rerank": ("rerank", ("a b", long)), "rerank huge": ("rerank", ("a b", huge))}
    return {
        "short": ("embed_batch", (short,)),
        "long": ("embed_batch", (long,)),
        "huge": ("embed_batch", (huge,)),
        "strange": ("embed_batch", (strange,)),
        "per token": ("embed_batch_multi", (long,)),
    }


def time_out(call: Callable[..., Any], arguments: tuple[Any, ...], wait: float) -> float | None:
    """Return how late the exception came; None if the call had ended by itself."""
    start = time.monotonic()
    try:
        call(*arguments, timeout=wait)
    except OperationTimeoutError:
        return time.monotonic() - start - wait
    return None


def interrupt(call: Callable[..., Any], arguments: tuple[Any, ...], wait: float) -> float | None:
    """As time_out(), by Ctrl-C."""
    sent: list[float] = []
    over = threading.Event()

    def send() -> None:
        if not over.wait(wait):
            sent.append(time.monotonic())
            os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        try:
            call(*arguments)
        finally:
            late = time.monotonic()
            over.set()
            thread.join()
    except KeyboardInterrupt:
        return late - sent[0]
    return None


def cancel(call: Callable[..., Any], arguments: tuple[Any, ...], wait: float) -> float | None:
    """As time_out(), by cancelling the task; `call` returns a coroutine."""

    async def main() -> float | None:
        task = asyncio.ensure_future(call(*arguments))
        await asyncio.wait([task], timeout=wait)
        if task.done():
            return None
        start = time.monotonic()
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            raise AssertionError(f"the task ended with {task.exception()!r}")
        return time.monotonic() - start

    start = time.monotonic()
    late = asyncio.run(main())
    # asyncio.run() waits for what the loop has started.
    return None if late is None else max(late, time.monotonic() - start - wait)


def probe(model: EmbeddingModel) -> NDArray[Any]:
    """Something small, to see that the model works on."""
    if model.pooling is PoolingStrategy.RANK:
        return np.array([model.rerank("a", ["b c"])[0].score])
    return model.embed("a cat")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3, help="moments for each way to end a call")
    parser.add_argument("--limit", type=float, default=0.2, help="seconds an exception may take")
    parser.add_argument("--longest-wait", type=float, default=1.0, help="seconds to the moment")
    parser.add_argument("--model", action="append", help="of those below (default: all)")
    parser.add_argument("--threads", type=int, action="append", help="(default: 1 and 2)")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    faulthandler.dump_traceback_later(1800, exit=True)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    rng = random.Random(given.seed)
    # The moments at which calls are ended.
    waits = iter(lambda: rng.uniform(0, given.longest_wait), None)
    findings: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        for name, arguments in models(Path(folder)):
            if given.model and name not in given.model:
                continue
            for n_threads in given.threads or (1, 2):
                config = ModelConfig(truncate=True, n_threads=n_threads, **arguments)
                with EmbeddingModel(config) as model:
                    for work in works(model):
                        case = f"{name}, {n_threads} threads, {work}"
                        findings += end_calls(model, work, case, given.rounds, given.limit, waits)
    for finding in findings:
        print("FINDING:", finding)
    return 1 if findings else 0


def end_calls(
    model: EmbeddingModel,
    work: str,
    case: str,
    rounds: int,
    limit: float,
    waits: Iterator[float],
) -> list[str]:
    """End one kind of work in each way, `rounds` times; print how late, return what was wrong."""
    method, arguments = works(model)[work]
    ways = {"time-out": time_out, "Ctrl-C": interrupt}
    if method == "embed_batch":
        ways["cancelled"] = cancel
    expected = probe(model)
    findings = []
    report = []
    for way, end in ways.items():
        call = getattr(model, "aembed_batch" if end is cancel else method)
        latest = next_call = 0.0
        n_ended = 0
        for wait in islice(waits, rounds):
            late = end(call, arguments, wait)
            if late is None:
                continue
            n_ended += 1
            start = time.monotonic()
            if not np.allclose(probe(model), expected, atol=2e-3):
                findings.append(f"{case}, {way}: another vector afterwards")
            latest = max(latest, late)
            next_call = max(next_call, time.monotonic() - start)
        if latest > limit:
            findings.append(f"{case}, {way}: {latest * 1000:.0f} ms late")
        report.append(
            f"{way} {latest * 1000:4.0f} ms, next call {next_call * 1000:4.0f} ms "
            f"({n_ended} of {rounds})"
        )
    print(f"{case:38}", "; ".join(report), flush=True)
    return findings


if __name__ == "__main__":
    sys.exit(main())
