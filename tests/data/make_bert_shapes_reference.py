# SPDX-License-Identifier: Apache-2.0
"""Write ``bert_shapes_reference.npz``: transformers' vectors for the models of ``bert_shapes.py``.

Made with torch 2.14.1 and transformers 5.24.0, in float64 on the weights of each file as gguf
dequantises them::

    PYTHONPATH=tests python tests/data/make_bert_shapes_reference.py

- ``<shape> <file type> <length>`` (n, D) float32: the last hidden states of the first and the last
  token of a text (of one token: n = 1).
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import gguf
import numpy as np
import torch
from support.bert_shapes import LENGTHS, MODELS, N_TOKENS, SHAPES, tokens, write_bert
from transformers import BertConfig, BertModel

OUTER = {
    "token_embd.weight": "embeddings.word_embeddings.weight",
    "position_embd.weight": "embeddings.position_embeddings.weight",
    "token_types.weight": "embeddings.token_type_embeddings.weight",
    "token_embd_norm": "embeddings.LayerNorm",
}
INNER = {
    "attn_q": "attention.self.query",
    "attn_k": "attention.self.key",
    "attn_v": "attention.self.value",
    "attn_output_norm": "attention.output.LayerNorm",
    "attn_output": "attention.output.dense",
    "ffn_up": "intermediate.dense",
    "ffn_down": "output.dense",
    "layer_output_norm": "output.LayerNorm",
}


def transformers_name(name: str) -> str:
    """Translate a tensor's name."""
    if name in OUTER:
        return OUTER[name]
    stem, kind = name.rsplit(".", 1)
    if stem in OUTER:
        return f"{OUTER[stem]}.{kind}"
    _, layer, inner = stem.split(".")
    return f"encoder.layer.{layer}.{INNER[inner]}.{kind}"


def load(path: Path, shape: str) -> BertModel:
    """Return transformers' model with the weights of the file."""
    size = SHAPES[shape]
    config = BertConfig(
        vocab_size=N_TOKENS,
        hidden_size=size["embedding_length"],
        num_hidden_layers=2,
        num_attention_heads=size["head_count"],
        intermediate_size=size["feed_forward_length"],
        max_position_embeddings=64,
        layer_norm_eps=1e-6,
        hidden_act="gelu",
    )
    model = BertModel(config, add_pooling_layer=False).double().eval()
    weights = {
        transformers_name(tensor.name): torch.from_numpy(
            gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float64)
        )
        for tensor in gguf.GGUFReader(path).tensors
    }
    missing, unexpected = model.load_state_dict(weights, strict=False)
    assert not unexpected
    assert all("position_ids" in name for name in missing)
    return model


def main() -> None:
    """Write the file beside this one."""
    arrays = {}
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        for shape, file_type in MODELS:
            model = load(write_bert(Path(folder) / "model.gguf", shape, file_type), shape)
            for length in LENGTHS:
                ids = torch.from_numpy(tokens(length).astype(np.int64))[None]
                hidden = model(input_ids=ids).last_hidden_state[0].numpy()
                ends = hidden[[0, -1]] if length > 1 else hidden
                arrays[f"{shape} {file_type} {length}"] = ends.astype(np.float32)
    np.savez_compressed(Path(__file__).with_name("bert_shapes_reference.npz"), **arrays)


if __name__ == "__main__":
    main()
