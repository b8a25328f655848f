# SPDX-License-Identifier: Apache-2.0
"""Which family a checkpoint is of, by its config.json."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from pathlib import Path

from embellama.convert.config_json import Config
from embellama.convert.families.bert import read_bert, read_roberta
from embellama.convert.families.distilbert import read_distilbert
from embellama.convert.families.gemma3 import read_gemma3
from embellama.convert.families.jina_bert_v2 import read_jina_bert_v2
from embellama.convert.families.llama import (
    read_eurobert,
    read_llama,
    read_llama_bidirectional,
    read_mistral,
    read_qwen3,
    read_qwen3_reranker,
)
from embellama.convert.families.modern_bert import read_modern_bert
from embellama.convert.families.neo_bert import read_neo_bert
from embellama.convert.families.nomic_bert import read_nomic_bert
from embellama.convert.families.t5 import read_t5_encoder
from embellama.convert.families.xlm_roberta_flash import read_xlm_roberta_flash
from embellama.convert.network import Network

# The name of a class is that of its body and that of its head.
_BODIES: dict[str, Callable[[Config, str], Network]] = {
    "Bert": read_bert,
    "Camembert": read_roberta,
    "DistilBert": read_distilbert,
    "EuroBert": read_eurobert,
    "Gemma3Text": read_gemma3,
    "JinaBert": lambda config, head: read_jina_bert_v2(config, head, up_gated=False),
    "Llama": read_llama,
    "LlamaBidirectional": read_llama_bidirectional,
    "Mistral": read_mistral,
    "ModernBert": read_modern_bert,
    "NeoBERT": read_neo_bert,
    "NomicBert": read_nomic_bert,
    "Qwen3": read_qwen3,
    "Roberta": read_roberta,
    "T5Encoder": read_t5_encoder,
    "XLMRoberta": read_roberta,
}
# Heads that the body can do without, and the one that llama.cpp computes.
_HEADS = frozenset(
    {
        *("", "Model", "ForMaskedLM", "ForPreTraining", "ForSequenceClassification"),
        *("ForNextSentencePrediction", "ForQuestionAnswering", "ForTokenClassification"),
        "LMHead",
    }
)
_DECODERS = frozenset({"Llama", "LlamaBidirectional", "Mistral", "Qwen3"})
_DECODER_HEADS = frozenset({"Model", "ForCausalLM", "ForSequenceClassification"})
# Those that become embellama.gguf.architectures.OVERFLOWING_IN_FLOAT16.
_OVERFLOWING = frozenset({"Gemma3Text", "T5Encoder"})
# Bodies that are asked for, for which llama.cpp has no graph.
_NO_GRAPH = frozenset({"Deberta", "DebertaV2", "MPNet", "New"})


def _class_name(config: Config) -> tuple[str, str]:
    """Return the names of the body and of the head."""
    names = config.values.get("architectures")
    if not isinstance(names, list) or not names or not isinstance(names[0], str):
        raise config.error(
            "no architectures: add the name of the model's class, such as "
            '"architectures": ["BertModel"]'
        )
    match = re.match(r"(.*?)(Model|LMHead|LMHeadModel|For.*|)$", names[0])
    body, head = match.groups() if match else (names[0], "")
    if body in _NO_GRAPH:
        raise config.error(
            f"llama.cpp has no graph for {names[0]}, so no converter can make a GGUF of it. Models "
            "of BERT, XLM-RoBERTa and the other families that embellama converts do run"
        )
    if body not in _BODIES or head not in (_DECODER_HEADS if body in _DECODERS else _HEADS):
        raise config.error(
            f"the architecture {names[0]} is not supported, only {', '.join(_BODIES)} with the "
            "usual heads; try llama.cpp's convert_hf_to_gguf.py and give embellama the GGUF it "
            "writes"
        )
    return body, head


def require_family(checkpoint: Path, file_type: str | None) -> None:
    """Raise ModelLoadError unless config.json names a class that can become a `file_type`.

    The weights need not be there.
    """
    check_file_type(Config(checkpoint / "config.json"), file_type)


def overflows_in_float16(config: Config) -> bool:
    """Whether results inside the network may be too large for float16."""
    return _class_name(config)[0] in _OVERFLOWING


def check_file_type(config: Config, file_type: str | None) -> None:
    """Raise ModelLoadError if vectors would be NaN in a file of a type; None for the default."""
    if overflows_in_float16(config) and file_type == "F16":
        raise config.error(
            "results inside this network can be too large for float16, and vectors would be NaN; "
            "use the type BF16, F32 or Q8_0 instead of F16"
        )


def read_network(
    config: Config, stored: Collection[str], score_tokens: tuple[int, int] | None
) -> Network:
    """Read a config.json, or raise ModelLoadError if llama.cpp can't run what it describes.

    Parameters
    ----------
    config : Config
    stored : collection of str
        The names of the checkpoint's tensors.
    score_tokens : tuple of int, or None
        The ids of the tokens that say "yes" and "no", if the checkpoint is a reranker that does.

    Returns
    -------
    Network
    """
    body, head = _class_name(config)
    if score_tokens is not None:
        if body != "Qwen3" or head != "ForCausalLM":
            raise config.error(
                "a reranker that answers with a token; llama.cpp has that for Qwen3ForCausalLM only"
            )
        tied = "lm_head.weight" not in stored
        return read_qwen3_reranker(config, head, score_tokens=score_tokens, tied=tied)
    # Two families bear the names of others, and show by their modules what they are.
    if body == "XLMRoberta" and any(".mixer.Wqkv." in name for name in stored):
        return read_xlm_roberta_flash(config, head)
    if body in ("Bert", "JinaBert") and any(".mlp.up_gated_layer." in name for name in stored):
        return read_jina_bert_v2(config, head, up_gated=True)
    if body == "Bert" and any(".mlp.gated_layers." in name for name in stored):
        return read_jina_bert_v2(config, head, up_gated=False)
    return _BODIES[body](config, head)
