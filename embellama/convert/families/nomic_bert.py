# SPDX-License-Identifier: Apache-2.0
"""Nomic BERT (nomic-embed-text v1 and v1.5): BERT with RoPE, SwiGLU and few biases."""

from __future__ import annotations

from embellama.convert.config_json import Config
from embellama.convert.network import Network, linear, norm, table

# Beyond them the model scales its RoPE by the length of a text, which llama.cpp doesn't.
_TRAINED_POSITIONS = 2048


def read_nomic_bert(config: Config, head: str) -> Network:
    """Read the config.json of a Nomic BERT."""
    if head == "ForSequenceClassification":
        raise config.error("a classification head of Nomic BERT, which llama.cpp doesn't compute")
    if config.values.get("num_experts"):
        raise config.error(
            "a mixture of experts, whose bias llama.cpp leaves out, so that a GGUF would give "
            "other vectors than the checkpoint"
        )
    config.refuse_unless("activation_function", "swiglu", ("swiglu",))
    config.refuse_unless("rotary_emb_fraction", 1.0, (1.0,))
    for name in (
        *("causal", "prenorm", "parallel_block", "use_rms_norm", "rotary_emb_interleaved"),
        *("mlp_fc1_bias", "mlp_fc2_bias"),
    ):
        config.refuse_unless(name, False, (False, None))
    config.refuse_unless("rotary_emb_scale_base", None, (None,))
    n_layers, n_heads = config.n_layers("n_layer", 12), config.size("n_head", 12)
    width = config.size("n_embd", 768)
    config.check_heads(width, n_heads)
    bias = config.flag("qkv_proj_bias", True)
    sizes = {
        "embd": width,
        "qkv": 3 * width,
        "ff": config.size("n_inner", 4 * width),
        "tokens": config.size("vocab_size", 30528),
        "types": config.size("type_vocab_size", 2),
    }
    trained = config.size("max_trained_positions", _TRAINED_POSITIONS)
    return Network(
        architecture="nomic-bert",
        n_layers=n_layers,
        n_tokens=sizes["tokens"],
        context_length=min(config.size("n_positions", _TRAINED_POSITIONS), trained),
        n_token_types=sizes["types"],
        metadata={
            "embedding_length": width,
            "feed_forward_length": sizes["ff"],
            "attention.head_count": n_heads,
            "attention.layer_norm_epsilon": config.number("layer_norm_epsilon", 1e-12, below=1),
            "attention.causal": False,
            "rope.freq_base": config.number("rotary_emb_base", 10000.0, below=1e9),
        },
        modules={
            "embeddings.word_embeddings": table("token_embd", "tokens"),
            "embeddings.token_type_embeddings": table("token_types", "types"),
            "emb_ln": norm("token_embd_norm"),
            "encoder.layers.{}.attn.Wqkv": linear("blk.{}.attn_qkv", out="qkv", bias=bias),
            "encoder.layers.{}.attn.out_proj": linear("blk.{}.attn_output", bias=bias),
            "encoder.layers.{}.norm1": norm("blk.{}.attn_output_norm"),
            "encoder.layers.{}.mlp.fc11": linear("blk.{}.ffn_up", out="ff", bias=False),
            "encoder.layers.{}.mlp.fc12": linear("blk.{}.ffn_gate", out="ff", bias=False),
            "encoder.layers.{}.mlp.fc2": linear("blk.{}.ffn_down", into="ff", bias=False),
            "encoder.layers.{}.norm2": norm("blk.{}.layer_output_norm"),
        },
        sizes=sizes,
        prefixes=("bert.",),
        unused=("cls.", "pooler.", "embeddings.position_ids"),
    )
