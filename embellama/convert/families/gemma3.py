# SPDX-License-Identifier: Apache-2.0
"""EmbeddingGemma: Gemma 3 with attention in both directions, and a window in most layers."""

from __future__ import annotations

from typing import Any

from embellama.convert.config_json import Config
from embellama.convert.network import Network, linear, norm, table

_MODULES = {
    "embed_tokens": table("token_embd", "tokens"),
    "norm": norm("output_norm", bias=False, plus_one=True),
    "layers.{}.input_layernorm": norm("blk.{}.attn_norm", bias=False, plus_one=True),
    "layers.{}.self_attn.q_proj": linear("blk.{}.attn_q", out="q", bias=False),
    "layers.{}.self_attn.k_proj": linear("blk.{}.attn_k", out="kv", bias=False),
    "layers.{}.self_attn.v_proj": linear("blk.{}.attn_v", out="kv", bias=False),
    "layers.{}.self_attn.o_proj": linear("blk.{}.attn_output", into="q", bias=False),
    "layers.{}.self_attn.q_norm": norm("blk.{}.attn_q_norm", "head", bias=False, plus_one=True),
    "layers.{}.self_attn.k_norm": norm("blk.{}.attn_k_norm", "head", bias=False, plus_one=True),
    "layers.{}.post_attention_layernorm": norm(
        "blk.{}.post_attention_norm", bias=False, plus_one=True
    ),
    "layers.{}.pre_feedforward_layernorm": norm("blk.{}.ffn_norm", bias=False, plus_one=True),
    "layers.{}.mlp.gate_proj": linear("blk.{}.ffn_gate", out="ff", bias=False),
    "layers.{}.mlp.up_proj": linear("blk.{}.ffn_up", out="ff", bias=False),
    "layers.{}.mlp.down_proj": linear("blk.{}.ffn_down", into="ff", bias=False),
    "layers.{}.post_feedforward_layernorm": norm("blk.{}.post_ffw_norm", bias=False, plus_one=True),
}
# llama_model_gemma_embedding::load_arch_hparams: one layer of six has no window.
_PATTERN = 6


def _pattern(config: Config, n_layers: int) -> int:
    """Return n, where every nth layer has no window."""
    kinds = config.values.get("layer_types")
    if kinds is None:
        names = ("sliding_window_pattern", "_sliding_window_pattern")
        return next((config.size(n, 1) for n in names if n in config.values), _PATTERN)
    for every in range(2, n_layers + 1):
        full = [i % every == every - 1 for i in range(n_layers)]
        if kinds == ["full_attention" if each else "sliding_attention" for each in full]:
            return every
    raise config.error(
        "layer_types is not layers with a window and then one without, again and again, the only "
        "pattern that is supported"
    )


def read_gemma3(config: Config, head: str) -> Network:
    """Read the config.json of an EmbeddingGemma."""
    if config.values.get("use_bidirectional_attention") is not True:
        raise config.error(
            "a Gemma 3 for text generation; only EmbeddingGemma (use_bidirectional_attention) is "
            "supported"
        )
    config.refuse_unless("hidden_activation", "gelu_pytorch_tanh", ("gelu_pytorch_tanh",))
    config.refuse_unless("rope_scaling", None, (None,))
    config.refuse_unless("attention_bias", False, (False, None))
    config.refuse_unless("attn_logit_softcapping", None, (None,))
    n_layers = config.n_layers("num_hidden_layers", 26)
    n_heads = config.size("num_attention_heads", 8)
    n_kv_heads = config.size("num_key_value_heads", 4)
    n_head = config.size("head_dim", 256)
    width = config.size("hidden_size", 2304)
    config.refuse_unless("query_pre_attn_scalar", 256, (n_head,))
    if n_heads % n_kv_heads or n_head % 2 or n_heads * n_head > 2**20:
        raise config.error(
            f"{n_heads} heads of {n_head} dimensions can't share {n_kv_heads} key-value heads"
        )
    sizes = {
        "embd": width,
        "head": n_head,
        "q": n_heads * n_head,
        "kv": n_kv_heads * n_head,
        "ff": config.size("intermediate_size", 9216),
        "tokens": config.size("vocab_size", 262208),
    }
    pattern = _pattern(config, n_layers)
    metadata: dict[str, Any] = {
        "embedding_length": width,
        "feed_forward_length": sizes["ff"],
        "attention.head_count": n_heads,
        "attention.head_count_kv": n_kv_heads,
        "attention.key_length": n_head,
        "attention.value_length": n_head,
        "attention.layer_norm_rms_epsilon": config.number("rms_norm_eps", 1e-6, below=1),
        # transformers and llama.cpp both halve it.
        "attention.sliding_window": config.size("sliding_window", 4096),
        "rope.freq_base": config.rope_base("full_attention", "rope_theta", 1000000.0),
        "rope.freq_base_swa": config.rope_base(
            "sliding_attention", "rope_local_base_freq", 10000.0
        ),
    }
    if pattern != _PATTERN:
        metadata["attention.sliding_window_pattern"] = pattern
    return Network(
        architecture="gemma-embedding",
        n_layers=n_layers,
        n_tokens=sizes["tokens"],
        context_length=config.size("max_position_embeddings", 131072),
        n_token_types=None,
        metadata=metadata,
        modules=_MODULES,
        sizes=sizes,
        prefixes=("model.",),
        unused=("lm_head.",),
    )
