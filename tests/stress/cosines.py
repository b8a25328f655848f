# SPDX-License-Identifier: Apache-2.0
"""How close vectors of ``accuracy="fast"`` are to exact ones, for any model and texts.

Prints the lowest and the mean cosine between both with the same file, how many texts are below
0.9999, how many have the same vector (they were computed again in float32), and the worst text.
Usage: cosines.py MODEL TEXTS, a name or GGUF file and a file with a text on each line.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import embellama
from embellama import Accuracy, EmbeddingModel, ModelConfig


def vectors_of(
    model: str, texts: list[str], accuracy: Accuracy, instruction_set: str | None
) -> NDArray[np.float64]:
    config = ModelConfig(model, accuracy=accuracy, instruction_set=instruction_set, truncate=True)
    with EmbeddingModel(config) as loaded:
        return loaded.embed_batch(texts).astype(np.float64)


def main() -> None:
    model, file = sys.argv[1:]
    texts = [line for line in Path(file).read_text(encoding="utf-8").splitlines() if line.strip()]
    exact = vectors_of(model, texts, Accuracy.EXACT, None)
    for name in embellama.backend_info()["instruction_sets"]:
        fast = vectors_of(model, texts, Accuracy.FAST, name)
        norms = np.linalg.norm(fast, axis=1) * np.linalg.norm(exact, axis=1)
        cosines = (fast * exact).sum(axis=1) / norms
        worst = int(cosines.argmin())
        print(
            f"{name}: lowest {cosines[worst]:.7f}, mean {cosines.mean():.7f}, "
            f"below 0.9999 {(cosines < 0.9999).sum()} of {len(texts)}, "
            f"equal {(fast == exact).all(axis=1).sum()}, worst {texts[worst][:60]!r}",
            flush=True,
        )


if __name__ == "__main__":
    main()
