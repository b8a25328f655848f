# SPDX-License-Identifier: Apache-2.0
"""Whether memory stays flat: the process's resident size over many embeddings and many loads.

After a warm-up of a tenth of the work, and of 5,000 embeddings and 40 loads at least, the size may
grow by one percent::

    python tests/stress/memory.py --embeddings 100000 --loads 500
"""

from __future__ import annotations

import argparse
import contextlib
import random
import sys
from collections.abc import Callable

import embellama
from embellama import EmbeddingModel

WORDS = "the quick brown fox jumps over a lazy dog while it rains in Paris and Rome".split()
ALLOWED_GROWTH = 0.01


def resident_bytes() -> int:
    """Resident memory that belongs to this process; a file's pages come and go with the cache."""
    with open("/proc/self/status") as status:
        sizes = {name: value for name, _, value in (line.partition(":") for line in status)}
    return 1024 * int(sizes["RssAnon"].split()[0])


def grows(name: str, total: int, warm_up: int, work: Callable[[int], int]) -> bool:
    """Call `work` until it has done `total`; whether memory grew after the warm-up."""
    warm_up = max(warm_up, total // 10)
    done = 0
    start: int | None = None
    highest = 0
    while done < total:
        done += work(done)
        if done >= warm_up:
            now = resident_bytes()
            start = start or now
            highest = max(highest, now)
    assert start is not None
    end = resident_bytes()
    growth = end / start - 1
    print(
        f"{name}: {done} done, {start / 1e6:.2f} MB warm, {end / 1e6:.2f} MB at the end "
        f"({growth:+.2%}), {highest / 1e6:.2f} MB at most",
        flush=True,
    )
    return growth > ALLOWED_GROWTH


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--embeddings", type=int, default=100_000)
    parser.add_argument("--loads", type=int, default=500)
    parser.add_argument("--model", default="all-MiniLM-L6-v2")
    options = parser.parse_args()
    rng = random.Random(1)
    model = EmbeddingModel(options.model)

    def embed(done: int) -> int:
        count = rng.choice([1, 1, 4, 16, 64, 256])
        texts = [" ".join(rng.choices(WORDS, k=rng.randint(1, 12))) for _ in range(count)]
        if count == 1:
            model.embed(texts[0])
        else:
            model.embed_batch(texts)
        if rng.random() < 0.05:
            # What goes wrong must not cost memory either.
            for bad in ("", "word " * 600):
                with contextlib.suppress(embellama.InvalidInputError):
                    model.embed_batch([*texts, bad])
            with contextlib.suppress(embellama.OperationTimeoutError):
                model.embed_batch(["word " * 400] * 50, timeout=0.001)
        return count

    def load(done: int) -> int:
        model.unload()
        model.load()
        model.embed("a cat")
        model.embed_batch(["a cat"] * 8)
        return 1

    model.embed_batch(["word " * 400] * 20)
    # Contexts grow with what they are given. Without this the one that all threads share would be
    # opened for a long text whenever a time-out happens to leave one alone: by several MB.
    model.embed("word " * 400)
    results = [
        grows("embeddings", options.embeddings, 5000, embed),
        grows("loads", options.loads, 40, load),
    ]
    return int(any(results))


if __name__ == "__main__":
    sys.exit(main())
