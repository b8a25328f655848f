# SPDX-License-Identifier: Apache-2.0
"""DistilBERT: BERT's network under other names, without token types."""

from __future__ import annotations

from embellama.convert.config_json import GELU_ERF, GELU_TANH, Config
from embellama.convert.network import Network, linear, norm, table

_MODULES = {
    "embeddings.word_embeddings": table("token_embd", "tokens"),
    "embeddings.position_embeddings": table("position_embd", "positions"),
    "embeddings.LayerNorm": norm("token_embd_norm"),
    "transformer.layer.{}.attention.q_lin": linear("blk.{}.attn_q"),
    "transformer.layer.{}.attention.k_lin": linear("blk.{}.attn_k"),
    "transformer.layer.{}.attention.v_lin": linear("blk.{}.attn_v"),
    "transformer.layer.{}.attention.out_lin": linear("blk.{}.attn_output"),
    "transformer.layer.{}.sa_layer_norm": norm("blk.{}.attn_output_norm"),
    "transformer.layer.{}.ffn.lin1": linear("blk.{}.ffn_up", out="ff"),
    "transformer.layer.{}.ffn.lin2": linear("blk.{}.ffn_down", into="ff"),
    "transformer.layer.{}.output_layer_norm": norm("blk.{}.layer_output_norm"),
}


def read_distilbert(config: Config, head: str) -> Network:
    """Read the config.json of a DistilBERT."""
    if head == "ForSequenceClassification":
        raise config.error(
            "the head of DistilBertForSequenceClassification uses ReLU, which llama.cpp can't "
            "compute; convert a DistilBertModel, or a reranker of another architecture"
        )
    config.refuse_unless("activation", "gelu", GELU_ERF + GELU_TANH)
    n_layers, n_heads = config.n_layers("n_layers", 6), config.size("n_heads", 12)
    sizes = {
        "embd": config.size("dim", 768),
        "ff": config.size("hidden_dim", 3072),
        "tokens": config.size("vocab_size", 30522),
        "positions": config.size("max_position_embeddings", 512),
    }
    config.check_heads(sizes["embd"], n_heads)
    return Network(
        architecture="bert",
        n_layers=n_layers,
        n_tokens=sizes["tokens"],
        context_length=sizes["positions"],
        n_token_types=1,
        metadata={
            "embedding_length": sizes["embd"],
            "feed_forward_length": sizes["ff"],
            "attention.head_count": n_heads,
            "attention.layer_norm_epsilon": 1e-12,  # modeling_distilbert.py has no setting
            "attention.causal": False,
            "classifier.output_labels": config.labels(False),
        },
        modules=_MODULES,
        sizes=sizes,
        prefixes=("distilbert.",),
        unused=(
            "vocab_",
            "embeddings.position_ids",
            "classifier.",
            "pre_classifier.",
            "qa_outputs.",
        ),
    )
