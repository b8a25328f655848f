# SPDX-License-Identifier: Apache-2.0
"""Late interaction: compare texts token by token, as ColBERT does.

One vector per text describes the text as a whole. With one vector per token, every token of the
query looks for its best match in the document: MaxSim.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

import embellama

QUERY = "the height of Mount Everest"
DOCUMENTS = [
    "The Alps attract skiers from all over the world.",
    "Mount Everest, on the border of Nepal and China, rises 8,849 metres above the sea.",
    "Mount Everest was first climbed by Tenzing Norgay and Edmund Hillary.",
    "Olive oil keeps best in a dark bottle.",
]


def max_sim(query: NDArray[np.float32], document: NDArray[np.float32]) -> float:
    """Return the mean over the query's tokens of the best cosine with a token of the document.

    ColBERT (https://arxiv.org/abs/2004.12832) takes the sum, which orders documents alike.
    """
    return float((query @ document.T).max(axis=1).mean())


def main() -> None:
    """Rank documents by MaxSim over per-token vectors."""
    with embellama.EmbeddingModel("all-MiniLM-L6-v2") as model:
        query = model.embed_multi(QUERY, special_tokens=False)
        documents = model.embed_batch_multi(DOCUMENTS, special_tokens=False)

    print(f"{QUERY}: {len(query)} tokens of {query.shape[1]} dimensions")
    scores = [max_sim(query, document) for document in documents]
    for index in np.argsort(scores)[::-1]:
        print(f"{scores[index]:.3f}  {DOCUMENTS[index]} ({len(documents[index])} tokens)")


if __name__ == "__main__":
    main()
