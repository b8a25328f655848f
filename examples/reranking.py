# SPDX-License-Identifier: Apache-2.0
"""Search in two steps: vectors find candidates fast, a cross-encoder orders them well.

Run it as ``python reranking.py reranker.gguf``. A reranker in Hugging Face's format, such as
cross-encoder/ms-marco-MiniLM-L6-v2, becomes such a file by::

    embellama convert CHECKPOINT reranker.gguf

where CHECKPOINT is the directory that holds its config.json and model.safetensors.
"""

from __future__ import annotations

import argparse

import embellama

QUERY = "How many people live in Berlin?"
DOCUMENTS = [
    "Berlin has a population of about 3.7 million registered inhabitants.",
    "New York City is famous for the Metropolitan Museum of Art.",
    "Berlin is well known for its museums and its night life.",
    "The population of Paris is about 2.1 million.",
    "Bread rises because yeast makes carbon dioxide.",
]


def main() -> None:
    """Pick the three documents nearest to a query, then order them with a reranker."""
    parser = argparse.ArgumentParser(description="Search with vectors, then rerank.")
    parser.add_argument("reranker", help="GGUF file of a model with a classification head")
    path = parser.parse_args().reranker

    with embellama.EmbeddingModel("all-MiniLM-L6-v2") as model:
        similarities = model.similarity(model.embed(QUERY), model.embed_batch(DOCUMENTS))[0]
    nearest = similarities.argsort()[::-1][:3]
    print(f"Nearest to {QUERY!r}:")
    for index in nearest:
        print(f"{similarities[index]:7.3f}  {DOCUMENTS[index]}")

    with embellama.EmbeddingModel(path) as reranker:
        results = reranker.rerank(QUERY, [DOCUMENTS[index] for index in nearest])
        print(f"Reranked by {reranker.score_kind}:")
    for result in results:
        print(f"{result.score:7.3f}  {result.document}")


if __name__ == "__main__":
    main()
