# SPDX-License-Identifier: Apache-2.0
"""JinaBERT (jina-embeddings-v2): BERT with ALiBi and a gated linear unit."""

from __future__ import annotations

from embellama.convert.config_json import GELU_ERF, Config
from embellama.convert.network import Module, Network, linear, norm, table

_BODY = {
    "embeddings.word_embeddings": table("token_embd", "tokens"),
    "embeddings.token_type_embeddings": table("token_types", "types"),
    "embeddings.LayerNorm": norm("token_embd_norm"),
    "encoder.layer.{}.attention.self.query": linear("blk.{}.attn_q"),
    "encoder.layer.{}.attention.self.key": linear("blk.{}.attn_k"),
    "encoder.layer.{}.attention.self.value": linear("blk.{}.attn_v"),
    "encoder.layer.{}.attention.output.dense": linear("blk.{}.attn_output"),
    "encoder.layer.{}.attention.output.LayerNorm": norm("blk.{}.attn_output_norm"),
}
_GATED: dict[str, Module] = {
    "encoder.layer.{}.mlp.gated_layers": linear("blk.{}.ffn_up", out="ff2", bias=False),
    "encoder.layer.{}.mlp.wo": linear("blk.{}.ffn_down", into="ff"),
    "encoder.layer.{}.mlp.layernorm": norm("blk.{}.layer_output_norm"),
}
# jina-embeddings-v2-base-code. Its gate is the second half of one matrix; in a matrix of both,
# llama.cpp takes the first half for the gate.
_UP_GATED: dict[str, Module] = {
    "encoder.layer.{}.attention.self.layer_norm_q": norm("blk.{}.attn_q_norm"),
    "encoder.layer.{}.attention.self.layer_norm_k": norm("blk.{}.attn_k_norm"),
    "encoder.layer.{}.layer_norm_1": norm("blk.{}.attn_norm_2"),
    "encoder.layer.{}.mlp.up_gated_layer": linear(
        "blk.{}.ffn_up", out="ff2", bias=False, rows="first half"
    ),
    "encoder.layer.{}.mlp.down_layer": linear("blk.{}.ffn_down", into="ff"),
    "encoder.layer.{}.layer_norm_2": norm("blk.{}.layer_output_norm"),
}
_GATE = {
    "encoder.layer.{}.mlp.up_gated_layer": linear(
        "blk.{}.ffn_gate", out="ff2", bias=False, rows="second half"
    ),
}


def read_jina_bert_v2(config: Config, head: str, *, up_gated: bool) -> Network:
    """Read the config.json of a JinaBERT, with normalised queries and keys where `up_gated`."""
    if head == "ForSequenceClassification":
        raise config.error("a classification head of JinaBERT, which llama.cpp doesn't compute")
    config.refuse_unless("position_embedding_type", "absolute", ("alibi",))
    config.refuse_unless("feed_forward_type", "original", ("geglu",))
    config.refuse_unless("hidden_act", "gelu", GELU_ERF)
    config.refuse_unless("is_decoder", False, (False, None))
    n_layers = config.n_layers("num_hidden_layers", 12)
    n_heads = config.size("num_attention_heads", 12)
    width, n_ff = config.size("hidden_size", 768), config.size("intermediate_size", 3072)
    config.check_heads(width, n_heads)
    sizes = {
        "embd": width,
        "ff": n_ff,
        "ff2": 2 * n_ff,
        "tokens": config.size("vocab_size", 30528),
        "types": config.size("type_vocab_size", 2),
    }
    return Network(
        architecture="jina-bert-v2",
        n_layers=n_layers,
        n_tokens=sizes["tokens"],
        context_length=config.size("max_position_embeddings", 8192),
        n_token_types=sizes["types"],
        metadata={
            "embedding_length": width,
            "feed_forward_length": n_ff,
            "attention.head_count": n_heads,
            "attention.layer_norm_epsilon": config.number("layer_norm_eps", 1e-12, below=1),
            "attention.causal": False,
        },
        modules={**_BODY, **(_UP_GATED if up_gated else _GATED)},
        sizes=sizes,
        prefixes=("bert.",),
        unused=("cls.", "pooler.", "embeddings.position_ids"),
        rows={"first half": range(n_ff), "second half": range(n_ff, 2 * n_ff)},
        second_uses=_GATE if up_gated else {},
    )
