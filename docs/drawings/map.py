# SPDX-License-Identifier: Apache-2.0
"""The sentences of the clustering page in two dimensions."""

from __future__ import annotations

import json
from pathlib import Path

from matplotlib import pyplot as plt
from sklearn.manifold import TSNE
from style import COLOURS, GREY, save

import embellama

SENTENCES = Path(__file__).parents[1] / "how-to" / "sentences.jsonl"
# The same threshold as on the page.
ALIKE = 0.85


def main() -> None:
    """Draw."""
    records = [json.loads(line) for line in SENTENCES.read_text().splitlines()]
    topics = list(dict.fromkeys(record["topic"] for record in records))
    with embellama.EmbeddingModel("all-MiniLM-L6-v2") as model:
        vectors = model.embed_batch([record["text"] for record in records])
    places = TSNE(
        metric="cosine", perplexity=8, init="random", learning_rate="auto", random_state=3
    ).fit_transform(vectors)

    figure, axis = plt.subplots(figsize=(8, 5.6))
    similarity = vectors @ vectors.T
    for i in range(len(records)):
        for j in range(i):
            if similarity[i, j] > ALIKE:
                axis.plot(*zip(places[i], places[j], strict=True), color=GREY, linewidth=6)
    markers = "os^Dvp"
    for topic, colour, marker in zip(topics, COLOURS, markers, strict=True):
        own = [i for i, record in enumerate(records) if record["topic"] == topic]
        axis.scatter(*places[own].T, color=colour, marker=marker, s=36, label=topic, zorder=3)
    axis.legend(ncols=3, loc="upper center", bbox_to_anchor=(0.5, 1.12))
    axis.set_xticks([])
    axis.set_yticks([])
    axis.spines[:].set_visible(False)
    save(figure, "map")


if __name__ == "__main__":
    main()
