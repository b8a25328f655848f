# SPDX-License-Identifier: Apache-2.0
"""Write ``smollm2_tokens.json`` and ``smollm2_reference.npz``: a decoder as an embedder.

Argument: the GGUF file SmolLM2-135M-Instruct.Q4_1::

    python tests/data/make_smollm2_reference.py SmolLM2-135M-Instruct.Q4_1.gguf

Made with gguf 0.19.0, transformers 5.23.0, tokenizers 0.23.3, torch 2.13.0 (CPU), numpy 2.4.6.

The quantised weights are expanded to float32 with ``gguf.quants.dequantize`` and put into
transformers' LlamaModel; the rows of the query and key weights, which the conversion to GGUF
permutes for llama.cpp's order of rotary dimensions, go back to their places. llama.cpp also
quantises the activations of every product, to eight bits, so its vectors are near these and not
equal. The tokenizer is built from the GGUF's vocabulary and merges; the pre-tokenizer "smollm" is
one digit at a time, then GPT-2's byte-level rule.

``smollm2_tokens.json``: name of a text of ``texts.json`` -> ``without_eos``, the tokenizer's ids
(no BOS: the file says ``add_bos_token = false``), and ``with_eos``, the same and the EOS id.

``smollm2_reference.npz``, all float32 and not normalised:

- ``names`` (N,)
- ``last`` (N, 576): the final-norm output at the EOS appended to the text.
- ``mean`` (N, 576): the mean of the final-norm outputs of the text without an EOS.
- ``tokens_<name>`` (T, 576): these outputs themselves, for the shorter texts.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import GGUFReader, TokenType
from gguf.quants import dequantize
from tokenizers import AddedToken, Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence
from transformers import LlamaConfig, LlamaModel

DATA = Path(__file__).parent
NAMES = (
    "one_letter",
    "two_words",
    "sentence",
    "question",
    "upper_case",
    "contractions",
    "french",
    "chinese",
    "python",
    "numbers",
    "white_space_runs",
    "emoji",
    "typed_others",
    "words_64_tokens",
)
PER_TOKEN = ("one_letter", "two_words", "sentence", "question", "emoji")
LAYER_TENSORS = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def metadata(reader: GGUFReader) -> dict[str, Any]:
    """Give the file's key-value pairs."""
    return {key: field.contents() for key, field in reader.fields.items()}


def load_tokenizer(values: dict[str, Any]) -> Tokenizer:
    """Build the byte-level BPE tokenizer of the file."""
    if values["tokenizer.ggml.pre"] != "smollm" or values["tokenizer.ggml.add_bos_token"]:
        raise SystemExit("not the tokenizer that this script reproduces")
    tokens = values["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in values["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(BPE({token: i for i, token in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = Sequence(
        [Digits(individual_digits=True), ByteLevel(add_prefix_space=False)]
    )
    tokenizer.add_special_tokens(
        [
            AddedToken(token, special=True, normalized=False)
            for token, kind in zip(tokens, values["tokenizer.ggml.token_type"], strict=True)
            if kind == TokenType.CONTROL
        ]
    )
    return tokenizer


def load_model(reader: GGUFReader, values: dict[str, Any]) -> LlamaModel:
    """Build transformers' LlamaModel from the file's metadata and dequantised tensors."""
    n_heads = values["llama.attention.head_count"]
    n_key_heads = values["llama.attention.head_count_kv"]
    config = LlamaConfig(
        hidden_size=values["llama.embedding_length"],
        intermediate_size=values["llama.feed_forward_length"],
        num_hidden_layers=values["llama.block_count"],
        num_attention_heads=n_heads,
        num_key_value_heads=n_key_heads,
        max_position_embeddings=values["llama.context_length"],
        rms_norm_eps=values["llama.attention.layer_norm_rms_epsilon"],
        rope_parameters={"rope_type": "default", "rope_theta": values["llama.rope.freq_base"]},
        vocab_size=values["llama.vocab_size"],
    )
    state = {}
    for tensor in reader.tensors:
        weight = dequantize(tensor.data, tensor.tensor_type)
        if tensor.name == "token_embd.weight":
            name = "embed_tokens.weight"
        elif tensor.name == "output_norm.weight":
            name = "norm.weight"
        else:
            _, layer, part, _ = tensor.name.split(".")
            name = f"layers.{layer}.{LAYER_TENSORS[part]}.weight"
            if part in ("attn_q", "attn_k"):
                heads = n_heads if part == "attn_q" else n_key_heads
                # The reverse of LlamaModel.permute in llama.cpp's conversion/llama.py.
                weight = (
                    weight.reshape(heads, -1, 2, weight.shape[1])
                    .swapaxes(1, 2)
                    .reshape(weight.shape)
                )
        state[name] = torch.tensor(np.ascontiguousarray(weight))
    model = LlamaModel(config)
    model.load_state_dict(state)
    return model


def main(path: str) -> None:
    """Write both files beside this one."""
    torch.set_num_threads(1)
    reader = GGUFReader(path)
    values = metadata(reader)
    tokenizer = load_tokenizer(values)
    model = load_model(reader, values)
    rows = json.loads((DATA / "texts.json").read_text(encoding="ascii"))
    texts = {row["name"]: row["text"] for row in rows}

    without_eos = {name: tokenizer.encode(texts[name]).ids for name in NAMES}
    with_eos = {name: [*without_eos[name], values["tokenizer.ggml.eos_token_id"]] for name in NAMES}
    with torch.no_grad():
        hidden = {
            name: model(torch.tensor([without_eos[name]])).last_hidden_state[0].numpy()
            for name in NAMES
        }
        last = [model(torch.tensor([with_eos[name]])).last_hidden_state[0, -1] for name in NAMES]

    lines = ",\n".join(
        f'"{name}": ' + json.dumps({"without_eos": without_eos[name], "with_eos": with_eos[name]})
        for name in NAMES
    )
    (DATA / "smollm2_tokens.json").write_text(f"{{\n{lines}\n}}\n", encoding="ascii")
    np.savez_compressed(
        DATA / "smollm2_reference.npz",
        names=np.array(NAMES),
        last=torch.stack(last).numpy(),
        mean=np.stack([hidden[name].mean(axis=0) for name in NAMES]),
        **{f"tokens_{name}": hidden[name] for name in PER_TOKEN},
    )


if __name__ == "__main__":
    main(sys.argv[1])
