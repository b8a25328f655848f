# SPDX-License-Identifier: Apache-2.0
"""Write ``reranker_reference.npz``: scores of the reranker of ``support/checkpoints.py``.

Argument: the checkpoint directory of sentence-transformers/all-MiniLM-L6-v2. From the root of the
repository::

    PYTHONPATH=tests python tests/data/make_reranker_reference.py all-MiniLM-L6-v2

Made with transformers 5.23.0, tokenizers 0.23.3, torch 2.13.0 (CPU), safetensors 0.8.0 and
numpy 2.4.6.

- ``queries`` (6,) and ``documents`` (6,): the texts. A pair is read as [CLS] query [SEP] document
  [SEP].
- ``scores`` (6, 6) float32: BertForSequenceClassification's logit of each query with each document,
  token type 1 from the document on, as transformers' tokenizer gives it.
- ``scores_token_type_zero`` (6, 6) float32: the same with token type 0 throughout, which is all
  that llama.cpp computes (src/models/bert.cpp: ``ggml_view_1d(ctx0, model.type_embd, n_embd, 0)``).
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from support.checkpoints import write_reranker_checkpoint
from transformers import AutoModelForSequenceClassification, AutoTokenizer

QUERIES = (
    "What is the capital of France?",
    "how to sort a list in python",
    "symptoms of the flu",
    "Wie hoch ist der Mont Blanc?",
    "coffee",
    "Which planet is the largest, and how many moons does it have?",
)
DOCUMENTS = (
    "Paris is the capital and the largest city of France.",
    "The built-in sorted() gives a new list; list.sort() sorts in place.",
    "Influenza begins suddenly with fever, chills, cough and aching muscles.",
    "Der Mont Blanc ist mit 4806 m der höchste Berg der Alpen.",
    "Espresso",
    "Jupiter is the largest planet of the Solar System. In 2023 astronomers counted 95 moons, "
    "of which Galileo saw four in January 1610: Io, Europa, Ganymede and Callisto.",
)


def main(checkpoint: str) -> None:
    """Write the file beside this one."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as directory:
        reranker = write_reranker_checkpoint(Path(checkpoint), Path(directory))
        tokenizer = AutoTokenizer.from_pretrained(reranker)
        model = AutoModelForSequenceClassification.from_pretrained(reranker)

    scores = np.empty((len(QUERIES), len(DOCUMENTS)), np.float32)
    scores_token_type_zero = np.empty_like(scores)
    with torch.no_grad():
        for row, query in enumerate(QUERIES):
            for column, document in enumerate(DOCUMENTS):
                pair = tokenizer(query, document, return_tensors="pt")
                scores[row, column] = model(**pair).logits.item()
                pair["token_type_ids"].zero_()
                scores_token_type_zero[row, column] = model(**pair).logits.item()
    np.savez_compressed(
        Path(__file__).with_name("reranker_reference.npz"),
        queries=np.array(QUERIES),
        documents=np.array(DOCUMENTS),
        scores=scores,
        scores_token_type_zero=scores_token_type_zero,
    )


if __name__ == "__main__":
    main(sys.argv[1])
