# SPDX-License-Identifier: Apache-2.0
"""ModernBERT: pre-norm, gated units, RoPE, and a window for two layers of three."""

from __future__ import annotations

from typing import Any

from embellama.convert.config_json import GELU_ERF, Config
from embellama.convert.network import Network, linear, norm, table


def _layer(name: str) -> str:
    return f"layers.{{}}.{name}"


_MODULES = {
    "embeddings.tok_embeddings": table("token_embd", "tokens"),
    "embeddings.norm": norm("token_embd_norm", bias=False),
    _layer("attn.Wqkv"): linear("blk.{}.attn_qkv", out="qkv", bias=False),
    _layer("attn.Wo"): linear("blk.{}.attn_output", bias=False),
    _layer("mlp_norm"): norm("blk.{}.ffn_norm", bias=False),
    _layer("mlp.Wi"): linear("blk.{}.ffn_up", out="ff2", bias=False),
    _layer("mlp.Wo"): linear("blk.{}.ffn_down", into="ff", bias=False),
    "final_norm": norm("output_norm", bias=False),
}
_HEAD = {
    "head.dense": linear("cls", bias=False),
    "head.norm": norm("cls.norm", bias=False),
    "classifier": linear("cls.output", out="labels"),
}
_CLASSIFIER_POOLING = {"mean": 1, "cls": 2}  # enum llama_pooling_type, llama.h


def read_modern_bert(config: Config, head: str) -> Network:
    """Read the config.json of a ModernBERT."""
    config.refuse_unless("hidden_activation", "gelu", (*GELU_ERF, "silu"))
    for name in ("attention_bias", "mlp_bias", "norm_bias", "classifier_bias"):
        config.refuse_unless(name, False, (False, None))
    config.refuse_unless("tie_word_embeddings", True, (True, False, None))
    classifies = head == "ForSequenceClassification"
    n_layers = config.n_layers("num_hidden_layers", 22)
    n_heads = config.size("num_attention_heads", 12)
    width, n_ff = config.size("hidden_size", 768), config.size("intermediate_size", 1152)
    config.check_heads(width, n_heads)
    every = config.size("global_attn_every_n_layers", 3)
    kinds = config.values.get("layer_types")
    expected = ["sliding_attention" if i % every else "full_attention" for i in range(n_layers)]
    if kinds is not None and kinds != expected:
        raise config.error(
            f"layer_types is not one layer of {every} with full attention, the only pattern that "
            "is supported"
        )
    labels = config.labels(classifies)
    sizes = {
        "embd": width,
        "qkv": 3 * width,
        "ff": n_ff,
        "ff2": 2 * n_ff,
        "tokens": config.size("vocab_size", 50368),
        "labels": len(labels),
    }
    metadata: dict[str, Any] = {
        "embedding_length": width,
        "feed_forward_length": n_ff,
        "attention.head_count": n_heads,
        "attention.layer_norm_epsilon": config.number("norm_eps", 1e-5, below=1),
        "attention.causal": False,
        "hidden_activation": "silu" if config.values.get("hidden_activation") == "silu" else "gelu",
        "rope.freq_base": config.rope_base("full_attention", "global_rope_theta", 160000.0),
        "rope.scaling.type": "none",
        "classifier.output_labels": labels,
        "vocab_size": sizes["tokens"],
    }
    if n_layers > 1 and every > 1:
        metadata |= {
            "attention.sliding_window": config.size("local_attention", 128),
            "attention.sliding_window_pattern": every,
            "rope.freq_base_swa": config.rope_base(
                "sliding_attention", "local_rope_theta", 10000.0
            ),
        }
    if classifies:
        config.refuse_unless("classifier_pooling", "cls", _CLASSIFIER_POOLING)
        config.refuse_unless("classifier_activation", "gelu", (*GELU_ERF, "silu", "tanh"))
        pooling = config.values.get("classifier_pooling", "cls")
        activation = config.values.get("classifier_activation", "gelu")
        metadata |= {
            "classifier.pooling_type": _CLASSIFIER_POOLING[pooling],
            "classifier.activation": "gelu" if activation in GELU_ERF else activation,
        }
    # The first layer has no norm before its attention.
    norms = {
        f"layers.{i}.attn_norm": norm(f"blk.{i}.attn_norm", bias=False) for i in range(1, n_layers)
    }
    return Network(
        architecture="modern-bert",
        n_layers=n_layers,
        n_tokens=sizes["tokens"],
        context_length=config.size("max_position_embeddings", 8192),
        n_token_types=None,
        metadata=metadata,
        modules={**_MODULES, **norms, **(_HEAD if classifies else {})},
        sizes=sizes,
        prefixes=("model.",),
        unused=("decoder.", *(() if classifies else ("head.", "classifier."))),
    )
