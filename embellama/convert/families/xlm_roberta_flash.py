# SPDX-License-Identifier: Apache-2.0
"""Jina's XLM-RoBERTa (jina-embeddings-v3, jina-reranker-v2): RoPE or positions, fused products."""

from __future__ import annotations

from embellama.convert.config_json import GELU_ERF, Config
from embellama.convert.network import Network, linear, norm, table

_MODULES = {
    "embeddings.word_embeddings": table("token_embd", "tokens"),
    "embeddings.token_type_embeddings": table("token_types", "types"),
    "emb_ln": norm("token_embd_norm"),
    "encoder.layers.{}.mixer.Wqkv": linear("blk.{}.attn_qkv", out="qkv"),
    "encoder.layers.{}.mixer.out_proj": linear("blk.{}.attn_output"),
    "encoder.layers.{}.norm1": norm("blk.{}.attn_output_norm"),
    "encoder.layers.{}.mlp.fc1": linear("blk.{}.ffn_up", out="ff"),
    "encoder.layers.{}.mlp.fc2": linear("blk.{}.ffn_down", into="ff"),
    "encoder.layers.{}.norm2": norm("blk.{}.layer_output_norm"),
}
_POSITIONS = {
    "embeddings.position_embeddings": table("position_embd", "positions", rows="positions")
}
_HEAD = {
    "classifier.dense": linear("cls"),
    "classifier.out_proj": linear("cls.output", out="labels"),
}


def read_xlm_roberta_flash(config: Config, head: str) -> Network:
    """Read the config.json of an XLM-RoBERTa whose modules have Jina's names."""
    config.refuse_unless("hidden_act", "gelu", GELU_ERF)
    config.refuse_unless("position_embedding_type", "absolute", ("absolute", "rotary"))
    config.refuse_unless("is_decoder", False, (False, None))
    rotary = config.values.get("position_embedding_type") == "rotary"
    classifies = head == "ForSequenceClassification"
    if rotary and classifies:
        raise config.error("a classification head with RoPE, which llama.cpp doesn't compute")
    n_layers = config.n_layers("num_hidden_layers", 24)
    n_heads = config.size("num_attention_heads", 16)
    width = config.size("hidden_size", 1024)
    config.check_heads(width, n_heads)
    labels = config.labels(classifies)
    sizes = {
        "embd": width,
        "qkv": 3 * width,
        "ff": config.size("intermediate_size", 4096),
        "tokens": config.size("vocab_size", 250002),
        "types": config.size("type_vocab_size", 1),
        "positions": config.size("max_position_embeddings", 8194),
        "labels": len(labels),
    }
    # As in RoBERTa, positions count from the id of the padding token + 1.
    offset = config.size("pad_token_id", 1) + 1
    if offset >= sizes["positions"]:
        raise config.error(
            f"pad_token_id {offset - 1} leaves none of the {sizes['positions']} positions to the "
            "text"
        )
    positions = range(offset, sizes["positions"])
    rope = {"rope.freq_base": config.number("rotary_emb_base", 10000.0, below=1e9)}
    return Network(
        architecture="jina-bert-v3" if rotary else "bert",
        n_layers=n_layers,
        n_tokens=sizes["tokens"],
        context_length=len(positions),
        n_token_types=sizes["types"],
        metadata={
            "embedding_length": width,
            "feed_forward_length": sizes["ff"],
            "attention.head_count": n_heads,
            "attention.layer_norm_epsilon": config.number("layer_norm_eps", 1e-5, below=1),
            "attention.causal": False,
            **(rope if rotary else {"classifier.output_labels": labels}),
        },
        modules={
            **_MODULES,
            **({} if rotary else _POSITIONS),
            **(_HEAD if classifies else {}),
        },
        sizes=sizes,
        prefixes=("roberta.",),
        unused=("lm_head.", "pooler.", *(() if classifies else ("classifier.",))),
        rows={"positions": positions},
    )
