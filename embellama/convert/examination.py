# SPDX-License-Identifier: Apache-2.0
"""Whether a checkpoint can be converted, as far as all files but those of the tokenizer say."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

from embellama.convert.architecture import check_file_type, read_network
from embellama.convert.config_json import Config
from embellama.convert.dense_modules import DenseModule, read_dense_modules
from embellama.convert.rerank_card import has_reranker_card
from embellama.convert.sentence_transformers import SentenceTransformers, read_sentence_transformers
from embellama.convert.tensors import map_tensors
from embellama.convert.weights import list_tensors

__all__ = ["ExaminedCheckpoint", "examine_checkpoint"]


@dataclasses.dataclass(frozen=True)
class ExaminedCheckpoint:
    """A checkpoint that can be converted, unless its tokenizer has what llama.cpp lacks.

    Attributes
    ----------
    architecture : str
        llama.cpp's name.
    embedding_length : int
        Length of a token's vector.
    dense : tuple of DenseModule
        What comes after the pooling.
    context_length : int
        The longest text in tokens.
    n_layers, n_parameters : int
    is_causal : bool
        Whether a token sees only those before it.
    ranks : bool
        Whether it gives scores.
    dtypes : tuple of str
        The types of the weights, as safetensors spells them.
    settings : SentenceTransformers
    """

    architecture: str
    embedding_length: int
    dense: tuple[DenseModule, ...]
    context_length: int
    n_layers: int
    n_parameters: int
    is_causal: bool
    ranks: bool
    dtypes: tuple[str, ...]
    settings: SentenceTransformers

    @property
    def embedding_dimensions(self) -> int:
        """Length of a text's vector."""
        return self.dense[-1].n_out if self.dense else self.embedding_length


def examine_checkpoint(checkpoint: Path, file_type: str | None) -> ExaminedCheckpoint:
    """Read a checkpoint without its tokenizer, and of its weights only the headers.

    Parameters
    ----------
    checkpoint : pathlib.Path
    file_type : str or None
        The type of the weights to convert to; None for the converter's choice.

    Raises
    ------
    ModelLoadError
        If it can't be converted.
    """
    settings = read_sentence_transformers(checkpoint)
    folder = settings.transformer
    config = Config(folder / "config.json")
    check_file_type(config, file_type)
    stored = list_tensors(folder)
    network = read_network(config, stored, settings.score_tokens)
    dense = read_dense_modules(settings.dense, network.sizes["embd"])
    tensors = map_tensors(network, folder, stored)
    tensors += [tensor for module in dense for tensor in module.tensors]
    return ExaminedCheckpoint(
        architecture=network.architecture,
        embedding_length=network.sizes["embd"],
        dense=tuple(dense),
        context_length=network.context_length,
        n_layers=network.n_layers,
        n_parameters=sum(math.prod(tensor.shape) for tensor in tensors),
        is_causal=bool(network.metadata.get("attention.causal", True)),
        ranks=any(tensor.name.startswith("cls.") for tensor in tensors)
        or settings.score_tokens is not None
        or has_reranker_card(checkpoint),
        dtypes=tuple(sorted({tensor.source.dtype for tensor in tensors})),
        settings=settings,
    )
