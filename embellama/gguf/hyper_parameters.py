# SPDX-License-Identifier: Apache-2.0
"""The hyper-parameters of a model, read once from its header, each within its bounds.

Files and functions named here are those of the pinned llama.cpp release.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NoReturn

from embellama.gguf.architectures import FAMILIES, MAX_LAYERS, Family
from embellama.gguf.header import GGUFHeader

__all__ = ["NEVER_CAUSAL", "HyperParameters", "read_hyper_parameters"]

_MAX_EXPERTS = 1024  # LLAMA_MAX_EXPERTS, llama-hparams.h
# A graph has room for 8 nodes a tensor (llama_context::graph_max_nodes), each used expert of a
# layer takes two, and ggml_build_forward aborts when the room is used up.
_MAX_USED_EXPERTS = 8
_MAX_CONTEXT = 2**27
_MAX_WIDTH = 2**20
# llama_kv_cache_iswa multiplies the window by up to 256 sequences in 32 bits.
_MAX_WINDOW = 2**23

# Their converters do not write attention.causal. llama.cpp computes all but llama-embed without a
# causal mask in any case; native/context_state.cpp takes the mask of that one away.
NEVER_CAUSAL = frozenset(("gemma-embedding", "gemma-embedding2", "llama-embed", "t5encoder"))


@dataclasses.dataclass(frozen=True)
class HyperParameters:
    """What a file says of its network, as llama.cpp takes it.

    Attributes
    ----------
    architecture : str
    family : Family or None
        None for an architecture that was not examined.
    n_layers : int
    context_length : int
        The longest text the model was trained for, in tokens.
    embedding_length : int
        Length of a token's vector.
    head_counts : tuple of int
        Attention heads of each layer; 0 where the file does not say it.
    n_experts_used : int
        The most experts that a layer computes for a token; 0 without experts.
    is_causal : bool
        Whether a token sees only those before it.
    pooling_type : int
        ``llama_pooling_type`` of llama.h; 0 where the file does not say it.
    n_labels : int
        Labels that the file names for the scores of its classification head.
    feed_forward_length : int
        Width of the inner layers of jina-bert-v2; 0 for other architectures.
    """

    architecture: str
    family: Family | None
    n_layers: int
    context_length: int
    embedding_length: int
    head_counts: tuple[int, ...]
    n_experts_used: int
    is_causal: bool
    pooling_type: int
    n_labels: int
    feed_forward_length: int


def read_hyper_parameters(header: GGUFHeader) -> HyperParameters:
    """Read the keys of a model's architecture.

    Parameters
    ----------
    header : GGUFHeader
        Of a model whose architecture is known.

    Returns
    -------
    HyperParameters

    Raises
    ------
    ModelLoadError
        If one is missing, or llama.cpp would abort, read out of bounds or hang on it.
    """
    keys = _Keys(header)
    if keys.whole("decision.block_count", 0, MAX_LAYERS, 0):
        keys.refuse("it is a decision model, which embeds no texts", "Load an embedding model")
    n_layers = keys.whole("block_count", 1, MAX_LAYERS)
    context_length = keys.whole("context_length", 1, _MAX_CONTEXT)
    width = keys.whole("embedding_length", 1, _MAX_WIDTH)
    pooling_type = keys.whole("pooling_type", 0, 4, 0)
    keys.whole("classifier.pooling_type", 0, 4, 0)
    _check_words(keys)
    _check_fractions(keys)
    prediction_layers = keys.whole("nextn_predict_layers", 0, n_layers - 1, 0)
    if keys.family is not None:
        _check_outputs(keys, keys.family, width, prediction_layers)
    n_experts_used = _experts_used(keys, n_layers)
    head_counts = _head_counts(keys, n_layers, width)
    if keys.family is not None:
        _check_window(keys, keys.family, n_layers)
        _check_architecture(keys, width)
    is_causal = keys.value("attention.causal", "bool")
    feed_forward_length = 0
    if keys.architecture == "jina-bert-v2":
        feed_forward_length = keys.per_layer("feed_forward_length", n_layers)[0]
    return HyperParameters(
        architecture=keys.architecture,
        family=keys.family,
        n_layers=n_layers,
        context_length=context_length,
        embedding_length=width,
        head_counts=tuple(head_counts),
        n_experts_used=n_experts_used,
        # llama-hparams.h: attention is causal unless the file says otherwise.
        is_causal=keys.architecture not in NEVER_CAUSAL if is_causal is None else is_causal,
        pooling_type=pooling_type,
        n_labels=len(keys.value("classifier.output_labels", "arr[str]") or ()),
        feed_forward_length=feed_forward_length,
    )


class _Keys:
    """The keys of a header that begin with its architecture's name."""

    def __init__(self, header: GGUFHeader) -> None:
        self.header = header
        self.architecture = header.architecture
        self.family = FAMILIES.get(header.architecture)

    def refuse(self, problem: str, remedy: str | None = None) -> NoReturn:
        raise self.header.error(problem, remedy)

    def name(self, key: str) -> str:
        return f"{self.architecture}.{key}"

    def value(self, key: str, kind: str) -> Any:
        return self.header.typed(self.name(key), kind)

    def whole(self, key: str, minimum: int, maximum: int, default: int | None = None) -> int:
        value = self.value(key, "u32")
        if value is None:
            if default is None:
                self.refuse(f"{self.name(key)!r} is missing")
            return default
        if not minimum <= value <= maximum:
            self.refuse(f"{self.name(key)!r} is {value}, not from {minimum} to {maximum}")
        return int(value)

    def per_layer(self, key: str, n_layers: int, default: list[int] | None = None) -> list[int]:
        """A number for each layer, stored as one number or as an array (get_key_or_arr)."""
        name = self.name(key)
        value = self.header.metadata.get(name)
        if value is None:
            if default is None:
                self.refuse(f"{name!r} is missing")
            return default
        stored = self.header.types[name]
        if stored == "u32":
            return [int(value)] * n_layers
        if stored not in ("arr[u32]", "arr[i32]", "arr[bool]") or len(value) != n_layers:
            self.refuse(f"{name!r} must be a u32 or an array of {n_layers} of them")
        # llama.cpp reads an int32 as if it were unsigned.
        return [int(number) % 2**32 for number in value]


