# SPDX-License-Identifier: Apache-2.0
"""Search: which sentence answers a question?"""

from __future__ import annotations

import embellama

QUESTION = "How do I bake bread at home?"
SENTENCES = [
    "The central bank raised interest rates again.",
    "Mix flour, water, salt and yeast, let the dough rise, and put it in a hot oven.",
    "The marathon starts at nine in the old town.",
    "Whole grains keep longer in a cool and dry place.",
]


def main() -> None:
    """Turn a question and some sentences into vectors, and rank the sentences by similarity."""
    with embellama.EmbeddingModel("all-MiniLM-L6-v2") as model:
        vectors = model.embed_batch(SENTENCES)
        question = model.embed(QUESTION)
        similarities = model.similarity(question, vectors)[0]

    print(f"{len(vectors)} sentences, {vectors.shape[1]} dimensions each, {vectors.dtype}")
    print(QUESTION)
    for index in similarities.argsort()[::-1]:
        print(f"{similarities[index]:6.3f}  {SENTENCES[index]}")


if __name__ == "__main__":
    main()
