# SPDX-License-Identifier: Apache-2.0
"""A pool of processes embeds as one process does. Arguments: a model file, a start method."""

from __future__ import annotations

import multiprocessing
import sys

import numpy as np

from embellama import EmbeddingModel, ModelConfig

config: ModelConfig
model: EmbeddingModel | None = None


def load(pickled: ModelConfig) -> None:
    global config
    config = pickled


def embed(text: str) -> tuple[np.ndarray, np.ndarray]:
    # A forked child has the parent's model; a fresh one loads its own from the config.
    global model
    if model is None:
        model = EmbeddingModel(config)
    return model.embed(text), model.embed_batch([text] * 20)


def main() -> None:
    global config, model
    path, method = sys.argv[1:]
    config = ModelConfig(path, n_threads=2)
    texts = ["hello world", "a cat", "some dogs"] * 4
    with EmbeddingModel(config) as alone:
        expected = alone.embed_batch(texts)
        if method == "fork":
            model = alone
        context = multiprocessing.get_context(method)
        with context.Pool(3, initializer=load, initargs=(config,)) as pool:
            for (row, rows), vector in zip(pool.map(embed, texts), expected, strict=True):
                np.testing.assert_allclose(row, vector, rtol=0, atol=1e-5)
                np.testing.assert_allclose(rows, [vector] * 20, rtol=0, atol=1e-5)
        assert alone.embed("works on").shape == (384,)
    print("well")


if __name__ == "__main__":
    main()
