# SPDX-License-Identifier: Apache-2.0
"""What a checkpoint's config.json says about the network."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from embellama.convert.json_file import read_json_object
from embellama.errors import ModelLoadError
from embellama.gguf.architectures import MAX_LAYERS

# Each name belongs to one family; a family decides tensor names and defaults.
_FAMILIES = {
    "BertModel": "bert",
    "BertForMaskedLM": "bert",
    "BertForSequenceClassification": "bert",
    "XLMRobertaModel": "roberta",
    "XLMRobertaForSequenceClassification": "roberta",
    "RobertaModel": "roberta",
    "RobertaForSequenceClassification": "roberta",
    "DistilBertModel": "distilbert",
    "DistilBertForMaskedLM": "distilbert",
}

# The exact erf form of GELU and its approximations, as transformers' ACT2FN names them. llama.cpp
# computes one GELU for all BERT models (src/models/bert.cpp). quick_gelu and gelu_10 are other
# functions.
_GELU = frozenset(
    {
        "gelu",
        "gelu_accurate",
        "gelu_fast",
        "gelu_new",
        "gelu_python",
        "gelu_python_tanh",
        "gelu_pytorch_tanh",
    }
)

_MAX_LABELS = 2**16  # each gets a name in the GGUF


@dataclasses.dataclass(frozen=True)
class Architecture:
    """The shape of an encoder.

    Attributes
    ----------
    family : str
        ``"bert"``, ``"roberta"`` or ``"distilbert"``.
    classifies : bool
        Whether the checkpoint ends in a sequence classification head.
    n_layers, n_embd, n_heads, n_ff : int
        Layers; width of a token's vector; attention heads; width of the feed-forward layer.
    n_position_rows : int
        Rows of the checkpoint's table of position embeddings.
    position_offset : int
        The first of those rows that a token can use. RoBERTa counts positions from the id of the
        padding token + 1.
    n_tokens : int
        Rows of the table of token embeddings.
    n_token_types : int
        Rows of the table of token type embeddings.
    norm_epsilon : float
        Epsilon of the layer norms.
    labels : tuple of str
        The names of the head's classes; empty if they need not be written.
    """

    family: str
    classifies: bool
    n_layers: int
    n_embd: int
    n_heads: int
    n_ff: int
    n_position_rows: int
    position_offset: int
    n_tokens: int
    n_token_types: int
    norm_epsilon: float
    labels: tuple[str, ...]


class _Config:
    """config.json with checked access."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.values = read_json_object(path)

    def error(self, message: str) -> ModelLoadError:
        return ModelLoadError(f"{self.path}: {message}")

    def size(self, name: str, default: int) -> int:
        value = self.values.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 2**31:
            raise self.error(f"{name} must be a positive integer, not {value!r}")
        return value

    def refuse_unless(self, name: str, default: Any, accepted: Iterable[Any], why: str) -> None:
        value = self.values.get(name, default)
        if not any(value == possible for possible in accepted):
            raise self.error(f"{name} is {value!r}, {why}; this checkpoint can't become a GGUF")


def _architecture_name(config: _Config) -> str:
    names = config.values.get("architectures")
    if not isinstance(names, list) or not names or not isinstance(names[0], str):
        raise config.error(
            "no architectures: add the name of the model's class, such as "
            '"architectures": ["BertModel"]'
        )
    name: str = names[0]
    if name == "DistilBertForSequenceClassification":
        raise config.error(
            "the head of DistilBertForSequenceClassification uses ReLU, which llama.cpp can't "
            "compute; convert a DistilBertModel, or a reranker of another architecture"
        )
    if name not in _FAMILIES:
        raise config.error(
            f"the architecture {name} is not supported, only {', '.join(_FAMILIES)}; try "
            "llama.cpp's convert_hf_to_gguf.py and give embellama the GGUF it writes"
        )
    return name


def _position_offset(config: _Config, family: str) -> int:
    if family != "roberta":
        return 0
    padding = config.values.get("pad_token_id", 1)
    if padding is None:
        return 0
    if isinstance(padding, bool) or not isinstance(padding, int) or padding < 0:
        raise config.error(f"pad_token_id must be a token's id, not {padding!r}")
    return padding + 1


