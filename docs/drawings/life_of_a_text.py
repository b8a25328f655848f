# SPDX-License-Identifier: Apache-2.0
"""The steps from a text to its vector: tokens, a vector for each, their mean, the unit vector."""

from __future__ import annotations

import numpy as np
from matplotlib import pyplot as plt
from style import save

import embellama
from embellama.core import Model, Vocabulary

TEXT = "Unhappiness, he said, is contagious."
N_SHOWN = 48


def main() -> None:
    """Draw."""
    config = embellama.ModelConfig("all-MiniLM-L6-v2", normalization="none")
    with embellama.EmbeddingModel(config) as model:
        ids = model.tokenize(TEXT)
        rows = model.embed_multi(TEXT)
        mean = model.embed(TEXT)
        vocabulary = Vocabulary(Model(str(model.path)))
    # The file's vocabulary marks pieces that begin a word; the checkpoint's marks the other
    # pieces.
    pieces = [vocabulary.token(i).replace("\N{LOWER ONE EIGHTH BLOCK}", "_") for i in ids.tolist()]

    figure, axes = plt.subplots(
        3, 1, figsize=(8, 5.6), height_ratios=[len(ids), 1.6, 1.6], sharex=True
    )
    limit = 1.2 * np.abs(rows[:, :N_SHOWN]).max()
    steps = [
        (rows, "", limit),
        (mean[None], "pooled: their mean", limit),
        (mean[None] / np.linalg.norm(mean), "normalised: length 1", limit / np.linalg.norm(mean)),
    ]
    for axis, (values, title, scale) in zip(axes, steps, strict=True):
        axis.imshow(values[:, :N_SHOWN], cmap="RdBu", vmin=-scale, vmax=scale, aspect="auto")
        axis.set_title(title, loc="left", fontsize=10)
        axis.set_yticks([])
        axis.tick_params(length=0)
        for spine in axis.spines.values():
            spine.set_visible(False)
    axes[0].set_yticks(
        range(len(ids)), [f"{piece}  {i}" for piece, i in zip(pieces, ids, strict=True)]
    )
    axes[0].set_title(f"{TEXT!r}: each token, its id, its output vector", loc="left", fontsize=10)
    axes[2].set_xlabel(f"the first {N_SHOWN} of {rows.shape[1]} dimensions")
    save(figure, "life_of_a_text")


if __name__ == "__main__":
    main()
