# SPDX-License-Identifier: Apache-2.0
"""The time of one core for one text and for many, by length: embellama's encoder and llama.cpp."""

from __future__ import annotations

import time
from collections.abc import Callable

from matplotlib import pyplot as plt
from style import COLOURS, save

import embellama

LENGTHS = (4, 8, 16, 32, 64, 128, 256, 512)
ROUNDS = 4
BATCH_TOKENS = 1024


def processor_seconds(call: Callable[[], object]) -> float:
    """Return the processor seconds of the call, which other programs change little."""
    start = time.process_time()
    call()
    return time.process_time() - start


def main() -> None:
    """Measure in alternating rounds, then draw."""
    models = {}
    for instruction_set in (None, "llama.cpp"):
        config = embellama.ModelConfig(
            "all-MiniLM-L6-v2", n_threads=1, instruction_set=instruction_set
        )
        model = embellama.EmbeddingModel(config)
        models[model.core_model.instruction_set] = model
    # "word" is one token; two more are special.
    texts = {n: "word " * (n - 2) for n in LENGTHS}
    alone: dict[tuple[str, int], list[float]] = {}
    together: dict[tuple[str, int], list[float]] = {}
    for round_ in range(-1, ROUNDS):
        for length, text in texts.items():
            many = [text] * (BATCH_TOKENS // length)
            for name, model in models.items():
                one = processor_seconds(lambda model=model, text=text: model.embed(text))
                batch = processor_seconds(lambda model=model, many=many: model.embed_batch(many))
                if round_ >= 0:
                    alone.setdefault((name, length), []).append(1e3 * one)
                    together.setdefault((name, length), []).append(BATCH_TOKENS / batch)
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.6))
    for name, colour, marker in zip(models, COLOURS, "os", strict=False):
        times = [min(alone[name, n]) for n in LENGTHS]
        rates = [max(together[name, n]) for n in LENGTHS]
        print(name, "ms", [round(value, 2) for value in times])
        print(name, "tokens/s", [round(value) for value in rates])
        label = name if name == "llama.cpp" else f"embellama ({name})"
        left.plot(LENGTHS, times, marker=marker, color=colour, label=label)
        right.plot(LENGTHS, rates, marker=marker, color=colour, label=label)
    for axis in (left, right):
        axis.set_xscale("log", base=2)
        axis.set_xticks(LENGTHS, LENGTHS)
        axis.set_xlabel("tokens of a text")
    left.set_yscale("log")
    right.set_ylim(bottom=0)
    left.set_title("one text: processor milliseconds", loc="left", fontsize=10)
    right.set_title("many: tokens per processor second", loc="left", fontsize=10)
    left.legend()
    save(figure, "lengths")


if __name__ == "__main__":
    main()
