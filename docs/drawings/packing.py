# SPDX-License-Identifier: Apache-2.0
"""The texts of tests/data in micro-batches, and the same padded to rectangles."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from numpy.typing import NDArray
from style import COLOURS, GREY, save

import embellama
from embellama import batch

TEXTS = Path(__file__).parents[2] / "tests" / "data" / "texts.json"
N_TEXTS = 60
MAX_TOKENS = 256
PADDED_TEXTS = 8


def draw_packed(axis: Axes, lengths: NDArray[np.int32]) -> int:
    order, bounds = batch.plan(lengths, max_tokens=MAX_TOKENS, max_texts=256)
    for row, (first, last) in enumerate(itertools.pairwise(bounds)):
        left = 0
        for i, text in enumerate(order[first:last]):
            axis.barh(
                row, lengths[text], left=left, color=COLOURS[i % 2], edgecolor="white", height=0.8
            )
            left += lengths[text]
    axis.set_title(
        f"embellama: {lengths.sum():,} tokens computed, in {len(bounds) - 1} micro-batches",
        loc="left",
        fontsize=10,
    )
    return len(bounds) - 1


def padded_tokens(lengths: NDArray[np.int32]) -> int:
    """Return the tokens that a library computes if it pads each batch to its longest text."""
    firsts = range(0, len(lengths), PADDED_TEXTS)
    return sum(
        int(part.max()) * len(part) for part in (lengths[i : i + PADDED_TEXTS] for i in firsts)
    )


def draw_padded(axis: Axes, lengths: NDArray[np.int32]) -> None:
    for row, first in enumerate(range(0, len(lengths), PADDED_TEXTS)):
        batch_lengths = lengths[first : first + PADDED_TEXTS]
        longest = batch_lengths.max()
        for i, length in enumerate(batch_lengths):
            axis.barh(
                row, length, left=i * longest, color=COLOURS[i % 2], edgecolor="white", height=0.8
            )
            axis.barh(
                row,
                longest - length,
                left=i * longest + length,
                color="white",
                edgecolor=GREY,
                hatch="////",
                linewidth=0.4,
                height=0.8,
            )
    axis.set_title(
        f"padded, {PADDED_TEXTS} texts at a time: {padded_tokens(lengths):,} tokens computed "
        f"({padded_tokens(np.sort(lengths)):,} if sorted by length first)",
        loc="left",
        fontsize=10,
    )


def main() -> None:
    """Draw."""
    records = json.loads(TEXTS.read_text(encoding="utf-8"))
    with embellama.EmbeddingModel("all-MiniLM-L6-v2") as model:
        counts = [model.count_tokens(record["text"]) for record in records if record["text"]]
    lengths = np.array([n for n in counts if n <= 200][:N_TEXTS], dtype=np.int32)
    figure, (packed, padded) = plt.subplots(2, 1, figsize=(8, 5.4))
    n_rows = draw_packed(packed, lengths)
    draw_padded(padded, lengths)
    packed.set_yticks(range(n_rows), range(1, n_rows + 1))
    packed.axvline(MAX_TOKENS, color="black", linewidth=0.8, linestyle=":")
    n_padded = -(-len(lengths) // PADDED_TEXTS)
    padded.set_yticks(range(n_padded), range(1, n_padded + 1))
    for axis in (packed, padded):
        axis.invert_yaxis()
        axis.set_ylabel("batch")
        axis.set_xlabel("tokens")
    save(figure, "packing")


if __name__ == "__main__":
    main()
