# SPDX-License-Identifier: Apache-2.0
"""Which tensor of a checkpoint becomes which tensor of a GGUF file."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from embellama.convert.architecture import Architecture
from embellama.convert.weights import StoredTensor
from embellama.errors import ModelLoadError

# Module of the checkpoint -> tensor of the GGUF, as gguf-py's tensor_mapping.py has them.
_BERT_LAYER = {
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
}
_DISTILBERT_LAYER = {
    "attention.q_lin": "attn_q",
    "attention.k_lin": "attn_k",
    "attention.v_lin": "attn_v",
    "attention.out_lin": "attn_output",
    "sa_layer_norm": "attn_output_norm",
    "ffn.lin1": "ffn_up",
    "ffn.lin2": "ffn_down",
    "output_layer_norm": "layer_output_norm",
}
# llama.cpp computes cls.output(tanh(cls(x))) (llm_graph_context::build_pooling): BERT's pooler and
# classifier. llama.cpp's converter drops the pooler, so the scores of its files differ from those
# of the checkpoint.
_HEADS = {
    "bert": ("pooler.dense", "classifier"),
    "roberta": ("classifier.dense", "classifier.out_proj"),
}

# Buffers, and heads for other tasks than embedding and classification.
_UNUSED = (
    "cls.predictions.",
    "cls.seq_relationship.",
    "embeddings.position_ids",
    "embeddings.token_type_ids",
    "lm_head.",
    "pooler.",
    "vocab_",
)
_UNUSED_UNLESS_CLASSIFYING = ("classifier.", "pre_classifier.")

_ALWAYS_F32 = ("position_embd.weight", "token_types.weight")


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A tensor of the GGUF file.

    Attributes
    ----------
    name : str
        Its name in the GGUF file.
    source : StoredTensor
        The tensor of the checkpoint.
    first_row : int
        The first row of `source` to take.
    """

    name: str
    source: StoredTensor
    first_row: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Outermost dimension first."""
        first, *others = self.source.shape
        return (first - self.first_row, *others)

    def file_type(self, wanted: str) -> str:
        """Return the type of the stored tensor in a file whose weights have the type `wanted`."""
        return "F32" if len(self.shape) == 1 or self.name in _ALWAYS_F32 else wanted

    def read(self) -> npt.NDArray[np.floating[Any]]:
        """Return the values."""
        return self.source.read()[self.first_row :]


def _expected(architecture: Architecture) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    """Yield the checkpoint's name, the GGUF's name and the shape of each tensor."""
    n_embd, n_ff = architecture.n_embd, architecture.n_ff

    def linear(
        source: str, name: str, n_out: int, n_in: int
    ) -> Iterator[tuple[str, str, tuple[int, ...]]]:
        yield f"{source}.weight", f"{name}.weight", (n_out, n_in)
        yield f"{source}.bias", f"{name}.bias", (n_out,)

    def norm(source: str, name: str) -> Iterator[tuple[str, str, tuple[int, ...]]]:
        yield f"{source}.weight", f"{name}.weight", (n_embd,)
        yield f"{source}.bias", f"{name}.bias", (n_embd,)

    tables = [
        ("word_embeddings", "token_embd", architecture.n_tokens),
        ("position_embeddings", "position_embd", architecture.n_position_rows),
    ]
    if architecture.family != "distilbert":
        tables.append(("token_type_embeddings", "token_types", architecture.n_token_types))
    for source, name, n_rows in tables:
        yield f"embeddings.{source}.weight", f"{name}.weight", (n_rows, n_embd)
    yield from norm("embeddings.LayerNorm", "token_embd_norm")

    distilbert = architecture.family == "distilbert"
    layers = "transformer.layer" if distilbert else "encoder.layer"
    for index in range(architecture.n_layers):
        modules = _DISTILBERT_LAYER if distilbert else _BERT_LAYER
        for source, name in modules.items():
            pair = f"{layers}.{index}.{source}", f"blk.{index}.{name}"
            if name.endswith("_norm"):
                yield from norm(*pair)
            else:
                yield from linear(
                    *pair,
                    n_ff if name == "ffn_up" else n_embd,
                    n_ff if name == "ffn_down" else n_embd,
                )

    if architecture.classifies:
        dense, output = _HEADS[architecture.family]
        yield from linear(dense, "cls", n_embd, n_embd)
        yield from linear(output, "cls.output", len(architecture.labels), n_embd)


def _module_name(name: str) -> str:
    """Return the name in the bare encoder, with the current names of the layer norms."""
    for prefix in ("bert.", "roberta.", "distilbert."):
        name = name.removeprefix(prefix)
    if name.endswith(".gamma"):
        return name.removesuffix("gamma") + "weight"
    if name.endswith(".beta"):
        return name.removesuffix("beta") + "bias"
    return name


def map_tensors(
    architecture: Architecture, checkpoint: Path, stored: dict[str, StoredTensor]
) -> list[Tensor]:
    """Return the tensors of the GGUF file, or raise ModelLoadError if the checkpoint lacks any."""
    expected = {source: (name, shape) for source, name, shape in _expected(architecture)}
    unused = _UNUSED if architecture.classifies else _UNUSED + _UNUSED_UNLESS_CLASSIFYING
    found: dict[str, Tensor] = {}
    for name, tensor in stored.items():
        module_name = _module_name(name)
        if module_name not in expected:
            if module_name.startswith(unused):
                continue
            raise ModelLoadError(
                f"{tensor.path}: llama.cpp has no place for the tensor {name}; the checkpoint is "
                "not of the architecture that its config.json names, or has more layers"
            )
        if module_name in found:
            raise ModelLoadError(
                f"{tensor.path}: {name} and {found[module_name].source.name} are the same tensor; "
                "remove one of them"
            )
        target, shape = expected[module_name]
        if tensor.shape != shape:
            raise ModelLoadError(
                f"{tensor.path}: {name} has the shape {tensor.shape}, but config.json asks for "
                f"{shape}; the files are of different checkpoints, download them again"
            )
        first_row = architecture.position_offset if target == "position_embd.weight" else 0
        found[module_name] = Tensor(target, tensor, first_row)
    missing = [source for source in expected if source not in found]
    if missing:
        raise ModelLoadError(
            f"{checkpoint}: {len(missing)} of the model's tensors are missing, the first is "
            f"{missing[0]}; download the checkpoint again, with all its files"
        )
    return list(found.values())
