# SPDX-License-Identifier: Apache-2.0
"""A small reranker for the tests: the real MiniLM encoder under a classification head of our own.

No reranker is at hand that is small enough, so its head is made of seeded random numbers. The
scores mean nothing; that they are computed right is what the tests see. The reference maker
(``data/make_reranker_reference.py``) and the tests build the same checkpoint from this file.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

SEED = 20261122


def write_reranker_checkpoint(encoder: Path, target: Path) -> Path:
    """Write a BertForSequenceClassification checkpoint with one label.

    The head is ``classifier(tanh(pooler(h)))`` of the last hidden state ``h`` of [CLS].

    Parameters
    ----------
    encoder : Path
        Checkpoint directory of sentence-transformers/all-MiniLM-L6-v2.
    target : Path
        The directory to write, made if missing.

    Returns
    -------
    Path
        `target`.
    """
    config = json.loads((encoder / "config.json").read_text(encoding="utf-8"))
    n_dims = config["hidden_size"]
    generator = np.random.Generator(np.random.PCG64(SEED))

    def uniform(bound: float, *shape: int) -> np.ndarray:
        return (bound * (2 * generator.random(shape) - 1)).astype(np.float32)

    tensors = {
        f"bert.{name}": tensor
        for name, tensor in load_file(encoder / "model.safetensors").items()
        if not name.startswith("pooler.")
    }
    # The bounds keep tanh off its flat ends and spread the scores over several units.
    tensors["bert.pooler.dense.weight"] = uniform(0.15, n_dims, n_dims)
    tensors["bert.pooler.dense.bias"] = uniform(0.15, n_dims)
    tensors["classifier.weight"] = uniform(0.5, 1, n_dims)
    tensors["classifier.bias"] = uniform(0.5, 1)

    target.mkdir(parents=True, exist_ok=True)
    save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
    config |= {
        "architectures": ["BertForSequenceClassification"],
        "id2label": {"0": "LABEL_0"},
        "label2id": {"LABEL_0": 0},
    }
    (target / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"):
        shutil.copyfile(encoder / name, target / name)
    return target
