# SPDX-License-Identifier: Apache-2.0
"""Llama, and what names its modules like it: Mistral, Qwen3, EuroBERT."""

from __future__ import annotations

import dataclasses

from embellama.convert.config_json import Config
from embellama.convert.network import Network, Value, linear, norm, table
from embellama.convert.rope import read_rope

_MODULES = {
    "embed_tokens": table("token_embd", "tokens"),
    "layers.{}.input_layernorm": norm("blk.{}.attn_norm", bias=False),
    "layers.{}.self_attn.q_proj": linear("blk.{}.attn_q", out="q", bias=False),
    "layers.{}.self_attn.k_proj": linear("blk.{}.attn_k", out="kv", bias=False),
    "layers.{}.self_attn.v_proj": linear("blk.{}.attn_v", out="kv", bias=False),
    "layers.{}.self_attn.o_proj": linear("blk.{}.attn_output", into="q", bias=False),
    "layers.{}.post_attention_layernorm": norm("blk.{}.ffn_norm", bias=False),
    "layers.{}.mlp.gate_proj": linear("blk.{}.ffn_gate", out="ff", bias=False),
    "layers.{}.mlp.up_proj": linear("blk.{}.ffn_up", out="ff", bias=False),
    "layers.{}.mlp.down_proj": linear("blk.{}.ffn_down", into="ff", bias=False),
    "norm": norm("output_norm", bias=False),
}
_QWEN3 = {
    "layers.{}.self_attn.q_norm": norm("blk.{}.attn_q_norm", "head", bias=False),
    "layers.{}.self_attn.k_norm": norm("blk.{}.attn_k_norm", "head", bias=False),
}
_POOLINGS = {"avg": 1, "cls": 2, "last": 3}  # enum llama_pooling_type, llama.h
# llama.cpp rotates neighbours in a head, the checkpoint the halves of the head.
_NEIGHBOURS = {
    "layers.{}.self_attn.q_proj": linear(
        "blk.{}.attn_q", out="q", bias=False, rows="neighbours of q"
    ),
    "layers.{}.self_attn.k_proj": linear(
        "blk.{}.attn_k", out="kv", bias=False, rows="neighbours of k"
    ),
}


