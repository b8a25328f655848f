# SPDX-License-Identifier: Apache-2.0
"""Nomic BERT: BERT with RoPE; SwiGLU (nomic-embed-text v1, v1.5) or a mixture of experts (v2)."""

from __future__ import annotations

from embellama.convert.config_json import Config
from embellama.convert.network import Module, Network, linear, norm, table, tensor

_GATED = {
    "encoder.layers.{}.mlp.fc11": linear("blk.{}.ffn_up", out="ff", bias=False),
    "encoder.layers.{}.mlp.fc12": linear("blk.{}.ffn_gate", out="ff", bias=False),
    "encoder.layers.{}.mlp.fc2": linear("blk.{}.ffn_down", into="ff", bias=False),
}
# Beyond them the model scales its RoPE by the length of a text, which llama.cpp doesn't.
_TRAINED_POSITIONS = 2048


def read_nomic_bert(config: Config, head: str) -> Network:
    """Read the config.json of a Nomic BERT."""
    if head == "ForSequenceClassification":
        raise config.error("a classification head of Nomic BERT, which llama.cpp doesn't compute")
    every = config.values.get("moe_every_n_layers")
    experts = every not in (None, 0)
    activation = "gelu" if experts else "swiglu"
    config.refuse_unless("activation_function", "gelu", (activation,))
    config.refuse_unless("rotary_emb_fraction", 1.0, (1.0,))
    for name in (
        *("causal", "prenorm", "parallel_block", "use_rms_norm", "rotary_emb_interleaved"),
        *(() if experts else ("mlp_fc1_bias", "mlp_fc2_bias")),
        *("moe_normalize_expert_weights", "expert_choice_router"),
    ):
        config.refuse_unless(name, False, (False, None))
    config.refuse_unless("rotary_emb_scale_base", None, (None,))
    config.refuse_unless("num_shared_experts", 0, (0, None))
    config.refuse_unless("ffn_div", 1, (1, None))
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
    metadata = {
        "embedding_length": width,
        "feed_forward_length": sizes["ff"],
        "attention.head_count": n_heads,
        "attention.layer_norm_epsilon": config.number("layer_norm_epsilon", 1e-12, below=1),
        "attention.causal": False,
        "rope.freq_base": config.number("rotary_emb_base", 10000.0, below=1e9),
    }
    inner = _GATED
    if experts:
        every, n_experts = config.size("moe_every_n_layers", 1), config.size("num_experts", 8)
        inner = _mixture(config, n_layers, every)
        sizes |= {"experts": n_experts, "all ff": n_experts * sizes["ff"]}
        metadata |= {
            "moe_every_n_layers": every,
            "expert_count": n_experts,
            "expert_used_count": config.size("moe_top_k", 2),
        }
    trained = config.size("max_trained_positions", _TRAINED_POSITIONS)
    return Network(
        architecture="nomic-bert-moe" if experts else "nomic-bert",
        n_layers=n_layers,
        n_tokens=sizes["tokens"],
        context_length=min(config.size("n_positions", _TRAINED_POSITIONS), trained),
        n_token_types=sizes["types"],
        metadata=metadata,
        modules={
            "embeddings.word_embeddings": table("token_embd", "tokens"),
            "embeddings.token_type_embeddings": table("token_types", "types"),
            "emb_ln": norm("token_embd_norm"),
            "encoder.layers.{}.attn.Wqkv": linear("blk.{}.attn_qkv", out="qkv", bias=bias),
            "encoder.layers.{}.attn.out_proj": linear("blk.{}.attn_output", bias=bias),
            "encoder.layers.{}.norm1": norm("blk.{}.attn_output_norm"),
            **inner,
            "encoder.layers.{}.norm2": norm("blk.{}.layer_output_norm"),
        },
        sizes=sizes,
        prefixes=("bert.",),
        unused=("cls.", "pooler.", "embeddings.position_ids"),
    )


def _mixture(config: Config, n_layers: int, every: int) -> dict[str, Module]:
    """Return the inner modules of each layer: every nth, from the second on, has experts."""
    up_bias, down_bias = config.flag("mlp_fc1_bias", True), config.flag("mlp_fc2_bias", True)
    wide = ("all ff", "embd")
    modules: dict[str, Module] = {}
    for i in range(n_layers):
        mlp, block = f"encoder.layers.{i}.mlp.", f"blk.{i}."
        if i % every == 1:
            modules |= {
                f"{mlp}router.layer": linear(f"{block}ffn_gate_inp", out="experts", bias=False),
                f"{mlp}experts.mlp.w1": tensor(
                    f"{block}ffn_up_exps.weight", *wide, matrices="experts"
                ),
                f"{mlp}experts.mlp.w2": tensor(
                    f"{block}ffn_down_exps.weight", *wide, matrices="experts", transposed=True
                ),
                # One for all experts; bias-after-experts.patch gives llama.cpp a place for it.
                f"{mlp}experts.bias": tensor(f"{block}ffn_down.bias", "embd"),
            }
        else:
            modules |= {
                f"{mlp}fc1": linear(f"{block}ffn_up", out="ff", bias=up_bias),
                f"{mlp}fc2": linear(f"{block}ffn_down", into="ff", bias=down_bias),
            }
    return modules
