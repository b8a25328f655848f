# SPDX-License-Identifier: Apache-2.0
"""Time of one text and rate of many, by length and number of threads."""

from __future__ import annotations

import time
from statistics import median

import numpy as np
from matplotlib import pyplot as plt
from style import COLOURS, save

import embellama

LENGTHS = (4, 8, 16, 32, 64, 128, 256, 512)
ROUNDS = 5
BATCH_TOKENS = 4096


def main() -> None:
    """Measure in alternating rounds, then draw."""
    threads = (1, 2)
    models = {
        n: embellama.EmbeddingModel(embellama.ModelConfig("all-MiniLM-L6-v2", n_threads=n))
        for n in threads
    }
    # "word" is one token; two more are special.
    texts = {n: "word " * (n - 2) for n in LENGTHS}
    alone: dict[tuple[int, int], list[float]] = {}
    together: dict[tuple[int, int], list[float]] = {}
    for round_ in range(-1, ROUNDS):
        for n_threads, model in models.items():
            for length, text in texts.items():
                start = time.perf_counter()
                model.embed(text)
                one = time.perf_counter() - start
                many = [text] * (BATCH_TOKENS // length)
                start = time.perf_counter()
                model.embed_batch(many)
                rate = BATCH_TOKENS / (time.perf_counter() - start)
                if round_ >= 0:
                    alone.setdefault((n_threads, length), []).append(1e3 * one)
                    together.setdefault((n_threads, length), []).append(rate)
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.6))
    for n_threads, colour, marker in zip(threads, COLOURS, "os", strict=False):
        label = f"{n_threads} thread{'s' * (n_threads > 1)}"
        times = [median(alone[n_threads, n]) for n in LENGTHS]
        rates = [median(together[n_threads, n]) for n in LENGTHS]
        print(label, dict(zip(LENGTHS, np.round(times, 2).tolist(), strict=True)))
        print(label, dict(zip(LENGTHS, np.round(rates).tolist(), strict=True)))
        left.plot(LENGTHS, times, marker=marker, color=colour, label=label)
        right.plot(LENGTHS, rates, marker=marker, color=colour, label=label)
    for axis in (left, right):
        axis.set_xscale("log", base=2)
        axis.set_xticks(LENGTHS, LENGTHS)
        axis.set_xlabel("tokens of a text")
    left.set_yscale("log")
    right.set_ylim(bottom=0)
    left.set_title("one text: milliseconds", loc="left", fontsize=10)
    right.set_title("many texts: tokens per second", loc="left", fontsize=10)
    left.legend()
    save(figure, "lengths")


if __name__ == "__main__":
    main()