def _read(
    config: Config,
    head: str,
    *,
    architecture: str,
    rope_base: float,
    causal: bool = True,
    longest: int | None = None,
) -> Network:
    if head == "ForSequenceClassification":
        raise config.error("a classification head of this architecture, which is not supported")
    config.refuse_unless("hidden_act", "silu", ("silu",))
    for name in ("attention_bias", "mlp_bias", "use_sliding_window"):
        config.refuse_unless(name, False, (False, None))
    n_layers = config.n_layers("num_hidden_layers", 32)
    n_heads = config.size("num_attention_heads", 32)
    n_kv_heads = config.size("num_key_value_heads", n_heads)
    width = config.size("hidden_size", 4096)
    if config.values.get("head_dim") is None:
        config.check_heads(width, n_heads)
    n_head = config.size("head_dim", max(1, width // n_heads))
    if n_heads % n_kv_heads or n_head % 2:
        raise config.error(
            f"{n_heads} heads of {n_head} dimensions can't share {n_kv_heads} key-value heads"
        )
    sizes = {
        "embd": width,
        "head": n_head,
        "q": n_heads * n_head,
        "kv": n_kv_heads * n_head,
        "ff": config.size("intermediate_size", 11008),
        "tokens": config.size("vocab_size", 32000),
    }
    if max(sizes["q"], sizes["kv"]) > 2**20:
        raise config.error(f"{n_heads} heads of {n_head} dimensions are too many")

    def neighbours(n_rows: int) -> list[int]:
        half = n_head // 2
        return [
            first + i + half * part
            for first in range(0, n_rows, n_head)
            for i in range(half)
            for part in range(2)
        ]

    context = config.size("max_position_embeddings", 2048)
    is_llama = architecture.startswith("llama")
    rope = read_rope(config, base=rope_base, n_rotated=n_head, has_divisors=is_llama)
    modules, rows = dict(_MODULES), {}
    # Keys without which llama.cpp computes the same; its converter writes them.
    more: dict[str, Value] = {}
    if architecture == "qwen3":
        modules |= _QWEN3
    elif is_llama:
        modules |= _NEIGHBOURS
        more = {"rope.dimension_count": n_head, "vocab_size": sizes["tokens"]}
        rows = {
            "neighbours of q": neighbours(sizes["q"]),
            "neighbours of k": neighbours(sizes["kv"]),
        }
    return Network(
        architecture=architecture,
        n_layers=n_layers,
        n_tokens=sizes["tokens"],
        context_length=min(context, longest or context),
        n_token_types=None,
        metadata={
            "embedding_length": width,
            "feed_forward_length": sizes["ff"],
            "attention.head_count": n_heads,
            "attention.head_count_kv": n_kv_heads,
            "attention.key_length": n_head,
            "attention.value_length": n_head,
            "attention.layer_norm_rms_epsilon": config.number("rms_norm_eps", 1e-6, below=1),
            "attention.causal": causal,
            **rope.metadata,
            **more,
        },
        modules=modules,
        sizes=sizes,
        prefixes=("model.",),
        unused=("lm_head.",),
        rows=rows,
        constants={"rope_freqs.weight": rope.divisors} if rope.divisors else {},
    )


def read_llama(config: Config, head: str) -> Network:
    """Read the config.json of a Llama."""
    return _read(config, head, architecture="llama", rope_base=10000.0)


def read_llama_bidirectional(config: Config, head: str) -> Network:
    """Read the config.json of a Llama without causal mask (llama-nemotron)."""
    config.refuse_unless("pooling", "avg", _POOLINGS)
    network = _read(config, head, architecture="llama-embed", rope_base=10000.0, causal=False)
    pooling = _POOLINGS[config.values.get("pooling", "avg")]
    return dataclasses.replace(network, metadata={**network.metadata, "pooling_type": pooling})


def read_mistral(config: Config, head: str) -> Network:
    """Read the config.json of a Mistral; llama.cpp has its window for no layer of it."""
    window = config.values.get("sliding_window")
    longest = None if window is None else config.size("sliding_window", 4096)
    return _read(config, head, architecture="llama", rope_base=10000.0, longest=longest)


def read_qwen3(config: Config, head: str) -> Network:
    """Read the config.json of a Qwen3."""
    return _read(config, head, architecture="qwen3", rope_base=10000.0)


# The model card's format, with its instruction for web search.
_RERANK_TEMPLATE = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and "
    'the Instruct provided. Note that the answer can only be "yes" or "no".<|im_end|>\n'
    "<|im_start|>user\n<Instruct>: Given a web search query, retrieve relevant passages that "
    "answer the query\n<Query>: {query}\n<Document>: {document}<|im_end|>\n"
    "<|im_start|>assistant\n<think>\n\n</think>\n\n"
)


def read_qwen3_reranker(
    config: Config, head: str, *, score_tokens: tuple[int, int], tied: bool
) -> Network:
    """Read the config.json of a Qwen3 that answers with one of two tokens.

    llama.cpp compares their logits: the head is their two rows of the output matrix, which is
    `tied` to the table of token embeddings or stored beside it.
    """
    network = read_qwen3(config, head)
    if not all(0 <= index < network.n_tokens for index in score_tokens):
        raise config.error(f"no tokens {score_tokens}, which the checkpoint's score is made of")
    answer = linear("cls.output", out="tokens", bias=False, rows="yes, no")
    return dataclasses.replace(
        network,
        metadata={
            **network.metadata,
            "pooling_type": 4,  # RANK of enum llama_pooling_type, llama.h
            "classifier.output_labels": ("yes", "no"),
        },
        modules=network.modules if tied else {**network.modules, "lm_head": answer},
        second_uses={"embed_tokens": answer} if tied else {},
        rows={"yes, no": score_tokens},
        rerank_template=_RERANK_TEMPLATE,
    )


def read_eurobert(config: Config, head: str) -> Network:
    """Read the config.json of a EuroBERT."""
    return _read(config, head, architecture="eurobert", rope_base=250000.0, causal=False)
