# SPDX-License-Identifier: Apache-2.0
"""Many texts: progress, smaller vectors, and texts that do not fit into memory at once."""

from __future__ import annotations

from collections.abc import Iterator

import embellama

COLOURS = ["red", "green", "blue", "white", "black"]
THINGS = ["bicycle", "teapot", "raincoat", "lamp", "notebook", "chair", "kettle", "scarf"]


def products() -> Iterator[str]:
    """Yield descriptions, as a file or a database would."""
    for thing in THINGS:
        for colour in COLOURS:
            yield f"A {colour} {thing}, hardly used."


def report(done: int, total: int) -> None:
    """Print how far a batch is; ``progress=True`` would draw a bar instead."""
    print(f"{done} of {total} texts embedded")


def main() -> None:
    """Embed a batch at once, in fewer bytes, and a window at a time."""
    with embellama.EmbeddingModel("all-MiniLM-L6-v2") as model:
        vectors = model.embed_batch(products(), progress=report)

        for dtype in ("float32", "float16", "int8", "ubinary"):
            smaller = embellama.quantize(vectors, dtype)
            print(f"{dtype:8} {smaller.shape[1]:4} values, {smaller[0].nbytes:5} bytes per text")

        # Only one window of texts and vectors is held in memory.
        for start, rows in model.embed_iter(products(), window=15):
            print(f"texts {start:2} to {start + len(rows) - 1:2}: an array of {rows.shape}")


if __name__ == "__main__":
    main()