def _labels(config: _Config, classifies: bool) -> tuple[str, ...]:
    id2label = config.values.get("id2label")
    if not id2label:
        # transformers' default is two classes, called LABEL_0 and LABEL_1.
        number = config.size("num_labels", 2)
        if number > _MAX_LABELS:
            raise config.error(f"num_labels is {number}; at most {_MAX_LABELS} are supported")
        id2label = {str(index): f"LABEL_{index}" for index in range(number)}
    try:
        labels = {int(index): label for index, label in id2label.items()}
    except (AttributeError, ValueError):
        labels = {}
    if (
        not labels
        or sorted(labels) != list(range(len(labels)))
        or not all(isinstance(label, str) for label in labels.values())
    ):
        raise config.error(f"id2label must name the classes from 0 on, not {id2label!r}")
    names = tuple(labels[index] for index in range(len(labels)))
    # Without a head, two dummy labels are only transformers' default. With a head the labels must
    # be written: llama.cpp takes the number of classes from them (llama-model.cpp, n_cls_out).
    if not classifies and len(names) == 2 and names[0] == "LABEL_0":
        return ()
    return names


def read_architecture(checkpoint: Path) -> Architecture:
    """Read config.json, or raise ModelLoadError if llama.cpp can't run what it describes."""
    config = _Config(checkpoint / "config.json")
    name = _architecture_name(config)
    family = _FAMILIES[name]
    classifies = name.endswith("ForSequenceClassification")

    other = "which llama.cpp doesn't compute for this architecture"
    activation = "activation" if family == "distilbert" else "hidden_act"
    config.refuse_unless(activation, "gelu", _GELU, other)
    config.refuse_unless("position_embedding_type", "absolute", ("absolute", None), other)
    config.refuse_unless("is_decoder", False, (False, None), other)
    config.refuse_unless("add_cross_attention", False, (False, None), other)

    norm_epsilon = 1e-12  # DistilBERT has no setting for it (modeling_distilbert.py)
    if family == "distilbert":
        n_layers, n_heads = config.size("n_layers", 6), config.size("n_heads", 12)
        n_embd, n_ff = config.size("dim", 768), config.size("hidden_dim", 3072)
        n_token_types = 1
    else:
        n_layers = config.size("num_hidden_layers", 12)
        n_heads = config.size("num_attention_heads", 12)
        n_embd = config.size("hidden_size", 768)
        n_ff = config.size("intermediate_size", 3072)
        n_token_types = config.size("type_vocab_size", 2)
        norm_epsilon = config.values.get("layer_norm_eps", norm_epsilon)
        if (
            isinstance(norm_epsilon, bool)
            or not isinstance(norm_epsilon, (int, float))
            or not 0 <= norm_epsilon < 1
        ):
            raise config.error(
                f"layer_norm_eps must be a number from 0 to below 1, not {norm_epsilon!r}"
            )
    if n_layers > MAX_LAYERS:
        raise config.error(f"{n_layers} layers; llama.cpp runs at most {MAX_LAYERS}")
    if n_embd % n_heads:
        raise config.error(f"a width of {n_embd} can't be split among {n_heads} attention heads")

    n_position_rows = config.size("max_position_embeddings", 512)
    position_offset = _position_offset(config, family)
    if position_offset >= n_position_rows:
        raise config.error(
            f"pad_token_id {position_offset - 1} leaves none of the {n_position_rows} positions "
            "to the text"
        )
    return Architecture(
        family=family,
        classifies=classifies,
        n_layers=n_layers,
        n_embd=n_embd,
        n_heads=n_heads,
        n_ff=n_ff,
        n_position_rows=n_position_rows,
        position_offset=position_offset,
        n_tokens=config.size("vocab_size", 50265 if name.startswith("Roberta") else 30522),
        n_token_types=n_token_types,
        norm_epsilon=float(norm_epsilon),
        labels=_labels(config, classifies),
    )
