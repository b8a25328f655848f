# SPDX-License-Identifier: Apache-2.0
"""What a stranger may do to a GGUF file: to its header, its vocabulary, its weights, its bytes."""

from __future__ import annotations

import dataclasses
import random
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
from support.gguf_draft import ARRAY, BLOCKS, LAYOUTS, STRING, TYPE_CODES, Draft, Tensor, n_bytes
from support.tiny_model import ARCHITECTURES

_NUMBERS = [0, 1, 2, 3, 4, 5, 7, 8, 15, 16, 31, 32, 33, 63, 64, 65, 100, 127, 128, 255, 256, 511]
_NUMBERS += [
    512,
    513,
    1024,
    4096,
    65535,
    65536,
    2**20,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**63,
    2**64 - 1,
]
_FLOATS = [
    0.0,
    -0.0,
    1e-6,
    1.0,
    -1.0,
    1e4,
    1e30,
    -1e30,
    1e-45,
    float("inf"),
    float("-inf"),
    float("nan"),
]
_WEIGHTS = [*_FLOATS, 1e-40, 6e-8, 65504.0, -65504.0, 3e38]
_TEXTS = [
    "",
    "none",
    "linear",
    "yarn",
    "longrope",
    "gelu",
    "silu",
    "tanh",
    "relu",
    "\0",
    "x" * 3000,
]
_TOKENIZERS = ["llama", "bert", "gpt2", "t5", "rwkv", "plamo2", "plamo3", "gemma4", "whitespace"]
_TOKENIZERS += ["hybriddna", "no_vocab", "none", "test", ""]
_PRE = ["default", "gpt-2", "llama-bpe", "qwen2", "whitespace", "gemma4", "mmbert", "sarvam-moe"]
_PRE += ["roberta-bpe", "tekken", "chatglm-bpe", "minicpm5", "kimi-k2", "granite-embed-multi-311m"]
_VOCABULARY_ACTIONS = """
repeat empty nul bytes long fewer types scores merges model pre clash charsmap special drop
"""
# What llama.cpp reads for these architectures, with the type it wants.
_KEYS = """
block_count:u32 context_length:u32 embedding_length:u32 embedding_length_out:u32
feed_forward_length:u32 attention.head_count:u32 attention.head_count_kv:u32
attention.key_length:u32 attention.value_length:u32 attention.key_length_swa:u32
attention.value_length_swa:u32 rope.dimension_count:u32 rope.dimension_count_swa:u32
attention.layer_norm_epsilon:f32 attention.layer_norm_rms_epsilon:f32 attention.causal:bool
attention.sliding_window:u32 attention.sliding_window_pattern:u32 rope.freq_base:f32
rope.freq_base_swa:f32 rope.scaling.type:str rope.scaling.factor:f32 rope.scale_linear:f32
rope.scaling.attn_factor:f32 rope.scaling.original_context_length:u32 pooling_type:u32
classifier.pooling_type:u32 classifier.activation:str expert_count:u32 expert_used_count:u32
expert_group_count:u32 expert_group_used_count:u32 moe_every_n_layers:u32
nextn_predict_layers:u32 decision.block_count:u32 hidden_activation:str
attention.relative_buckets_count:u32 dense_2_feat_in:u32 dense_2_feat_out:u32
dense_3_feat_in:u32 dense_3_feat_out:u32 embedding_length_per_layer_input:u32
attn_logit_softcapping:f32 final_logit_softcapping:f32 vocab_size:u32
"""
_GENERAL_KEYS = """
general.alignment:u32 general.file_type:u32 general.type:str general.name:str split.count:u16
split.no:u16 tokenizer.ggml.bos_token_id:u32 tokenizer.ggml.eos_token_id:u32
tokenizer.ggml.unknown_token_id:u32 tokenizer.ggml.seperator_token_id:u32
tokenizer.ggml.padding_token_id:u32 tokenizer.ggml.mask_token_id:u32
tokenizer.ggml.add_bos_token:bool tokenizer.ggml.add_eos_token:bool
tokenizer.ggml.add_space_prefix:bool tokenizer.ggml.token_type_count:u32
tokenizer.ggml.remove_extra_whitespaces:bool tokenizer.ggml.eot_token_id:u32
tokenizer.ggml.suppress_tokens:i32 tokenizer.ggml.normalizer.lowercase:bool
tokenizer.ggml.strip_trailing_spaces:bool embellama.spaces.split_words:bool
embellama.spaces.split_marks:bool embellama.spaces.prepend:str embellama.spaces.merged:str
embellama.added_tokens.ids:i32
"""
_EXTRA_TENSORS = """
cls.weight:dd cls.bias:d cls.output.weight:d1 cls.output.bias:1 cls.norm.weight:d
dense_2.weight:dd dense_3.weight:dd dense_2.bias:d dense_3.bias:d
output.weight:dv output.bias:v output.scale:1
output.input_scale:1 rope_freqs.weight:h token_types.weight:d2 blk.0.attn_q.scale:1
blk.0.attn_qkv.weight:dT blk.0.attn_qkv.bias:T blk.0.attn_q.bias:d blk.0.attn_output.bias:d
blk.0.attn_q_norm.weight:d blk.0.attn_k_norm.weight:d blk.0.attn_norm_2.weight:d
blk.0.ffn_up.bias:f blk.0.ffn_down.bias:d blk.0.ffn_gate.weight:df blk.0.ffn_up.scale:1
blk.1.ffn_gate_inp.weight:de blk.1.ffn_up_exps.weight:dfe blk.1.ffn_down_exps.weight:fde
blk.1.ffn_gate_exps.weight:dfe blk.1.ffn_up_exps.scale:e blk.0.attn_q.input_scale:1
"""


