# SPDX-License-Identifier: Apache-2.0
"""Complete models of a few kilobytes, with random weights: for tests of files, not of vectors."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np

# WordPiece as llama.cpp stores it: "▁" begins a word, a piece without it goes on with one.
TINY_TOKENS = [
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
    *(f"▁{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"),
    *"abcdefghijklmnopqrstuvwxyz",
    *("▁hello", "▁world", "ing", "▁.", "▁,", "▁!"),
]
# Byte-level BPE spells a space as "Ġ" and a newline as "Ċ".
TINY_BPE_TOKENS = [
    *("<s>", "</s>", "<unk>", "<|endoftext|>", "Ġ", "Ċ"),
    *"abcdefghijklmnopqrstuvwxyz",
    *("he", "ll", "hell", "hello", "Ġw", "or", "Ġwor"),
]
TINY_MERGES = ["h e", "l l", "he ll", "hell o", "Ġ w", "o r", "Ġw or"]

_BYTE = gguf.TokenType.BYTE
_CONTROL = gguf.TokenType.CONTROL
_NORMAL = gguf.TokenType.NORMAL


def write_tiny_bert(
    path: str | os.PathLike[str], *, file_type: str = "F32", seed: int = 0, **overrides: Any
) -> Path:
    """Write a BERT of two layers, 32 dimensions and 63 tokens.

    Parameters
    ----------
    path : str or os.PathLike
        Where to write it.
    file_type : str
        Type of the matrices, such as ``F32``, ``F16``, ``Q8_0`` or ``Q4_0``.
    seed : int
        Of the random weights.
    **overrides
        What :func:`write_tiny_model` takes.

    Returns
    -------
    Path
    """
    return write_tiny_model(path, "bert", file_type=file_type, seed=seed, **overrides)


def write_tiny_model(
    path: str | os.PathLike[str],
    architecture: str,
    *,
    file_type: str = "F32",
    seed: int = 0,
    metadata: Mapping[str, Any] | None = None,
    tensors: Mapping[str, np.ndarray[Any, Any] | None] | None = None,
    **sizes: int,
) -> Path:
    """Write a complete model with random weights.

    Parameters
    ----------
    path : str or os.PathLike
        Where to write it.
    architecture : str
        A key of :data:`ARCHITECTURES`.
    file_type : str
        Type of the matrices.
    seed : int
        Of the random weights.
    metadata : mapping, optional
        Key-values to add or replace; None leaves a key out. A NumPy scalar or array keeps its
        type; an int becomes a u32.
    tensors : mapping, optional
        Float32 tensors to add or replace, in NumPy's order of dimensions; None leaves one out.
    **sizes
        Of :data:`SIZES`.

    Returns
    -------
    Path
    """
    size = SIZES | sizes
    key_values = _metadata(architecture, size) | dict(metadata or {})
    random = np.random.default_rng(seed)
    arrays: dict[str, np.ndarray[Any, Any] | None] = {
        name: _weights(random, name, shape) for name, shape in shapes(architecture, size).items()
    }
    arrays |= tensors or {}
    writer = gguf.GGUFWriter(path, architecture)
    for key, value in key_values.items():
        if value is not None:
            _add(writer, key, value)
    for name, array in arrays.items():
        if array is not None:
            _add_tensor(writer, name, array, gguf.GGMLQuantizationType[file_type])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return Path(path)


SIZES = {
    "embedding_length": 32,
    "block_count": 2,
    "head_count": 2,
    "head_count_kv": 2,
    "key_length": 16,
    "feed_forward_length": 64,
    "context_length": 64,
    "expert_count": 4,
}

_QKV = {"attn_q": "dq", "attn_k": "dk", "attn_v": "dk"}
_ENCODER_NORMS = ["attn_output_norm", "layer_output_norm"]
_GATED = {"ffn_gate": "df", "ffn_up": "df", "ffn_down": "fd"}
_PLAIN = {"ffn_up": "df", "ffn_down": "fd"}
_DECODER: dict[str, Any] = {
    "epsilon": "rms",
    "vocabulary": "bpe",
    "outer": {"token_embd.weight": "dv", "output_norm.weight": "d"},
    "norms": ["attn_norm", "ffn_norm"],
    "matrices": _QKV | {"attn_output": "qd"} | _GATED,
}
_BERT: dict[str, Any] = {
    "epsilon": "layer",
    "vocabulary": "wordpiece",
    "outer": {
        "token_embd.weight": "dv",
        "token_types.weight": "d2",
        "token_embd_norm.weight": "d",
        "token_embd_norm.bias": "d",
    },
    "norms": _ENCODER_NORMS,
    "matrices": _QKV | {"attn_output": "qd"} | _PLAIN,
    "biased": [*_QKV, "attn_output", *_PLAIN, *_ENCODER_NORMS],
}
_GEMMA = _DECODER | {
    "norms": ["attn_norm", "ffn_norm", "post_attention_norm", "post_ffw_norm"],
    "head_norms": ["attn_q_norm", "attn_k_norm"],
    "metadata": {"attention.sliding_window": 16, "attention.sliding_window_pattern": 2},
}
# Letters: d embedding_length, f feed_forward_length, v tokens, c context_length, h key_length,
# e experts, n heads, q and k all heads' queries and keys, p 4 times block_count, F twice f,
# T queries, keys and values, digits themselves. The contiguous dimension comes first.
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "bert": _BERT | {"outer": _BERT["outer"] | {"position_embd.weight": "dc"}},
    "nomic-bert": _BERT | {"matrices": _BERT["matrices"] | _GATED, "biased": _ENCODER_NORMS},
    "nomic-bert-moe": _BERT
    | {
        "metadata": {"moe_every_n_layers": 2, "expert_count": 4, "expert_used_count": 2},
        "experts": {"ffn_gate_inp": "de", "ffn_up_exps": "dfe", "ffn_down_exps": "fde"},
    },
    "jina-bert-v2": _BERT | {"matrices": _BERT["matrices"] | _GATED},
    "jina-bert-v3": _BERT,
    "neo-bert": _DECODER
    | {
        "vocabulary": "wordpiece",
        "outer": {"token_embd.weight": "dv", "enc.output_norm.weight": "d"},
        "matrices": {"attn_qkv": "dT", "attn_output": "qd", "ffn_up": "dF", "ffn_down": "fd"},
    },
    "eurobert": _DECODER,
    "modern-bert": _DECODER
    | {
        "epsilon": "layer",
        "outer": _DECODER["outer"] | {"token_embd_norm.weight": "d"},
        "matrices": {"attn_qkv": "dT", "attn_output": "qd", "ffn_up": "dF", "ffn_down": "fd"},
        "metadata": {"attention.sliding_window": 16, "attention.sliding_window_pattern": 2},
    },
    "gemma-embedding": _GEMMA,
    "gemma-embedding2": _GEMMA
    | {
        "norms": [*_GEMMA["norms"], "post_norm"],
        "outer": _DECODER["outer"]
        | {
            "output.weight": "dd",
            "per_layer_model_proj.weight": "dp",
            "per_layer_proj_norm.weight": "4",
        },
        "matrices": _DECODER["matrices"] | {"inp_gate": "d4", "proj": "4d"},
        "scalars": ["layer_output_scale"],
        "metadata": _GEMMA["metadata"] | {"embedding_length_per_layer_input": 4},
    },
    "t5encoder": {
        "epsilon": "rms",
        "vocabulary": "unigram",
        "prefix": "enc.",
        "outer": {"token_embd.weight": "dv", "enc.output_norm.weight": "d"},
        "norms": ["attn_norm", "ffn_norm"],
        "matrices": _QKV | {"attn_o": "qd"} | _PLAIN | {"attn_rel_b": "n8"},
        "metadata": {"attention.relative_buckets_count": 8},
    },
    "llama": _DECODER,
    "llama-embed": _DECODER,
    "qwen2": _DECODER,
    "qwen3": _DECODER | {"head_norms": ["attn_q_norm", "attn_k_norm"]},
    "gemma": _DECODER | {"vocabulary": "sentencepiece"},
    "gemma2": _GEMMA | {"vocabulary": "sentencepiece", "head_norms": []},
    "gemma3": _GEMMA | {"vocabulary": "sentencepiece"},
}


def shapes(architecture: str, size: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
    """Return the tensors of an architecture and their shapes, contiguous dimension first."""
    plan = ARCHITECTURES[architecture]
    d, f = size["embedding_length"], size["feed_forward_length"]
    q, k = (size["key_length"] * size[key] for key in ("head_count", "head_count_kv"))
    letters = {
        "d": d,
        "f": f,
        "F": 2 * f,
        "q": q,
        "k": k,
        "T": q + 2 * k,
        "v": len(_vocabulary(plan["vocabulary"])["tokenizer.ggml.tokens"]),
        "c": size["context_length"],
        "e": size["expert_count"],
        "n": size["head_count"],
        "h": size["key_length"],
        "p": 4 * size["block_count"],
    } | {str(number): number for number in range(10)}
    result = dict(plan["outer"])
    for layer in range(size["block_count"]):
        block = f"{plan.get('prefix', '')}blk.{layer}."
        inner = dict(plan["matrices"])
        if "experts" in plan and layer % 2 == 1:
            inner = {name: shape for name, shape in inner.items() if name not in _PLAIN}
            inner |= plan["experts"]
        inner |= dict.fromkeys(plan["norms"], "d")
        inner |= dict.fromkeys(plan.get("head_norms", []), "h")
        inner |= dict.fromkeys(plan.get("scalars", []), "1")
        result |= {f"{block}{name}.weight": shape for name, shape in inner.items()}
        result |= {
            f"{block}{name}.bias": inner[name][-1]
            for name in plan.get("biased", [])
            if name in inner
        }
    return {name: tuple(letters[letter] for letter in word) for name, word in result.items()}


def _weights(
    random: np.random.Generator, name: str, shape: tuple[int, ...]
) -> np.ndarray[Any, Any]:
    spread = random.standard_normal(shape[::-1], dtype=np.float32) * np.float32(0.1)
    return spread + np.float32("norm" in name and name.endswith("weight"))


def _metadata(architecture: str, size: Mapping[str, int]) -> dict[str, Any]:
    plan = ARCHITECTURES[architecture]
    epsilon = "layer_norm_epsilon" if plan["epsilon"] == "layer" else "layer_norm_rms_epsilon"
    values: dict[str, Any] = {
        "context_length": size["context_length"],
        "embedding_length": size["embedding_length"],
        "block_count": size["block_count"],
        "feed_forward_length": size["feed_forward_length"],
        "attention.head_count": size["head_count"],
        "attention.head_count_kv": size["head_count_kv"],
        "attention.key_length": size["key_length"],
        "attention.value_length": size["key_length"],
        f"attention.{epsilon}": np.float32(1e-6),
    }
    if plan is not _DECODER:
        values |= {"attention.causal": False, "pooling_type": 1}
    values |= plan.get("metadata", {})
    return {f"{architecture}.{key}": value for key, value in values.items()} | _vocabulary(
        plan["vocabulary"]
    )


def _vocabulary(kind: str) -> dict[str, Any]:
    pieces = TINY_BPE_TOKENS if kind == "bpe" else TINY_TOKENS
    types = [_CONTROL if piece[0] in "[<" else _NORMAL for piece in pieces]
    if kind == "sentencepiece":
        pieces = pieces + [f"<0x{byte:02X}>" for byte in range(256)]
        types += [_BYTE] * 256
    values: dict[str, Any] = {
        "model": {"wordpiece": "bert", "bpe": "gpt2", "unigram": "t5", "sentencepiece": "llama"}[
            kind
        ]
    }
    values |= {
        "tokens": pieces,
        "token_type": np.array(types, dtype=np.int32),
        "token_type_count": 2,
    }
    if kind == "bpe":
        values |= {"pre": "gpt-2", "merges": TINY_MERGES}
        values |= {"bos_token_id": 0, "eos_token_id": 1, "add_bos_token": True}
    else:
        values |= {"bos_token_id": 2, "eos_token_id": 3, "seperator_token_id": 3}
        values |= {"unknown_token_id": 1, "padding_token_id": 0, "mask_token_id": 4}
    if kind in ("unigram", "sentencepiece"):
        values["scores"] = -np.arange(len(pieces), dtype=np.float32)
    return {f"tokenizer.ggml.{key}": value for key, value in values.items()}


def _add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    if key == gguf.Keys.General.ALIGNMENT:
        writer.add_custom_alignment(value)
    elif isinstance(value, np.ndarray):
        # The writer takes the type of a list from its first element, and knows Python's only.
        kinds = {"i4": "INT32", "u4": "UINT32", "f4": "FLOAT32", "b1": "BOOL", "u1": "UINT8"}
        kind = gguf.GGUFValueType[kinds[value.dtype.str[1:]]]
        writer.add_key_value(key, value.tolist(), gguf.GGUFValueType.ARRAY, sub_type=kind)
    elif isinstance(value, np.generic):
        name = {"float": "FLOAT", "int": "INT", "uint": "UINT"}[
            value.dtype.name.rstrip("0123456789")
        ]
        bits = value.dtype.itemsize * 8
        writer.add_key_value(key, value.item(), gguf.GGUFValueType[f"{name}{bits}"])
    elif isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        writer.add_array(key, value)


def _add_tensor(
    writer: gguf.GGUFWriter,
    name: str,
    array: np.ndarray[Any, Any],
    kind: gguf.GGMLQuantizationType,
) -> None:
    # As the converters do it: vectors, matrices that are added to something, and those whose rows
    # are no whole blocks, stay F32.
    added = array.ndim == 1 or name.startswith(("token_types", "position_embd"))
    if added or array.shape[-1] % gguf.GGML_QUANT_SIZES[kind][0]:
        kind = gguf.GGMLQuantizationType.F32
    if kind is gguf.GGMLQuantizationType.F32:
        writer.add_tensor(name, array.astype(np.float32))
    elif kind is gguf.GGMLQuantizationType.F16:
        writer.add_tensor(name, array.astype(np.float16))
    else:
        writer.add_tensor(name, gguf.quants.quantize(array, kind), raw_dtype=kind)