def _check_words(keys: _Keys) -> None:
    """Refuse words that llama_model_base::load_hparams (llama-model.cpp) does not know."""
    scaling = keys.value("rope.scaling.type", "str")
    if scaling not in (None, "none", "linear", "yarn", "longrope"):
        keys.refuse(f"{keys.name('rope.scaling.type')!r} is {scaling!r}, which is unknown")
    activation = keys.value("classifier.activation", "str")
    if activation not in (None, "gelu", "silu", "tanh"):
        keys.refuse(
            f"{keys.name('classifier.activation')!r} is {activation!r}, not gelu, silu or tanh"
        )


def _check_fractions(keys: _Keys) -> None:
    header = keys.header
    for key, kind in header.types.items():
        if kind == "f32" and key.startswith(f"{keys.architecture}."):
            value = header.metadata[key]
            # ggml_compute_forward_norm asserts that it is not negative.
            if key.endswith("epsilon") and not 0 < value < math.inf:
                keys.refuse(f"{key!r} is {value}, not a small positive number")
            if keys.family is not None and not math.isfinite(value):
                keys.refuse(f"{key!r} is {value}, not a finite number")
    if keys.family is not None:
        epsilon = f"attention.{keys.family.epsilon}"
        if keys.value(epsilon, "f32") is None:
            keys.refuse(f"{keys.name(epsilon)!r} is missing")


def _check_outputs(keys: _Keys, family: Family, width: int, prediction_layers: int) -> None:
    if prediction_layers:
        keys.refuse(f"{keys.name('nextn_predict_layers')!r} is for text generation only")
    # llama_context::encode copies rows of this width out of the graph's result.
    output_width = keys.whole("embedding_length_out", 0, _MAX_WIDTH, 0)
    if output_width not in (0, width) and keys.architecture != "gemma-embedding2":
        keys.refuse(
            f"{keys.name('embedding_length_out')!r} is {output_width}, but the vectors of "
            f"{keys.architecture!r} have {width} dimensions"
        )


def _experts_used(keys: _Keys, n_layers: int) -> int:
    """Return the most experts a layer uses, after what load_hparams (llama-model.cpp) asserts."""
    n_experts = keys.whole("expert_count", 0, _MAX_EXPERTS, 0)
    used = keys.per_layer("expert_used_count", n_layers, [0] * n_layers)
    groups = keys.whole("expert_group_count", 0, _MAX_EXPERTS, 0)
    groups_used = keys.whole("expert_group_used_count", 0, _MAX_EXPERTS, 0)
    if keys.architecture in ("hunyuan_vl", "hunyuan-dense") and n_experts <= 1:
        n_experts, used = 0, [0]
    problem = None
    if max(used) > n_experts or (n_experts and not max(used)):
        problem = f"{max(used)} of {n_experts} experts are used"
    elif groups and groups >= n_experts:
        problem = f"{n_experts} experts are in {groups} groups"
    elif groups > 1 and (n_experts % groups or not 0 < groups_used < groups):
        problem = f"{groups_used} of {groups} groups of {n_experts} experts are used"
    elif keys.family is not None and (
        len(set(used)) > 1 or used[0] > _MAX_USED_EXPERTS or groups > 1
    ):
        # llm_graph_context::build_moe_ffn. Groups take nodes of the graph too, and no examined
        # architecture has them.
        problem = f"layers use {sorted(set(used))} experts of {groups} groups"
    if problem:
        keys.refuse(f"impossible mixture of experts: {problem}")
    return max(used)


