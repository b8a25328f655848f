# SPDX-License-Identifier: Apache-2.0
"""Is this a model that llama.cpp may load?

llama.cpp answers some malformed files with ``abort()`` or an out-of-bounds read, either of which
ends the Python process. :func:`check_model` refuses those files first. What llama.cpp refuses by
itself, with an exception that becomes a null pointer, is left to it: missing tensors, wrong
shapes (``llama_model_loader::check_tensor_dims``), metadata of the wrong type.

File names below are those of the pinned llama.cpp release.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
from collections.abc import Iterator
from typing import Any, Literal, NoReturn

import numpy as np

from embellama.gguf.header import GGUFHeader, StringArray, TensorInfo
from embellama.gguf.memory import check_context

__all__ = ["EXAMINED_ARCHITECTURES", "check_model"]

# LLM_ARCH_NAMES, llama-arch.cpp.
_ARCHITECTURE_NAMES = """
    afmoe apertus arcee arctic arwkv7 baichuan bailingmoe bailingmoe2 bailingmoe3 bert bitnet
    bloom chameleon chatglm clef clip codeshell cogvlm cohere2 cohere2moe command-r dbrx deci
    deepseek deepseek2 deepseek2-ocr deepseek32 deepseek4 dflash dots1 dots3note dream eagle3
    ernie4_5 ernie4_5-moe eurobert exaone exaone-moe exaone4 falcon falcon-h1 gemma
    gemma-embedding gemma-embedding2 gemma2 gemma3 gemma3n gemma4 gemma4-assistant glm-dsa glm4
    glm4moe glm5-next gpt-oss gpt2 gptj gptneox granite granite_swa granitehybrid granitemoe
    graniteswitch grok grovemoe hrm_text hunyuan-dense hunyuan-moe hunyuan_vl hy_v3 hy_v4
    internlm2 jais jais2 jamba jina-bert-v2 jina-bert-v3 k2-horizon kimi-k3 kimi-linear laguna
    lfm2 lfm2moe llada llada-moe llama llama-embed llama4 maincoder mamba mamba2 maple mellum
    mimo2 minicpm minicpm3 minimax-01 minimax-m2 minimax-m3 mistral3 mistral4 modern-bert mpt
    muse-glimmer nanbeige nemotron nemotron_h nemotron_h_moe neo-bert nomic-bert nomic-bert-moe
    olmo olmo2 olmoe openelm orion paddleocr pangu-embedded phi2 phi3 phimoe plamo plamo2 plamo3
    plm pockettts qwen qwen2 qwen2moe qwen2vl qwen3 qwen35 qwen35moe qwen3moe qwen3next qwen3tts
    qwen3vl qwen3vlmoe qwen4exp refact rnd1 rwkv6 rwkv6qwen2 rwkv7 seed_oss smallthinker smollm3
    spark2_5 stablelm starcoder starcoder2 step35 t5 t5encoder talkie wavtokenizer-dec xverse
"""
_ARCHITECTURES = frozenset(_ARCHITECTURE_NAMES.split())

_NOT_FOR_TEXTS = {
    "clip": "the image half of a multimodal model (mmproj)",
    "clef": "a decision model",
    "dflash": "a draft head for speculative decoding",
    "eagle3": "a draft head for speculative decoding",
    "gemma4-assistant": "a draft head for speculative decoding",
    "dream": "a diffusion model",
    "llada": "a diffusion model",
    "llada-moe": "a diffusion model",
    "rnd1": "a diffusion model",
    "pockettts": "a speech model",
    "qwen3tts": "a speech model",
    "wavtokenizer-dec": "a speech model",
}

# Types with a dot product and a conversion to float: type_traits_cpu in ggml-cpu.c and
# ggml_compute_forward_get_rows in ops.cpp. With another type a product calls a null pointer.
_MATRIX_TYPE_NAMES = """
    F32 F16 BF16 Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K Q3_K Q4_K Q5_K Q6_K IQ1_S IQ1_M IQ2_XXS IQ2_XS
    IQ2_S IQ3_XXS IQ3_S IQ4_NL IQ4_XS TQ1_0 TQ2_0 MXFP4 NVFP4 Q1_0 Q2_0