def _typed(rng: random.Random, entry: str) -> tuple[str, int, Any]:
    key, _, name = entry.rpartition(":")
    kind = TYPE_CODES[name]
    values: dict[int, list[Any]] = {6: _FLOATS, 7: [0, 1, 2], STRING: _TEXTS}
    return key, kind, rng.choice(values.get(kind, _NUMBERS))


def set_hyper_parameter(rng: random.Random, draft: Draft) -> None:
    key, kind, value = _typed(rng, rng.choice(_KEYS.split()))
    name = f"{draft.architecture}.{key}"
    found = draft.find(name)
    if found is not None and isinstance(found.value, int) and rng.random() < 0.4:
        value = max(0, found.value + rng.choice([-2, -1, 1, 2, found.value, -found.value // 2]))
    draft.notes.append(f"{name}={value!r}")
    layers = draft.sizes["block_count"]
    if kind == 4 and rng.random() < 0.15:
        items = [rng.choice([value, rng.choice(_NUMBERS[:16])]) for _ in range(layers)]
        count = rng.choice([layers, layers, layers, 0, 1, layers + 1, 600])
        items = (items * 300)[:count]
        draft.put(name, ARRAY, items, rng.choice([4, 4, 5, 7, 6, 8]))
    elif rng.random() < 0.1:
        draft.put(name, rng.choice(list(LAYOUTS)), value)
    else:
        draft.put(name, kind, value)


def set_general_key(rng: random.Random, draft: Draft) -> None:
    key, kind, value = _typed(rng, rng.choice(_GENERAL_KEYS.split()))
    if key.endswith("_id") and rng.random() < 0.7:
        value = rng.randrange(80)
    draft.notes.append(f"{key}={value!r}")
    draft.put(key, kind, value)
    if key == "general.alignment" and value in (1, 2, 4, 8, 16, 32, 64, 128, 4096):
        draft.alignment = value


def change_key_values(rng: random.Random, draft: Draft) -> None:
    items = draft.key_values
    index = rng.randrange(len(items))
    action = rng.choice(["delete", "repeat", "retype", "rename", "move", "nul"])
    draft.notes.append(f"{action} {items[index].key!r}")
    if action == "delete":
        del items[index]
    elif action == "repeat":
        items.append(dataclasses.replace(items[index]))
    elif action == "retype":
        items[index].kind = rng.choice([*range(13), 13, 255, 2**31])
    elif action == "rename":
        items[index].key = rng.choice([b"", b"a", b"\xff\xfe", b"k" * 70000, items[0].key])
    elif action == "move":
        items.append(items.pop(index))
    else:
        items.insert(0, dataclasses.replace(items[index], key=items[index].key + b"\0x", value=3))


def change_vocabulary(rng: random.Random, draft: Draft) -> None:
    tokens = draft.find("tokenizer.ggml.tokens")
    if tokens is None or tokens.kind != ARRAY or not tokens.value:
        return
    pieces = tokens.value
    index = rng.randrange(len(pieces))
    action = rng.choice(_VOCABULARY_ACTIONS.split())
    draft.notes.append(f"vocabulary {action} {index}")
    if action == "repeat":
        pieces[index] = pieces[rng.randrange(len(pieces))]
    elif action == "empty":
        pieces[index] = b""
    elif action == "nul":
        pieces[index] = rng.choice([b"\0", b"a\0b", pieces[index - 1] + b"\0"])
    elif action == "bytes":
        pieces[index] = rng.randbytes(rng.randrange(1, 12))
    elif action == "long":
        length = rng.choice([100, 511, 512, 513, 2047, 2048, 2049, 100_000])
        pieces[index] = rng.choice([b"a", b"\xe2\x96\x81", b" "]) * length
    elif action == "fewer":
        del pieces[rng.choice([0, 1, len(pieces) // 2, len(pieces) - 1]) :]
    elif action == "types":
        kinds = [rng.choice([0, 1, 2, 3, 4, 5, 6, 7, -1]) for _ in pieces]
        if rng.random() < 0.5:
            kinds = [rng.choice(kinds)] * len(pieces)
        count = rng.choice([len(pieces), len(pieces), len(pieces) - 1, len(pieces) + 5, 0])
        draft.put("tokenizer.ggml.token_type", ARRAY, (kinds * 2)[:count], rng.choice([5, 5, 4]))
    elif action == "scores":
        scores = [rng.choice([*_FLOATS, rng.uniform(-10, 0)]) for _ in pieces]
        count = rng.choice([len(pieces), len(pieces), len(pieces) - 1, 0])
        draft.put("tokenizer.ggml.scores", ARRAY, scores[:count], rng.choice([6, 6, 5, 12]))
    elif action == "merges":
        merges = [rng.choice([b"", b" ", b"  ", b"a b", b"a", b" a", b"a b c"]) for _ in range(9)]
        draft.put("tokenizer.ggml.merges", ARRAY, merges, rng.choice([8, 8, 8, 4]))
    elif action == "model":
        draft.put("tokenizer.ggml.model", STRING, rng.choice(_TOKENIZERS))
        if rng.random() < 0.5:
            draft.put("tokenizer.ggml.merges", ARRAY, [b"a b", b"h e"], STRING)
    elif action == "pre":
        draft.put("tokenizer.ggml.pre", STRING, rng.choice(_PRE))
    elif action == "clash":
        pieces[index], pieces[index - 1] = b"", b"[EMPTY_%d]" % index
    elif action == "charsmap":
        draft.put("tokenizer.ggml.precompiled_charsmap", ARRAY, _character_map(rng), 0)
    elif action == "special":
        names = [b"<|end|>", b"<|return|>", b"<|call|>", b"</s>", b"<eos>", b"<mask>", b"<oov>"]
        names += [b"<dna>", b"</dna>", b"A\xee\x80\x80", b"\xee\x80\x80", b"<|tool_response>"]
        pieces[index] = rng.choice(names)
    else:
        del draft.key_values[draft.key_values.index(tokens)]


def _character_map(rng: random.Random) -> list[int]:
    trie = [
        rng.getrandbits(32) & rng.choice([0x3FF, 0xFFFFFFFF]) for _ in range(rng.randrange(300))
    ]
    size = rng.choice([4 * len(trie), 4 * len(trie) + 1, 0, 2**32 - 1])
    tail = rng.choice([b"", b"\0", b"x" * 600, b"abc\0de\0", rng.randbytes(40)])
    return list(struct.pack("<I", size) + struct.pack(f"<{len(trie)}I", *trie) + tail)


def change_tensor(rng: random.Random, draft: Draft) -> None:
    if not draft.tensors:
        return
    index = rng.randrange(len(draft.tensors))
    tensor = draft.tensors[index]
    action = rng.choice(["delete", "repeat", "rename", "shape", "type", "offset", "swap"])
    if action == "delete":
        del draft.tensors[index]
    elif action == "repeat":
        draft.tensors.append(dataclasses.replace(tensor))
    elif action == "rename":
        neighbour = draft.tensors[index - 1].name
        moved = tensor.name.replace(b"blk.0", b"blk.7")
        odd = [b"", b"x" * 63, b"x" * 64, b"x" * 5000, tensor.name + b"\0", b"blk.99999999999.x"]
        tensor.name = rng.choice([*odd, neighbour, moved])
    elif action == "shape":
        shapes: list[list[int]] = [[], [0], [1], [*tensor.shape, 1], [*tensor.shape, 2], [1] * 5]
        shapes += [tensor.shape[::-1], [2 * n for n in tensor.shape[:1]] + tensor.shape[1:]]
        shapes += [[rng.choice(_NUMBERS) for _ in tensor.shape], [2**32, 2**31], [2**62, 4]]
        tensor.shape = rng.choice(shapes)
    elif action == "type":
        tensor.kind = rng.choice([*BLOCKS, *range(45), 2**31])
    elif action == "offset":
        tensor.offset = rng.choice([*_NUMBERS, len(tensor.data), 2**64 - 32])
    else:
        other = rng.randrange(len(draft.tensors))
        draft.tensors[index], draft.tensors[other] = draft.tensors[other], tensor
    draft.notes.append(f"tensor {action} {tensor.name[:60]!r} {tensor.shape} type {tensor.kind}")
    # Mostly the data follow, so that the damage is not found by their place alone.
    if action in ("shape", "type") and rng.random() < 0.8 and min(tensor.shape, default=1) < 2**20:
        tensor.data = (tensor.data or b"\0").ljust(n_bytes(tensor.shape, tensor.kind), b"\x33")
        tensor.data = tensor.data[: n_bytes(tensor.shape, tensor.kind)]


def change_weights(rng: random.Random, draft: Draft) -> None:
    """What no training gives: NaN, infinities, denormals, scales that overflow."""
    if not draft.tensors:
        return
    tensor = rng.choice(draft.tensors)
    if rng.random() < 0.3:
        tensor = next((t for t in draft.tensors if t.name.startswith(b"token_embd.")), tensor)
    block_bytes = BLOCKS.get(tensor.kind, (1, 4))[1]
    is_float32 = tensor.kind not in BLOCKS or block_bytes == 4
    # All other types begin a block with a half-precision number: a weight, or the block's scale.
    step, number = (4, np.dtype("<f4")) if is_float32 else (max(2, block_bytes), np.dtype("<f2"))
    n_blocks = len(tensor.data) // step
    if n_blocks == 0:
        return
    with np.errstate(over="ignore"):
        value = np.array(rng.choice(_WEIGHTS), number)
    filled = np.frombuffer(tensor.data, np.uint8).copy()
    blocks = filled[: n_blocks * step].reshape(n_blocks, step)
    row_blocks = max(1, n_blocks // max(1, tensor.shape[-1] if tensor.shape else 1))
    first = rng.randrange(n_blocks)
    which = rng.choice(
        [slice(first, first + 1), slice(first, first + row_blocks), slice(None), slice(0, None, 7)]
    )
    if rng.random() < 0.15:
        blocks[which] = np.frombuffer(rng.randbytes(step), np.uint8)
    else:
        blocks[which, : number.itemsize] = np.frombuffer(value.tobytes(), np.uint8)
    tensor.data = filled.tobytes()
    draft.notes.append(f"weights {tensor.name[:60]!r} type {tensor.kind} {which} {value}")


def add_tensor(rng: random.Random, draft: Draft) -> None:
    name, _, letters = rng.choice(_EXTRA_TENSORS.split()).rpartition(":")
    width, inner = draft.sizes["embedding_length"], draft.sizes["feed_forward_length"]
    tokens = draft.find("tokenizer.ggml.tokens")
    n_tokens = len(tokens.value) if tokens is not None and isinstance(tokens.value, list) else 1
    head, groups = draft.sizes["key_length"], draft.sizes["head_count_kv"]
    fused = head * (draft.sizes["head_count"] + 2 * groups)
    lengths = {"d": width, "f": inner, "v": n_tokens, "T": fused, "h": head, "1": 1, "2": 2}
    lengths["e"] = draft.sizes["expert_count"]
    shape = [lengths[letter] for letter in letters]
    if rng.random() < 0.2:
        shape[-1] = rng.choice([1, 2, 3, 2 * shape[-1]])
    kind = rng.choice([0, 0, 0, 1, 8, 26])
    if shape[0] % BLOCKS[kind][0]:
        kind = 0
    draft.tensors.append(Tensor(name.encode(), shape, kind, bytes(n_bytes(shape, kind))))
    draft.notes.append(f"add tensor {name} {shape} type {kind}")
    if name.startswith("cls") and rng.random() < 0.5:
        labels = [b"label"] * rng.choice([0, 1, 2, 3, 40])
        draft.put(f"{draft.architecture}.classifier.output_labels", ARRAY, labels, STRING)
        draft.put(f"{draft.architecture}.pooling_type", 4, 4)


def change_architecture(rng: random.Random, draft: Draft) -> None:
    other = rng.choice([*ARCHITECTURES, "clip", "unknown", "", "bert\0", "BERT"])
    draft.notes.append(f"architecture {other}")
    old = f"{draft.architecture}.".encode()
    for item in draft.key_values:
        if item.key.startswith(old):
            item.key = f"{other}.".encode() + item.key[len(old) :]
    draft.put("general.architecture", STRING, other)
    draft.architecture = other


def change_counts(rng: random.Random, draft: Draft) -> None:
    draft.notes.append("counts")
    choice = rng.randrange(3)
    if choice == 0:
        draft.n_tensors = rng.choice([*_NUMBERS, len(draft.tensors) + 1, len(draft.tensors) - 1])
    elif choice == 1:
        draft.n_key_values = rng.choice([*_NUMBERS, len(draft.key_values) + 1])
    else:
        draft.version = rng.choice([0, 1, 2, 3, 4, 0x03000000, 2**31, 65536])


def add_many(rng: random.Random, draft: Draft) -> None:
    """What costs a file few bytes and a reader many."""
    tokens = draft.find("tokenizer.ggml.tokens")
    count = rng.choice([1000, 5000, 20_000])
    draft.notes.append(f"{count} more")
    if rng.random() < 0.3 or tokens is None or not isinstance(tokens.value, list):
        kind, value = rng.choice([(4, 1), (STRING, b"x"), (7, 0)])
        for number in range(count):
            draft.put(f"k{number}", kind, value)
        return
    name = b"enc.token_embd.weight" if draft.architecture == "t5" else b"token_embd.weight"
    table = next((tensor for tensor in draft.tensors if tensor.name == name), None)
    text = rng.choice([b"%d", b"\xe2\x96\x81%d", b"a" * 60 + b"%d", b"%d" + b"b" * 60])
    tokens.value += [text % number for number in range(count)]
    for key in ("token_type", "scores"):
        found = draft.find(f"tokenizer.ggml.{key}")
        if found is not None and isinstance(found.value, list) and found.value:
            found.value += [found.value[-1]] * count
    if table is not None and len(table.shape) == 2:
        table.shape[1] = len(tokens.value)
        table.data = table.data.ljust(n_bytes(table.shape, table.kind), b"\0")


DAMAGES: list[Callable[[random.Random, Draft], None]] = [
    *(set_hyper_parameter for _ in range(8)),
    *(change_vocabulary for _ in range(4)),
    *(change_tensor for _ in range(4)),
    *(add_tensor for _ in range(2)),
    *(set_general_key for _ in range(2)),
    *(change_weights for _ in range(4)),
    change_key_values,
    change_architecture,
    change_counts,
]


def damage_bytes(rng: random.Random, content: bytes) -> bytes:
    damaged = bytearray(content)
    header = min(len(damaged), 12000)
    for _ in range(rng.randrange(1, 5)):
        at = rng.randrange(max(1, header - 8))
        word = rng.choice(
            [rng.randbytes(1), rng.randbytes(4), struct.pack("<Q", rng.choice(_NUMBERS))]
        )
        damaged[at : at + len(word)] = word
    if rng.random() < 0.4:
        del damaged[rng.randrange(len(damaged)) :]
    return bytes(damaged)