def _head_counts(keys: _Keys, n_layers: int, width: int) -> list[int]:
    heads = keys.per_layer("attention.head_count", n_layers, [0] * n_layers)
    key_value_heads = keys.per_layer("attention.head_count_kv", n_layers, heads)
    for layer, (n, n_kv) in enumerate(zip(heads, key_value_heads, strict=True)):
        # ggml_can_mul_mat repeats key-value heads a whole number of times.
        if n and n_kv and n % n_kv:
            keys.refuse(f"layer {layer} has {n} heads, no multiple of its {n_kv} key-value heads")
    rotary = keys.whole("rope.dimension_count", 0, _MAX_WIDTH, 0)
    if rotary % 2:
        keys.refuse(f"{keys.name('rope.dimension_count')!r} is {rotary}, an odd number")
    if keys.family is not None:
        _check_heads(keys, keys.family, heads, key_value_heads, width)
    return heads


def _check_heads(
    keys: _Keys, family: Family, heads: list[int], key_value_heads: list[int], width: int
) -> None:
    if min(heads) < 1 or min(key_value_heads) < 1 or max(heads) > width:
        keys.refuse(
            f"impossible numbers of heads: {sorted(set(heads))}, of key-value heads "
            f"{sorted(set(key_value_heads))}"
        )
    if not family.by_layer and len({*heads}) + len({*key_value_heads}) > 2:
        keys.refuse("layers differ in their number of heads")
    if not family.grouped and heads != key_value_heads:
        keys.refuse(f"{keys.architecture!r} needs as many key-value heads as heads")
    size = keys.whole("attention.key_length", 1, _MAX_WIDTH, width // heads[0])
    value_size = keys.whole("attention.value_length", 1, _MAX_WIDTH, width // heads[0])
    window_size = keys.whole("attention.key_length_swa", 1, _MAX_WIDTH, size)
    window_value_size = keys.whole("attention.value_length_swa", 1, _MAX_WIDTH, value_size)
    rotary = keys.whole("rope.dimension_count", 0, _MAX_WIDTH, size)
    window_rotary = keys.whole("rope.dimension_count_swa", 0, _MAX_WIDTH, rotary)
    if size != value_size or window_size != window_value_size:
        keys.refuse(f"keys of {size} and values of {value_size} dimensions a head differ")
    if window_size != size and not family.by_layer:
        keys.refuse(f"heads have {size} dimensions, or {window_size} in layers with a window")
    if family.square and heads[0] * size != width:
        keys.refuse(f"{heads[0]} heads of {size} dimensions are not {width}")
    if family.rotary == "none":
        return
    for rotated, whole in ((rotary, size), (window_rotary, window_size)):
        # ggml_compute_forward_rope_flt asserts it, and several graphs the last part.
        if (
            rotated % 2
            or not 2 <= rotated <= whole
            or (family.rotary == "whole" and rotated != whole)
        ):
            keys.refuse(f"{rotated} of {whole} dimensions of a head cannot be rotated")


def _check_window(keys: _Keys, family: Family, n_layers: int) -> None:
    if family.window == "none":
        return
    minimum, default = (1, None) if family.window == "required" else (0, 0)
    if keys.architecture == "gemma2":
        default = 4096
    if not keys.whole("attention.sliding_window", minimum, _MAX_WINDOW, default):
        return
    name = keys.name("attention.sliding_window_pattern")
    pattern = keys.header.metadata.get(name, family.window_pattern)
    stored = keys.header.types.get(name, "u32")
    layers = range(n_layers)
    if stored in ("arr[bool]", "arr[u32]", "arr[i32]") and len(pattern) <= MAX_LAYERS:
        windowed = [layer < len(pattern) and bool(pattern[layer]) for layer in layers]
    elif stored == "u32":  # set_swa_pattern, llama-hparams.cpp
        dense = 0 if family.dense_first else pattern - 1
        windowed = [pattern == 0 or layer % pattern != dense for layer in layers]
    else:
        keys.refuse(f"{name!r} must be a u32, or an array of at most {MAX_LAYERS} of them")
    # llama_model::create_memory asserts the first. Without a cache,
    # llm_graph_input_attn_no_cache::set_input fills a mask of each kind, and a mask that no
    # layer uses has no memory.
    if not any(windowed) or (all(windowed) and not family.cached):
        keys.refuse(f"{name!r} gives {'each' if all(windowed) else 'no'} layer a window")


def _check_architecture(keys: _Keys, width: int) -> None:
    """Check what the graphs of single architectures rely on (src/models/*.cpp)."""
    if keys.architecture == "t5encoder":
        # llama_relative_position_bucket, llama-graph.cpp: outside of these it gives an index
        # outside of the table.
        keys.whole("attention.relative_buckets_count", 4, 511)
    elif keys.architecture == "modern-bert":
        # The inner layer is as wide as an activation with a gate needs.
        if keys.value("hidden_activation", "str") == "relu":
            keys.refuse(f"{keys.name('hidden_activation')!r} is 'relu', which has no gate")
    elif keys.architecture == "gemma-embedding":
        for key in ("dense_2_feat_in", "dense_3_feat_out"):
            if keys.whole(key, 0, _MAX_WIDTH, 0) not in (0, width):
                keys.refuse(f"{keys.name(key)!r} is not {width}, the embedding_length")
