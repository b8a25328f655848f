# SPDX-License-Identifier: Apache-2.0
"""Write ``minilm_tokens.json`` and ``minilm_reference.npz``: MiniLM as Hugging Face runs it.

Argument: the checkpoint directory of sentence-transformers/all-MiniLM-L6-v2::

    python tests/data/make_minilm_reference.py all-MiniLM-L6-v2

Made with sentence-transformers 6.2.0, transformers 5.23.0, tokenizers 0.23.3, torch 2.13.0 (CPU),
numpy 2.4.6. One thread and one text at a time, so that a second run gives the same bytes and no
vector depends on padding.

``minilm_tokens.json``: name of a text of ``texts.json`` -> its token ids, [CLS] and [SEP] included,
nothing cut.

``minilm_reference.npz``, all float32:

- ``names`` (N,) and ``vectors`` (N, 384): sentence-transformers' output (mean pooling, L2) with
  ``max_seq_length`` raised from 256 to the model's 512; texts of more tokens are left out.
- ``pooled_names`` (P,) and ``mean``, ``cls``, ``max`` (P, 384): pooled from transformers'
  BertModel, not normalised.
- ``tokens_<name>`` (T, 384): BertModel's last hidden state, one row per token.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer
from transformers import AutoTokenizer, BertModel

DATA = Path(__file__).parent
POOLED = (
    "one_letter",
    "sentence",
    "prose",
    "hindi",
    "korean",
    "typed_all",
    "words_33_tokens",
    "words_512_tokens",
)
PER_TOKEN = ("two_words", "sentence")


def main(checkpoint: str) -> None:
    """Write both files beside this one."""
    torch.set_num_threads(1)
    rows = json.loads((DATA / "texts.json").read_text(encoding="ascii"))
    texts: dict[str, str] = {row["name"]: row["text"] for row in rows}

    tokenizer = Tokenizer.from_file(f"{checkpoint}/tokenizer.json")
    tokenizer.no_truncation()
    tokenizer.no_padding()
    ids = {name: tokenizer.encode(text).ids for name, text in texts.items()}
    auto_tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    for name, text in texts.items():
        if auto_tokenizer(text, truncation=False, verbose=False)["input_ids"] != ids[name]:
            raise SystemExit(f"tokenizers and transformers disagree on {name!r}")
        if name.endswith("_tokens") and len(ids[name]) != int(name.split("_")[-2]):
            raise SystemExit(f"{name!r} has {len(ids[name])} tokens")
    lines = ",\n".join(f'"{name}": {json.dumps(ids[name])}' for name in texts)
    (DATA / "minilm_tokens.json").write_text(f"{{\n{lines}\n}}\n", encoding="ascii")

    sentence_model = SentenceTransformer(checkpoint, device="cpu")
    sentence_model.max_seq_length = 512
    names = [name for name in texts if len(ids[name]) <= 512]
    arrays: dict[str, Any] = {
        "names": np.array(names),
        "vectors": np.stack([sentence_model.encode(texts[name]) for name in names]),
        "pooled_names": np.array(POOLED),
    }

    bert = BertModel.from_pretrained(checkpoint, dtype=torch.float32)
    with torch.no_grad():
        hidden = {
            name: bert(torch.tensor([ids[name]])).last_hidden_state[0]
            for name in {*POOLED, *PER_TOKEN}
        }
    arrays["mean"] = np.stack([hidden[name].mean(dim=0).numpy() for name in POOLED])
    arrays["cls"] = np.stack([hidden[name][0].numpy() for name in POOLED])
    arrays["max"] = np.stack([hidden[name].amax(dim=0).numpy() for name in POOLED])
    for name in PER_TOKEN:
        arrays[f"tokens_{name}"] = hidden[name].numpy()
    for name, mean in zip(POOLED, arrays["mean"], strict=True):
        vector = arrays["vectors"][names.index(name)]
        if not np.allclose(mean / np.linalg.norm(mean), vector, atol=1e-6):
            raise SystemExit(f"transformers and sentence-transformers disagree on {name!r}")
    np.savez_compressed(DATA / "minilm_reference.npz", **arrays)


if __name__ == "__main__":
    main(sys.argv[1])