"""
_MATRIX_TYPES = frozenset(_MATRIX_TYPE_NAMES.split())
_INDEX_TYPES = frozenset(("I32", "I64"))
# Tensors that are added or multiplied element by element: binary_op in binary-ops.cpp aborts
# unless they are F32, and so does ggml_rope_impl in ggml.c.
_ELEMENTWISE = re.compile(r"norm|\.bias$|scale$|^rope_f|^token_types\.|_scale\.weight$")

_MAX_LAYERS = 512  # LLAMA_MAX_LAYERS, llama-hparams.h
_MAX_EXPERTS = 1024  # LLAMA_MAX_EXPERTS, llama-hparams.h
# A graph has room for 8 nodes a tensor (llama_context::graph_max_nodes), each used expert of a
# layer takes two, and ggml_build_forward aborts when the room is used up.
_MAX_USED_EXPERTS = 8
_MAX_CONTEXT = 2**27
_MAX_WIDTH = 2**20
# llama_kv_cache_iswa multiplies the window by up to 256 sequences in 32 bits.
_MAX_WINDOW = 2**23
_TENSOR_ALIGNMENT = 32  # ggml-impl.h; ggml_backend_cpu_buffer_from_ptr asserts it
_MAX_TOKENS = 2**21


@dataclasses.dataclass(frozen=True)
class _Family:
    """What the graph of an architecture takes for granted (src/models/*.cpp)."""

    epsilon: str = "layer_norm_rms_epsilon"
    # heads * head size = embedding_length
    square: bool = False
    # fewer key-value heads than heads
    grouped: bool = True
    # rotary positions: on part of a head, or on all of it
    rotary: Literal["none", "part", "whole"] = "part"
    window: Literal["none", "optional", "required"] = "none"
    # every nth layer sees everything, the others a window: n where the file does not say it, and
    # whether those layers come first or last of the n
    window_pattern: int = 0
    dense_first: bool = False
    # llama_model::create_memory gives it a cache for keys and values
    cached: bool = True
    # head counts and sizes may differ from layer to layer
    by_layer: bool = False


_ENCODER = _Family("layer_norm_epsilon", square=True, cached=False)
_FAMILIES = {
    "bert": dataclasses.replace(_ENCODER, rotary="none"),
    "jina-bert-v2": dataclasses.replace(_ENCODER, rotary="none", grouped=False),
    "jina-bert-v3": _ENCODER,
    "nomic-bert": _ENCODER,
    "nomic-bert-moe": _ENCODER,
    "neo-bert": _Family(square=True, cached=False),
    "eurobert": _Family(square=True, cached=False),
    "modern-bert": dataclasses.replace(
        _ENCODER, grouped=False, window="optional", window_pattern=3, dense_first=True
    ),
    "gemma-embedding": _Family(window="required", window_pattern=6, cached=False),
    "gemma-embedding2": _Family(window="required", window_pattern=6, cached=False, by_layer=True),
    "t5encoder": _Family(grouped=False, rotary="none", cached=False),
    "llama": _Family(rotary="whole"),
    "llama-embed": _Family(rotary="whole"),
    "qwen2": _Family(rotary="whole", square=True),
    "qwen3": _Family(rotary="whole"),
    "gemma": _Family(),
    "gemma2": _Family(window="required", window_pattern=2),
    "gemma3": _Family(window="optional", window_pattern=6),
}


@dataclasses.dataclass(frozen=True)
class _Tokenizer:
    """What a tokenizer uses where the file says nothing: token ids, and which it adds."""

    bos: int | None = None
    eos: int | None = None
    separator: int | None = None
    unknown: int | None = None
    add_bos: bool = False
    add_eos: bool = False
    is_bpe: bool = False


# Left out: rwkv, whose loop never ends and fills the memory unless every byte is a token; plamo2
# and plamo3, whose path may have steps of no length; test; none and no_vocab, without tokens.
_TOKENIZERS = {
    "llama": _Tokenizer(bos=1, eos=2, unknown=0, add_bos=True),
    "bert": _Tokenizer(bos=101, separator=102, unknown=100),
    "gpt2": _Tokenizer(bos=11, eos=11, is_bpe=True),
    "hybriddna": _Tokenizer(bos=11, eos=11, is_bpe=True),
    "whitespace": _Tokenizer(bos=11, eos=11, is_bpe=True),
    "t5": _Tokenizer(eos=1, unknown=2, add_eos=True),
    "gemma4": _Tokenizer(is_bpe=True),
}
_ALWAYS_BOS = frozenset(("gemma4", "granite-embed-multi-311m"))
_DEFAULT_BOS_NAMES = """
llama3 llama-v3 llama-bpe falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano tekken chameleon
"""
_DEFAULT_BOS = _ALWAYS_BOS | frozenset(_DEFAULT_BOS_NAMES.split())
_NO_BOS_ID = frozenset(("chatglm-bpe", "glm4", "glm5"))

_BYTE = 6  # LLAMA_TOKEN_TYPE_BYTE, llama.h
_MAX_TOKENS = 2**21
# The unigram trie takes a hundred bytes for each of the vocabulary's and recurses once for each of
# a token's; a byte-level token that is not byte-encoded is repeated once for each of its
# characters (llama_decode_text); WordPiece tries every length at every place of a word. The
# largest vocabularies have 262,144 tokens, 2.4 MB and tokens of 1024 bytes.
_MAX_VOCABULARY_BYTES = 2**24
_MAX_TOKEN_BYTES = 2048
_MAX_WORDPIECE_BYTES = 512
_MAX_TOKEN_BYTES_SQUARED = 2**30
# Normalisation puts this many bytes in place of a character. Unicode's longest has 33.
_MAX_REPLACEMENT_BYTES = 512

EXAMINED_ARCHITECTURES = frozenset(_FAMILIES)
"""Architectures whose whole way through llama.cpp was read and fuzzed for what a file may break.

For others only what all architectures share is checked: take such files from sources you trust.
"""


def check_model(header: GGUFHeader) -> None:
    """Refuse a file that llama.cpp must not load, or that holds no model for texts.

    Parameters
    ----------
    header : GGUFHeader
        Of the file.

    Raises
    ------
    ModelLoadError
        If the file holds no model that embeds texts, or llama.cpp would abort, read out of
        bounds, hang or exhaust the memory on it.

    Examples
    --------
    >>> from embellama import catalog
    >>> from embellama.gguf.check import check_model
    >>> from embellama.gguf.header import read_header
    >>> check_model(read_header(catalog.resolve("all-MiniLM-L6-v2")))
    """
    _Check(header).run()


class _Check:
    def __init__(self, header: GGUFHeader) -> None:
        self._header = header
        self._architecture = header.architecture
        self._family = _FAMILIES.get(self._architecture)

    def run(self) -> None:
        self._strings()
        self._kind()
        self._n_layers = self._whole("block_count", 1, _MAX_LAYERS)
        self._general()
        self._experts()
        self._heads()
        self._tensor_types()
        self._classifier()
        _check_vocabulary(self._header)
        if self._family is not None:
            self._window(self._family)
            self._special_cases()
            check_context(self._header)

    def _refuse(self, problem: str, remedy: str | None = None) -> NoReturn:
        raise self._header.error(problem, remedy)

    def _name(self, key: str) -> str:
        return f"{self._architecture}.{key}"

    def _value(self, key: str, kind: str) -> Any:
        return self._header.typed(self._name(key), kind)

    def _whole(self, key: str, minimum: int, maximum: int, default: int | None = None) -> int:
        value = self._value(key, "u32")
        if value is None:
            if default is None:
                self._refuse(f"{self._name(key)!r} is missing")
            return default
        if not minimum <= value <= maximum:
            self._refuse(f"{self._name(key)!r} is {value}, not from {minimum} to {maximum}")
        return int(value)

    def _per_layer(self, key: str, default: list[int] | None) -> list[int]:
        """A number for each layer, stored as one number or as an array (get_key_or_arr)."""
        name = self._name(key)
        value = self._header.metadata.get(name)
        if value is None:
            if default is None:
                self._refuse(f"{name!r} is missing")
            return default
        stored = self._header.types[name]
        if stored == "u32":
            return [int(value)] * self._n_layers
        if stored not in ("arr[u32]", "arr[i32]", "arr[bool]") or len(value) != self._n_layers:
            self._refuse(f"{name!r} must be a u32 or an array of {self._n_layers} of them")
        # llama.cpp reads an int32 as if it were unsigned.
        return [int(number) % 2**32 for number in value]

    def _strings(self) -> None:
        for key, kind in self._header.types.items():
            if kind == "str" and "\0" in self._header.metadata[key]:
                self._refuse(f"{key!r} holds a NUL character, where llama.cpp would cut it")

    def _kind(self) -> None:
        header, architecture = self._header, self._architecture
        kind = header.typed("general.type", "str")
        if kind not in (None, "model"):
            self._refuse(
                f"it holds no model but is of the kind {kind!r}", "Load the model it belongs to"
            )
        if not architecture:
            self._refuse("'general.architecture' is missing")
        if architecture not in _ARCHITECTURES:
            near = difflib.get_close_matches(architecture, sorted(_ARCHITECTURES), n=3)
            hint = f"Did its converter mean {' or '.join(map(repr, near))}? " if near else ""
            self._refuse(
                f"the architecture {architecture!r} is unknown to this release of llama.cpp",
                f"{hint}Among those supported are {', '.join(sorted(EXAMINED_ARCHITECTURES))}",
            )
        if architecture in _NOT_FOR_TEXTS:
            self._refuse(
                f"{architecture!r} is {_NOT_FOR_TEXTS[architecture]}, which embeds no texts",
                "Load a text or embedding model",
            )
        if self._whole("decision.block_count", 0, _MAX_LAYERS, 0):
            self._refuse("it is a decision model, which embeds no texts", "Load an embedding model")
        parts = header.metadata.get("split.count", 1)
        if header.types.get("split.count", "u16") != "u16" or parts > 1:
            self._refuse(
                f"it is one of {parts} parts of a split model",
                "Join them: llama-gguf-split --merge FIRST_PART WHOLE",
            )
        if not header.tensors:
            self._refuse("it holds no weights, only a vocabulary", "Load the model itself")
        # A mapped tensor sits at its place in the file.
        if header.alignment % _TENSOR_ALIGNMENT:
            self._refuse(
                f"'general.alignment' is {header.alignment}; llama.cpp maps multiples of "
                f"{_TENSOR_ALIGNMENT} only"
            )

    def _general(self) -> None:
        """llama_model_base::load_hparams, llama-model.cpp."""
        header = self._header
        self._whole("context_length", 1, _MAX_CONTEXT)
        width = self._whole("embedding_length", 1, _MAX_WIDTH)
        prediction_layers = self._whole("nextn_predict_layers", 0, self._n_layers - 1, 0)
        self._whole("pooling_type", 0, 4, 0)
        self._whole("classifier.pooling_type", 0, 4, 0)
        self._value("attention.causal", "bool")
        scaling = self._value("rope.scaling.type", "str")
        if scaling not in (None, "none", "linear", "yarn", "longrope"):
            self._refuse(f"{self._name('rope.scaling.type')!r} is {scaling!r}, which is unknown")
        activation = self._value("classifier.activation", "str")
        if activation not in (None, "gelu", "silu", "tanh"):
            self._refuse(
                f"{self._name('classifier.activation')!r} is {activation!r}, not gelu, silu or tanh"
            )
        for key, kind in header.types.items():
            if kind == "f32" and key.startswith(f"{self._architecture}."):
                value = header.metadata[key]
                # ggml_compute_forward_norm asserts that it is not negative.
                if key.endswith("epsilon") and not 0 < value < math.inf:
                    self._refuse(f"{key!r} is {value}, not a small positive number")
                if self._family is not None and not math.isfinite(value):
                    self._refuse(f"{key!r} is {value}, not a finite number")
        if self._family is None:
            return
        if self._value(f"attention.{self._family.epsilon}", "f32") is None:
            self._refuse(f"{self._name(f'attention.{self._family.epsilon}')!r} is missing")
        if prediction_layers:
            self._refuse(f"{self._name('nextn_predict_layers')!r} is for text generation only")
        # llama_context::encode copies rows of this width out of the graph's result.
        output_width = self._whole("embedding_length_out", 0, _MAX_WIDTH, 0)
        if output_width not in (0, width) and self._architecture != "gemma-embedding2":
            self._refuse(
                f"{self._name('embedding_length_out')!r} is {output_width}, but the vectors of "
                f"{self._architecture!r} have {width} dimensions"
            )

    def _experts(self) -> None:
        """The assertions on experts in llama_model_base::load_hparams."""
        n_experts = self._whole("expert_count", 0, _MAX_EXPERTS, 0)
        used = self._per_layer("expert_used_count", [0] * self._n_layers)
        groups = self._whole("expert_group_count", 0, _MAX_EXPERTS, 0)
        groups_used = self._whole("expert_group_used_count", 0, _MAX_EXPERTS, 0)
        if self._architecture in ("hunyuan_vl", "hunyuan-dense") and n_experts <= 1:
            n_experts, used = 0, [0]
        problem = None
        if max(used) > n_experts or (n_experts and not max(used)):
            problem = f"{max(used)} of {n_experts} experts are used"
        elif groups and groups >= n_experts:
            problem = f"{n_experts} experts are in {groups} groups"
        elif groups > 1 and (n_experts % groups or not 0 < groups_used < groups):
            problem = f"{groups_used} of {groups} groups of {n_experts} experts are used"
        elif self._family is not None and (
            len(set(used)) > 1 or used[0] > _MAX_USED_EXPERTS or groups > 1
        ):
            # llm_graph_context::build_moe_ffn; groups take nodes too, and no family has them.
            problem = f"layers use {sorted(set(used))} experts of {groups} groups"
        if problem:
            self._refuse(f"impossible mixture of experts: {problem}")

    def _heads(self) -> None:
        heads = self._per_layer("attention.head_count", [0] * self._n_layers)
        key_value_heads = self._per_layer("attention.head_count_kv", heads)
        for layer, (n, n_kv) in enumerate(zip(heads, key_value_heads, strict=True)):
            # ggml_can_mul_mat repeats key-value heads a whole number of times.
            if n and n_kv and n % n_kv:
                self._refuse(
                    f"layer {layer} has {n} heads, no multiple of its {n_kv} key-value heads"
                )
        rotary = self._whole("rope.dimension_count", 0, _MAX_WIDTH, 0)
        if rotary % 2:
            self._refuse(f"{self._name('rope.dimension_count')!r} is {rotary}, an odd number")
        family = self._family
        if family is None:
            return
        width = self._whole("embedding_length", 1, _MAX_WIDTH)
        if min(heads) < 1 or min(key_value_heads) < 1 or max(heads) > width:
            self._refuse(
                f"impossible numbers of heads: {sorted(set(heads))}, of key-value heads "
                f"{sorted(set(key_value_heads))}"
            )
        if not family.by_layer and len({*heads}) + len({*key_value_heads}) > 2:
            self._refuse("layers differ in their number of heads")
        if not family.grouped and heads != key_value_heads:
            self._refuse(f"{self._architecture!r} needs as many key-value heads as heads")
        size = self._whole("attention.key_length", 1, _MAX_WIDTH, width // heads[0])
        value_size = self._whole("attention.value_length", 1, _MAX_WIDTH, width // heads[0])
        window_size = self._whole("attention.key_length_swa", 1, _MAX_WIDTH, size)
        window_value_size = self._whole("attention.value_length_swa", 1, _MAX_WIDTH, value_size)
        rotary = self._whole("rope.dimension_count", 0, _MAX_WIDTH, size)
        window_rotary = self._whole("rope.dimension_count_swa", 0, _MAX_WIDTH, rotary)
        if size != value_size or window_size != window_value_size:
            self._refuse(f"keys of {size} and values of {value_size} dimensions a head differ")
        if window_size != size and not family.by_layer:
            self._refuse(f"heads have {size} dimensions, or {window_size} in layers with a window")
        if family.square and heads[0] * size != width:
            self._refuse(f"{heads[0]} heads of {size} dimensions are not {width}")
        if family.rotary == "none":
            return
        for rotated, whole in ((rotary, size), (window_rotary, window_size)):
            # ggml_compute_forward_rope_flt asserts it, and several graphs the last part.
            if (
                rotated % 2
                or not 2 <= rotated <= whole
                or (family.rotary == "whole" and rotated != whole)
            ):
                self._refuse(f"{rotated} of {whole} dimensions of a head cannot be rotated")

    def _window(self, family: _Family) -> None:
        if family.window == "none":
            return
        minimum, default = (1, None) if family.window == "required" else (0, 0)
        if self._architecture == "gemma2":
            default = 4096
        if not self._whole("attention.sliding_window", minimum, _MAX_WINDOW, default):
            return
        name = self._name("attention.sliding_window_pattern")
        pattern = self._header.metadata.get(name, family.window_pattern)
        stored = self._header.types.get(name, "u32")
        layers = range(self._n_layers)
        if stored in ("arr[bool]", "arr[u32]", "arr[i32]") and len(pattern) <= _MAX_LAYERS:
            windowed = [layer < len(pattern) and bool(pattern[layer]) for layer in layers]
        elif stored == "u32":  # set_swa_pattern, llama-hparams.cpp
            dense = 0 if family.dense_first else pattern - 1
            windowed = [pattern == 0 or layer % pattern != dense for layer in layers]
        else:
            self._refuse(f"{name!r} must be a u32, or an array of at most {_MAX_LAYERS} of them")
        # llama_model::create_memory asserts the first. Without a cache,
        # llm_graph_input_attn_no_cache::set_input fills a mask of each kind, and a mask that no
        # layer uses has no memory.
        if not any(windowed) or (all(windowed) and not family.cached):
            self._refuse(f"{name!r} gives {'each' if all(windowed) else 'no'} layer a window")

    def _tensor_types(self) -> None:
        for tensor in self._header.tensors.values():
            allowed = _MATRIX_TYPES
            if self._family is None:
                allowed = _MATRIX_TYPES | _INDEX_TYPES
            elif _ELEMENTWISE.search(tensor.name):
                allowed = frozenset(("F32",))
            if tensor.type not in allowed:
                self._refuse(
                    f"tensor {tensor.name!r} is of type {tensor.type}, with which llama.cpp "
                    f"cannot compute",
                    "Convert or quantise the model anew",
                )
            # build_ffn and load_tensors assert that these do not meet.
            if tensor.type == "NVFP4":
                stem = tensor.name.removesuffix(".weight")
                tensors = self._header.tensors
                scaled = f"{stem}.scale" in tensors
                tied = stem == "token_embd" and (
                    "output.scale" in tensors or "output.input_scale" in tensors
                )
                if (scaled and f"{stem}.bias" in tensors) or (
                    tied and "output.weight" not in tensors
                ):
                    self._refuse(f"tensor {tensor.name!r} has a scale where llama.cpp allows none")

    def _classifier(self) -> None:
        """A score per label is copied from the head's result: llama_context::encode."""
        tensors = self._header.tensors
        head = tensors.get("cls.output.weight", tensors.get("cls.weight"))
        n_scores = _columns(head) if head else self._whole("embedding_length", 1, _MAX_WIDTH)
        labels = self._value("classifier.output_labels", "arr[str]")
        if labels is not None and len(labels) > n_scores:
            self._refuse(f"it names {len(labels)} labels for {n_scores} scores")
        # LLAMA_POOLING_TYPE_RANK, llama.h
        if head is None and self._whole("pooling_type", 0, 4, 0) == 4:
            self._refuse(
                f"{self._name('pooling_type')!r} says it is a reranker, but the tensor "
                "'cls.output.weight' is missing"
            )

    def _special_cases(self) -> None:
        """What a graph takes for granted and no loader checks (src/models/*.cpp)."""
        tensors = self._header.tensors
        if self._architecture == "t5encoder":
            # llama_relative_position_bucket, llama-graph.cpp: outside of these it gives an index
            # outside of the table.
            self._whole("attention.relative_buckets_count", 4, 511)
            if "enc.blk.0.attn_rel_b.weight" not in tensors:
                self._refuse("the tensor 'enc.blk.0.attn_rel_b.weight' is missing")
        elif self._architecture == "jina-bert-v2":
            n_inner = self._per_layer("feed_forward_length", None)[0]
            for layer in range(self._n_layers):
                up = tensors.get(f"blk.{layer}.ffn_up.weight")
                gated = f"blk.{layer}.ffn_gate.weight" in tensors
                allowed = (n_inner,) if gated else (n_inner, 2 * n_inner)
                if up is not None and _columns(up) not in allowed:
                    self._refuse(f"tensor {up.name!r} has the shape {up.shape}")
        elif self._architecture == "modern-bert":
            # Its inner layer is as wide as a gate needs, and this one has none.
            if self._value("hidden_activation", "str") == "relu":
                self._refuse(f"{self._name('hidden_activation')!r} is 'relu', which has no gate")
        elif self._architecture == "gemma-embedding":
            width = self._whole("embedding_length", 1, _MAX_WIDTH)
            for key in ("dense_2_feat_in", "dense_3_feat_out"):
                if self._whole(key, 0, _MAX_WIDTH, 0) not in (0, width):
                    self._refuse(f"{self._name(key)!r} is not {width}, the embedding_length")
            first, second = tensors.get("dense_2.weight"), tensors.get("dense_3.weight")
            if (first is None) != (second is None) or (
                first is not None and second is not None and _columns(first) != second.shape[0]
            ):
                self._refuse("its dense layers 'dense_2' and 'dense_3' do not fit together")


def _columns(tensor: TensorInfo) -> int:
    return tensor.shape[1] if len(tensor.shape) > 1 else 1


def _check_vocabulary(header: GGUFHeader) -> None:
    """llama_vocab::impl::load and the tokenizers, llama-vocab.cpp."""
    name = header.typed("tokenizer.ggml.model", "str")
    if name is None:
        raise header.error("'tokenizer.ggml.model' is missing: it has no tokenizer")
    if name not in _TOKENIZERS:
        raise header.error(
            f"the tokenizer {name!r} is not supported",
            f"Use a model with one of {', '.join(sorted(_TOKENIZERS))}",
        )
    tokens = header.typed("tokenizer.ggml.tokens", "arr[str]")
    if tokens is None:
        raise header.error("'tokenizer.ggml.tokens' is missing: it has no vocabulary")
    _check_tokens(header, tokens, _MAX_WORDPIECE_BYTES if name == "bert" else _MAX_TOKEN_BYTES)
    types = header.typed("tokenizer.ggml.token_type", "arr[i32]")
    scores = header.typed("tokenizer.ggml.scores", "arr[f32]", "arr[i32]")
    for key, values in (("token_type", types), ("scores", scores)):
        if values is not None and len(values) < len(tokens):
            raise header.error(
                f"'tokenizer.ggml.{key}' has {len(values)} entries for {len(tokens)} tokens"
            )
    # llama_vocab::impl::token_to_byte
    if name == "bert" and types is not None and np.any(types[: len(tokens)] == _BYTE):
        raise header.error("the WordPiece vocabulary has tokens of the type BYTE")
    if scores is not None and np.any(np.isnan(scores)):
        raise header.error("'tokenizer.ggml.scores' holds NaN")
    _check_special_tokens(header, name, len(tokens))
    if name == "t5":
        _check_character_map(header)


def _check_tokens(header: GGUFHeader, tokens: StringArray, max_bytes: int) -> None:
    if not 1 <= len(tokens) <= _MAX_TOKENS:
        raise header.error(f"the vocabulary has {len(tokens)} tokens, not 1 to {_MAX_TOKENS}")
    lengths = tokens.byte_lengths
    if lengths.max() > max_bytes:
        index = int(lengths.argmax())
        raise header.error(
            f"token {index} is {lengths[index]} bytes long; at most {max_bytes} are allowed"
        )
    if lengths.sum() > _MAX_VOCABULARY_BYTES or (lengths**2).sum() > _MAX_TOKEN_BYTES_SQUARED:
        raise header.error(f"the vocabulary is too large: {lengths.sum()} bytes of tokens")
    if len(set(_as_llama_reads(tokens))) < len(tokens):
        seen: set[bytes] = set()
        for index, text in enumerate(_as_llama_reads(tokens)):
            if text in seen:
                raise header.error(
                    f"the vocabulary holds {text.decode('utf-8', 'replace')!r} a second time, as "
                    f"token {index}"
                )
            seen.add(text)


def _as_llama_reads(tokens: StringArray) -> Iterator[bytes]:
    """Tokens as C strings, which a NUL ends; an empty one gets a name of its own."""
    for index, token in enumerate(tokens.iterate_encoded()):
        yield token.partition(b"\0")[0] or b"[EMPTY_%d]" % index


def _check_special_tokens(header: GGUFHeader, name: str, n_tokens: int) -> None:
    """Find the ids llama.cpp ends up with; llama_vocab::impl::tokenize asserts those it adds."""
    tokenizer = _TOKENIZERS[name]
    pre = "gemma4" if name == "gemma4" else header.typed("tokenizer.ggml.pre", "str") or ""
    # Spaces would reach find_bpe_rank, which asserts that there are none.
    if pre == "superbpe" and tokenizer.is_bpe:
        # Its look-ahead over groups of digits (llama-vocab.cpp) takes minutes for 50,000 of them.
        raise header.error("the pre-tokenizer 'superbpe' hangs on long numbers")
    if pre == "whitespace" and tokenizer.is_bpe and name != "whitespace":
        raise header.error(f"the pre-tokenizer 'whitespace' does not fit the tokenizer {name!r}")
    add_bos, bos = tokenizer.add_bos, tokenizer.bos
    if tokenizer.is_bpe:
        add_bos = pre in _DEFAULT_BOS
        bos = None if pre in _NO_BOS_ID else bos
    said = header.typed("tokenizer.ggml.add_bos_token", "bool")
    if said is not None and not (tokenizer.is_bpe and pre in _ALWAYS_BOS):
        add_bos = said
    said = header.typed("tokenizer.ggml.add_eos_token", "bool")
    add_eos = tokenizer.add_eos if said is None else said
    # WordPiece adds CLS and SEP whatever the file says.
    is_word_piece = name == "bert"
    for key, default, needed in (
        ("bos_token_id", bos, add_bos or is_word_piece),
        ("eos_token_id", tokenizer.eos, add_eos and not is_word_piece),
        ("seperator_token_id", tokenizer.separator, is_word_piece),
        ("unknown_token_id", tokenizer.unknown, name in ("bert", "t5")),
    ):
        found = header.typed(f"tokenizer.ggml.{key}", "u32")
        if found is None or found >= n_tokens:
            found = default
        if needed and (found is None or found >= n_tokens):
            raise header.error(
                f"the tokenizer {name!r} needs 'tokenizer.ggml.{key}', an id below {n_tokens}"
            )


def _check_character_map(header: GGUFHeader) -> None:
    """A trie, then the replacements it points to, each ended by a NUL (llm_tokenizer_ugm)."""
    name = "tokenizer.ggml.precompiled_charsmap"
    values = header.typed(name, "arr[u8]", "arr[i8]")
    if values is None:
        return
    data = values.tobytes()
    trie_bytes = int.from_bytes(data[:4], "little")
    if 4 + trie_bytes >= len(data):
        raise header.error(f"{name!r} is cut short")
    longest = max(map(len, data[4 + trie_bytes :].split(b"\0")))
    if longest > _MAX_REPLACEMENT_BYTES:
        raise header.error(f"{name!r} puts {longest} bytes in place of a character")
