# SPDX-License-Identifier: Apache-2.0
"""BERT, RoBERTa, XLM-RoBERTa and CamemBERT: one network, whose positions and heads differ."""

from __future__ import annotations

from embellama.convert.config_json import GELU_ERF, GELU_TANH, Config
from embellama.convert.network import Module, Network, linear, norm, table

_MODULES = {
    "embeddings.word_embeddings": table("token_embd", "tokens"),
    "embeddings.position_embeddings": table("position_embd", "positions", rows="positions"),
    "embeddings.token_type_embeddings": table("token_types", "types"),
    "embeddings.LayerNorm": norm("token_embd_norm"),
    "encoder.layer.{}.attention.self.query": linear("blk.{}.attn_q"),
    "encoder.layer.{}.attention.self.key": linear("blk.{}.attn_k"),
    "encoder.layer.{}.attention.self.value": linear("blk.{}.attn_v"),
    "encoder.layer.{}.attention.output.dense": linear("blk.{}.attn_output"),
    "encoder.layer.{}.attention.output.LayerNorm": norm("blk.{}.attn_output_norm"),
    "encoder.layer.{}.intermediate.dense": linear("blk.{}.ffn_up", out="ff"),
    "encoder.layer.{}.output.dense": linear("blk.{}.ffn_down", into="ff"),
    "encoder.layer.{}.output.LayerNorm": norm("blk.{}.layer_output_norm"),
}
# llama.cpp computes cls.output(tanh(cls(x))) (llm_graph_context::build_pooling): BERT's pooler and
# classifier. llama.cpp's converter drops the pooler, so the scores of its files differ from those
# of the checkpoint.
_BERT_HEAD = {
    "pooler.dense": linear("cls"),
    "classifier": linear("cls.output", out="labels"),
}
_ROBERTA_HEAD = {
    "classifier.dense": linear("cls"),
    "classifier.out_proj": linear("cls.output", out="labels"),
}
_UNUSED = (
    *("cls.predictions.", "cls.seq_relationship.", "embeddings.position_ids"),
    *("embeddings.token_type_ids", "lm_head.", "pooler.", "qa_outputs."),
)


def read_bert(config: Config, head: str) -> Network:
    """Read the config.json of a BERT."""
    return _read(config, head, _BERT_HEAD, position_offset=0, n_tokens=30522)


def read_roberta(config: Config, head: str) -> Network:
    """Read the config.json of a RoBERTa, XLM-RoBERTa or CamemBERT."""
    padding = config.values.get("pad_token_id", 1)
    if padding is not None and (
        isinstance(padding, bool) or not isinstance(padding, int) or padding < 0
    ):
        raise config.error(f"pad_token_id must be a token's id, not {padding!r}")
    # The first position that a text can have.
    offset = 0 if padding is None else padding + 1
    return _read(config, head, _ROBERTA_HEAD, position_offset=offset, n_tokens=50265)


def _read(
    config: Config,
    head: str,
    classifier: dict[str, Module],
    *,
    position_offset: int,
    n_tokens: int,
) -> Network:
    config.refuse_unless("hidden_act", "gelu", GELU_ERF + GELU_TANH)
    config.refuse_unless("position_embedding_type", "absolute", ("absolute", None))
    config.refuse_unless("is_decoder", False, (False, None))
    config.refuse_unless("add_cross_attention", False, (False, None))
    classifies = head == "ForSequenceClassification"
    n_layers = config.n_layers("num_hidden_layers", 12)
    n_heads = config.size("num_attention_heads", 12)
    width = config.size("hidden_size", 768)
    n_ff = config.size("intermediate_size", 3072)
    config.check_heads(width, n_heads)
    labels = config.labels(classifies)
    sizes = {
        "embd": width,
        "ff": n_ff,
        "tokens": config.size("vocab_size", n_tokens),
        "types": config.size("type_vocab_size", 2),
        "positions": config.size("max_position_embeddings", 512),
        "labels": len(labels),
    }
    if position_offset >= sizes["positions"]:
        raise config.error(
            f"pad_token_id {position_offset - 1} leaves none of the {sizes['positions']} positions "
            "to the text"
        )
    positions = range(position_offset, sizes["positions"])
    return Network(
        architecture="bert",
        n_layers=n_layers,
        n_tokens=sizes["tokens"],
        context_length=len(positions),
        n_token_types=sizes["types"],
        metadata={
            "embedding_length": width,
            "feed_forward_length": n_ff,
            "attention.head_count": n_heads,
            "attention.layer_norm_epsilon": config.number("layer_norm_eps", 1e-12, below=1),
            "attention.causal": False,
            "classifier.output_labels": labels,
        },
        modules={**_MODULES, **(classifier if classifies else {})},
        sizes=sizes,
        prefixes=("bert.", "roberta."),
        unused=_UNUSED if classifies else (*_UNUSED, "classifier."),
        rows={"positions": positions},
    )
