# SPDX-License-Identifier: Apache-2.0
"""Many threads call every method of one model, while it and others are unloaded and loaded.

Every result is compared with what one thread computed; a difference, an exception that is not
expected, or a call that hangs is a finding::

    python tests/stress/callers.py --seconds 60 --threads 32
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import faulthandler
import random
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import embellama
from embellama import EmbeddingEngine, EmbeddingModel, EmbellamaError, ModelConfig

WORDS = "the quick brown fox jumps over a lazy dog while it rains in Paris and Rome".split()
# As tests/test_numbers.py, for F16 weights on any instruction set: other neighbours, other sums.
TOLERANCE = 2e-3


class Callers:
    """The models, what they answered when one thread asked, and what threads found."""

    def __init__(self) -> None:
        rng = random.Random(7)
        self.texts = [" ".join(rng.choices(WORDS, k=rng.choice([1, 5, 12, 40]))) for _ in range(60)]
        self.texts.append("word " * 400)
        self.model = EmbeddingModel("all-MiniLM-L6-v2")
        # Settings that meet in one process: more threads than cores, a cache, other pooling.
        self.others = [
            ModelConfig(
                "all-MiniLM-L6-v2",
                model_name="cached",
                cache=embellama.CacheConfig(embedding_cache_size=40),
            ),
            ModelConfig("all-MiniLM-L6-v2", model_name="crowded", n_threads=5),
        ]
        self.engine = EmbeddingEngine(self.others[0])
        self.engine.load_model(self.others[1])
        with EmbeddingModel(ModelConfig("all-MiniLM-L6-v2", n_threads=1)) as alone:
            self.expected = alone.embed_batch(self.texts)
            self.multi = [alone.embed_multi(text) for text in self.texts]
            self.ids = [alone.tokenize(text) for text in self.texts]
        self.calls: collections.Counter[str] = collections.Counter()
        self.findings: list[str] = []
        self.stop = threading.Event()

    def near(self, what: str, found: Any, expected: Any) -> None:
        """Note a finding unless the arrays agree."""
        if found.shape != expected.shape:
            self.findings.append(f"{what}: shape {found.shape}, expected {expected.shape}")
        elif not np.abs(found - expected).max(initial=0.0) <= TOLERANCE:
            self.findings.append(f"{what}: off by {np.abs(found - expected).max():.1e}")

    def some(self, rng: random.Random) -> list[int]:
        return [rng.randrange(len(self.texts)) for _ in range(rng.choice([1, 2, 7, 30, 90]))]

    def embed(self, rng: random.Random) -> None:
        i = rng.randrange(len(self.texts))
        call = rng.choice([self.model.embed, self.model.embed_query])
        self.near("embed", call(self.texts[i]), self.expected[i])

    def embed_batch(self, rng: random.Random) -> None:
        chosen = self.some(rng)
        texts = [self.texts[i] for i in chosen]
        out = rng.choice([None, np.empty((len(texts), 384), np.float32)])
        call = rng.choice([self.model.embed_batch, self.model.embed_documents])
        self.near("embed_batch", call(texts, out=out), self.expected[chosen])

    def embed_batch_narrow(self, rng: random.Random) -> None:
        chosen = self.some(rng)
        bits = self.model.embed_batch([self.texts[i] for i in chosen], dtype="ubinary")
        signs = np.unpackbits(bits, axis=1).astype(bool)
        expected = self.expected[chosen]
        if ((signs != (expected > 0)) & (np.abs(expected) > TOLERANCE)).any():
            self.findings.append("ubinary: another sign")

    def embed_batch_with_bad_texts(self, rng: random.Random) -> None:
        texts = [self.texts[i] for i in self.some(rng)]
        at = rng.randrange(len(texts) + 1)
        texts.insert(at, rng.choice(["", " ", "\ud800", "word " * 600]))
        try:
            self.model.embed_batch(texts)
        except embellama.InvalidInputError as error:
            if error.index != at:
                self.findings.append(f"bad text {at}: index {error.index}")
        else:
            self.findings.append("a bad text was embedded")

    def embed_multi(self, rng: random.Random) -> None:
        chosen = self.some(rng)[:8]
        for i, rows in zip(
            chosen, self.model.embed_batch_multi([self.texts[i] for i in chosen]), strict=True
        ):
            self.near("embed_batch_multi", rows, self.multi[i])
        self.near("embed_multi", self.model.embed_multi(self.texts[i]), self.multi[i])

    def embed_tokens(self, rng: random.Random) -> None:
        i = rng.randrange(len(self.texts))
        if not np.array_equal(self.model.tokenize(self.texts[i]), self.ids[i]):
            self.findings.append("tokenize: other ids")
        if self.model.count_tokens(self.texts[i]) != len(self.ids[i]):
            self.findings.append("count_tokens: another number")
        self.near("embed_tokens", self.model.embed_tokens(self.ids[i]), self.expected[i])

    def embed_iter(self, rng: random.Random) -> None:
        chosen = self.some(rng)
        for start, rows in self.model.embed_iter((self.texts[i] for i in chosen), window=16):
            self.near("embed_iter", rows, self.expected[chosen[start : start + len(rows)]])

    def aembed(self, rng: random.Random) -> None:
        chosen = self.some(rng)[:20]

        async def main() -> None:
            batch = asyncio.create_task(self.model.aembed_batch([self.texts[i] for i in chosen]))
            await asyncio.sleep(rng.choice([0, 0.01]))
            if rng.random() < 0.3:
                batch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                self.near("aembed_batch", await batch, self.expected[chosen])

        asyncio.run(main())

    def timeout(self, rng: random.Random) -> None:
        with contextlib.suppress(embellama.OperationTimeoutError):
            self.model.embed_batch(self.texts * 20, timeout=rng.choice([0, 0.01, 0.1]))

    def engine_call(self, rng: random.Random) -> None:
        chosen = self.some(rng)
        rows = self.engine.embed_batch(
            [self.texts[i] for i in chosen], model=rng.choice([None, "cached", "crowded"])
        )
        self.near("engine.embed_batch", rows, self.expected[chosen])
        self.engine.list_models()
        self.engine.model_info()

    def properties(self, rng: random.Random) -> None:
        model = self.model
        for name in "config info path model_size embedding_dimensions effective_max_tokens".split():
            getattr(model, name)
        self.near("similarity", model.similarity(self.expected[:2], self.expected[:2]).diagonal(),
                  np.ones(2, np.float32))  # fmt: skip

    def rarely(self, rng: random.Random) -> None:
        if rng.random() < 0.1:
            rng.choice([self.model.verify, self.model.warmup])()

    def own_model(self, rng: random.Random) -> None:
        with EmbeddingModel(ModelConfig("all-MiniLM-L6-v2", n_threads=rng.choice([1, 3]))) as own:
            i = rng.randrange(len(self.texts))
            self.near("own model", own.embed(self.texts[i]), self.expected[i])

    def call(self, seed: int) -> None:
        """What each thread does until it is told to stop."""
        rng = random.Random(seed)
        methods: list[Callable[[random.Random], None]] = [
            *[self.embed] * 4, *[self.embed_batch] * 4, self.embed_batch_narrow,
            self.embed_batch_with_bad_texts, self.embed_multi, self.embed_tokens, self.embed_iter,
            self.aembed, self.timeout, self.engine_call, self.properties, self.rarely,
            self.own_model,
        ]  # fmt: skip
        while not self.stop.is_set():
            method = rng.choice(methods)
            self.calls[method.__name__] += 1
            try:
                method(rng)
            except embellama.ModelLoadError as error:
                # The thread below unloads the models.
                if "unloaded" not in str(error):
                    self.findings.append(f"{method.__name__}: {error}")
            except BaseException as error:
                self.findings.append(f"{method.__name__}: {type(error).__name__}: {error}")

    def unload_and_load(self) -> None:
        """Once in a while, so that most calls meet a loaded model."""
        while not self.stop.wait(0.4):
            try:
                self.model.unload()
                self.model.load()
                self.engine.drop_model("crowded")
                self.engine.unload_model("crowded")
            except EmbellamaError as error:
                self.findings.append(f"unload and load: {error}")
            self.engine.load_model(self.others[1])


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--threads", type=int, default=32)
    options = parser.parse_args()
    faulthandler.enable()
    # A deadlock shows where it is.
    faulthandler.dump_traceback_later(10 * options.seconds + 120, exit=True)
    callers = Callers()
    threads = [threading.Thread(target=callers.call, args=(n,)) for n in range(options.threads)]
    threads.append(threading.Thread(target=callers.unload_and_load))
    for thread in threads:
        thread.start()
    time.sleep(options.seconds)
    callers.stop.set()
    for thread in threads:
        thread.join()
    callers.model.load()
    callers.near("afterwards", callers.model.embed_batch(callers.texts), callers.expected)
    for finding, count in collections.Counter(callers.findings).most_common(20):
        print(f"{count} x {finding}")
    print(f"{callers.calls.total()} calls: {dict(callers.calls.most_common())}")
    print(f"{len(callers.findings)} findings")
    return int(bool(callers.findings))


if __name__ == "__main__":
    sys.exit(main())
