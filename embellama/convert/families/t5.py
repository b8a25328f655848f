# SPDX-License-Identifier: Apache-2.0
"""T5's encoder: positions as a bias that all layers share, no biases elsewhere."""

from __future__ import annotations

from embellama.convert.config_json import Config
from embellama.convert.network import Network, linear, norm, table

_ATTENTION = "block.{}.layer.0.SelfAttention"
_FEED_FORWARD = "block.{}.layer.1.DenseReluDense"
_MODULES = {
    "shared": table("token_embd", "tokens"),
    f"{_ATTENTION}.q": linear("enc.blk.{}.attn_q", out="heads", bias=False),
    f"{_ATTENTION}.k": linear("enc.blk.{}.attn_k", out="heads", bias=False),
    f"{_ATTENTION}.v": linear("enc.blk.{}.attn_v", out="heads", bias=False),
    f"{_ATTENTION}.o": linear("enc.blk.{}.attn_o", into="heads", bias=False),
    "block.0.layer.0.SelfAttention.relative_attention_bias": linear(
        "enc.blk.0.attn_rel_b", out="buckets", into="n_heads", bias=False
    ),
    "block.{}.layer.0.layer_norm": norm("enc.blk.{}.attn_norm", bias=False),
    f"{_FEED_FORWARD}.wo": linear("enc.blk.{}.ffn_down", into="ff", bias=False),
    "block.{}.layer.1.layer_norm": norm("enc.blk.{}.ffn_norm", bias=False),
    "final_layer_norm": norm("enc.output_norm", bias=False),
}
_RELU = {f"{_FEED_FORWARD}.wi": linear("enc.blk.{}.ffn_up", out="ff", bias=False)}
_GATED_GELU = {
    f"{_FEED_FORWARD}.wi_0": linear("enc.blk.{}.ffn_gate", out="ff", bias=False),
    f"{_FEED_FORWARD}.wi_1": linear("enc.blk.{}.ffn_up", out="ff", bias=False),
}


def read_t5_encoder(config: Config, head: str) -> Network:
    """Read the config.json of a T5 of which the encoder is used."""
    if head != "Model":
        raise config.error("a head on T5's encoder, which is not supported")
    config.refuse_unless("feed_forward_proj", "relu", ("relu", "gated-gelu"))
    # llama_relative_position_bucket (llama-graph.cpp) has no other.
    config.refuse_unless("relative_attention_max_distance", 128, (128,))
    config.refuse_unless("is_decoder", False, (False, None))
    gated = config.values.get("feed_forward_proj") == "gated-gelu"
    n_layers, n_heads = config.n_layers("num_layers", 6), config.size("num_heads", 8)
    n_head = config.size("d_kv", 64)
    if n_heads * n_head > 2**20:
        raise config.error(f"{n_heads} heads of {n_head} dimensions are too many")
    sizes = {
        "embd": config.size("d_model", 512),
        "ff": config.size("d_ff", 2048),
        "heads": n_heads * n_head,
        "n_heads": n_heads,
        "buckets": config.size("relative_attention_num_buckets", 32),
        "tokens": config.size("vocab_size", 32128),
    }
    return Network(
        architecture="t5encoder",
        n_layers=n_layers,
        n_tokens=sizes["tokens"],
        # T5 has no limit; its authors trained it with texts of 512 tokens.
        context_length=config.size("n_positions", 512),
        n_token_types=None,
        metadata={
            "embedding_length": sizes["embd"],
            "feed_forward_length": sizes["ff"],
            "attention.head_count": n_heads,
            "attention.key_length": n_head,
            "attention.value_length": n_head,
            "attention.layer_norm_rms_epsilon": config.number("layer_norm_epsilon", 1e-6, below=1),
            "attention.relative_buckets_count": sizes["buckets"],
        },
        modules={**_MODULES, **(_GATED_GELU if gated else _RELU)},
        sizes=sizes,
        prefixes=("encoder.",),
        unused=("embed_tokens.",),
    )
