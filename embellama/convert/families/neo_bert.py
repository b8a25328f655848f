# SPDX-License-Identifier: Apache-2.0
"""NeoBERT: pre-norm with RMS norms, RoPE and SwiGLU."""

from __future__ import annotations

from embellama.convert.config_json import Config
from embellama.convert.network import Network, linear, norm, table

_MODULES = {
    "encoder": table("token_embd", "tokens"),
    "transformer_encoder.{}.attention_norm": norm("blk.{}.attn_norm", bias=False),
    "transformer_encoder.{}.qkv": linear("blk.{}.attn_qkv", out="qkv", bias=False, rows="q, k, v"),
    "transformer_encoder.{}.wo": linear("blk.{}.attn_output", bias=False),
    "transformer_encoder.{}.ffn_norm": norm("blk.{}.ffn_norm", bias=False),
    "transformer_encoder.{}.ffn.w12": linear("blk.{}.ffn_up", out="ff2", bias=False),
    "transformer_encoder.{}.ffn.w3": linear("blk.{}.ffn_down", into="ff", bias=False),
    "layer_norm": norm("enc.output_norm", bias=False),
}


def read_neo_bert(config: Config, head: str) -> Network:
    """Read the config.json of a NeoBERT."""
    if head == "ForSequenceClassification":
        raise config.error("a classification head of NeoBERT, which is not supported")
    config.refuse_unless("hidden_act", "swiglu", ("swiglu", "SwiGLU", None))
    config.refuse_unless("rope", True, (True,))
    config.refuse_unless("rms_norm", True, (True,))
    n_layers = config.n_layers("num_hidden_layers", 28)
    n_heads = config.size("num_attention_heads", 12)
    width = config.size("hidden_size", 768)
    config.check_heads(width, n_heads)
    # SwiGLU has three matrices in place of two, and a width that is a multiple of 8.
    n_ff = -(-(2 * config.size("intermediate_size", 3072) // 3) // 8) * 8
    sizes = {
        "embd": width,
        "qkv": 3 * width,
        "ff": n_ff,
        "ff2": 2 * n_ff,
        "tokens": config.size("vocab_size", 30522),
    }
    # The checkpoint has q, k and v of a head side by side, llama.cpp all heads of each.
    n = width // n_heads
    parts = [
        row
        for part in range(3)
        for head_index in range(n_heads)
        for row in range((3 * head_index + part) * n, (3 * head_index + part + 1) * n)
    ]
    return Network(
        architecture="neo-bert",
        n_layers=n_layers,
        n_tokens=sizes["tokens"],
        context_length=config.size("max_length", 4096),
        n_token_types=1,
        metadata={
            "embedding_length": width,
            "feed_forward_length": n_ff,
            "attention.head_count": n_heads,
            "attention.layer_norm_rms_epsilon": config.number("norm_eps", 1e-5, below=1),
            "attention.causal": False,
            "pooling_type": 2,  # CLS, as the model card uses it, where no modules.json says another
            "rope.freq_base": 10000.0,
            "rope.scaling.type": "none",
        },
        modules=_MODULES,
        sizes=sizes,
        prefixes=("model.",),
        unused=("decoder.", "freqs_cis"),
        rows={"q, k, v": parts},
    )
