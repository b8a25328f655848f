# SPDX-License-Identifier: Apache-2.0
"""Types of weights: how large the file is, and how far its vectors are from F32's."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt
from style import COLOURS, save

import embellama
from embellama import catalog

TEXTS = Path(__file__).parents[2] / "tests" / "data" / "texts.json"
TYPES = ("F16", "BF16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_0", "Q3_K_M", "Q2_K")
NEIGHBOURS = 10


def main() -> None:
    """Draw, and print the table of the page."""
    records = json.loads(TEXTS.read_text(encoding="utf-8"))
    texts = [record["text"] for record in records if record["text"].strip()]

    def vectors_of(file_type: str) -> tuple[float, np.ndarray]:
        path = catalog.resolve("all-MiniLM-L6-v2", file_type=file_type)
        config = embellama.ModelConfig(path, truncate=True, accuracy="exact")
        with embellama.EmbeddingModel(config) as model:
            return path.stat().st_size / 1e6, model.embed_batch(texts)

    def neighbours(vectors: np.ndarray) -> np.ndarray:
        similarity = vectors @ vectors.T
        np.fill_diagonal(similarity, -1)
        return np.argsort(-similarity, axis=1)[:, :NEIGHBOURS]

    size, reference = vectors_of("F32")
    # Some texts differ only in white space. One of each pair is left out, because the order of two
    # equally near neighbours means nothing.
    alike = np.triu(reference @ reference.T > 0.999, k=1).any(axis=0)
    texts = [text for text, left_out in zip(texts, alike, strict=True) if not left_out]
    reference = reference[~alike]
    nearest = neighbours(reference)
    print("| type | MB | mean cosine | least cosine | same of 10 nearest |")
    print("|---|---|---|---|---|")
    print(f"| F32 | {size:.1f} | | | |")
    rows = []
    for file_type in TYPES:
        size, vectors = vectors_of(file_type)
        cosines = (vectors.astype(np.float64) * reference).sum(axis=1)
        same = np.mean(
            [
                len(np.intersect1d(a, b)) / NEIGHBOURS
                for a, b in zip(neighbours(vectors), nearest, strict=True)
            ]
        )
        rows.append((file_type, size, 1 - cosines.mean()))
        print(
            f"| {file_type} | {size:.1f} | {cosines.mean():.6f} | {cosines.min():.6f} "
            f"| {same:.1%} |"
        )

    figure, axis = plt.subplots(figsize=(8, 4))
    axis.scatter([row[1] for row in rows], [row[2] for row in rows], color=COLOURS[0], s=36)
    # Points on the left are close together, so their labels alternate between the two sides.
    for i, (name, size, distance) in enumerate(sorted(rows, key=lambda row: row[1])):
        side, x = (("right", -8), ("left", 8))[i % 2]
        axis.annotate(
            name, (size, distance), xytext=(x, 0), textcoords="offset points", ha=side, va="center"
        )
    axis.set_xlim(left=16)
    axis.set_yscale("log")
    axis.set_xlabel("size of the file in MB (F32: 90.9)")
    axis.set_ylabel("mean distance from F32, 1 - cosine")
    save(figure, "quantised_types")


if __name__ == "__main__":
    main()
