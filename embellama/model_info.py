# SPDX-License-Identifier: Apache-2.0
"""What a GGUF file says about its model, without loading the weights."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from embellama import catalog
from embellama.config import PoolingStrategy
from embellama.gguf.check import check_model
from embellama.gguf.dense_modules import DenseModule, read_dense_modules
from embellama.gguf.header import CONVERTED_BY, GGUFHeader
from embellama.gguf.hyper_parameters import NEVER_CAUSAL
from embellama.gguf.reader import read_header

__all__ = ["ModelInfo", "model_info"]

# llama_pooling_type, llama.h; 0 is NONE, which a file writes for "not stated".
_FILE_POOLING = {
    1: PoolingStrategy.MEAN,
    2: PoolingStrategy.CLS,
    3: PoolingStrategy.LAST,
    4: PoolingStrategy.RANK,
}
# LLAMA_TOKEN_TYPE_CONTROL and LLAMA_TOKEN_TYPE_USER_DEFINED, llama.h
_SPECIAL_TYPES = (3, 4)
# LLM_TENSOR_CLS and LLM_TENSOR_CLS_OUT, llama-arch.cpp
_PROMPT_KEY = "embellama.prompt."  # then the prompt's name
_CLASSIFIER_TENSORS = {"cls.weight", "cls.output.weight"}


class ModelInfo:
    """What a GGUF file says about its model.

    Parameters
    ----------
    header : GGUFHeader
        As :func:`embellama.gguf.reader.read_header` returns it.

    Raises
    ------
    ModelLoadError
        If llama.cpp must not load the file, or it holds no model for texts.

    Examples
    --------
    >>> import embellama
    >>> info = embellama.model_info("all-MiniLM-L6-v2")
    >>> info.architecture, info.context_length, info.pooling, info.file_type
    ('bert', 512, <PoolingStrategy.MEAN: 'mean'>, 'F16')
    """

    def __init__(self, header: GGUFHeader) -> None:
        self.header = header
        self.hyper_parameters = check_model(header)
        limit = header.typed("embellama.max_seq_length", "u32")
        if limit is not None and not 1 <= limit <= self.context_length:
            raise header.error(
                f"'embellama.max_seq_length' is {limit}, not from 1 to {self.context_length}"
            )
        self._max_seq_length: int | None = limit
        self._prompts = {
            key.removeprefix(_PROMPT_KEY): header.typed(key, "str")
            for key in header.metadata
            if key.startswith(_PROMPT_KEY)
        }

    def __repr__(self) -> str:
        return f"<ModelInfo {str(self.path)!r}: {self.architecture} {self.file_type}>"

    @property
    def path(self) -> Path:
        """The GGUF file."""
        return self.header.path

    @property
    def metadata(self) -> Mapping[str, Any]:
        """All key-values of the file."""
        return self.header.metadata

    @property
    def architecture(self) -> str:
        """What llama.cpp calls the kind of network, such as ``"bert"``."""
        return self.header.architecture

    @property
    def name(self) -> str:
        """What the file calls the model; may be empty."""
        return str(self.metadata.get("general.name", ""))

    @property
    def file_size(self) -> int:
        """Bytes on disk."""
        return self.header.file_size

    @property
    def file_identity(self) -> tuple[int, ...]:
        """Device, inode, size and time of change of the file that was read."""
        return self.header.identity

    @property
    def n_parameters(self) -> int:
        """Number of weights."""
        return self.header.n_parameters

    @property
    def tensor_types(self) -> Mapping[str, int]:
        """How many tensors have which type."""
        return Counter(tensor.type for tensor in self.header.tensors.values())

    @property
    def file_type(self) -> str:
        """The type that most of the weights have, such as ``"Q8_0"``."""
        weights: Counter[str] = Counter()
        for tensor in self.header.tensors.values():
            weights[tensor.type] += tensor.n_elements
        return weights.most_common(1)[0][0]

    @property
    def embedding_length(self) -> int:
        """Length of a token's vector inside the model."""
        return self.hyper_parameters.embedding_length

    @property
    def dense_modules(self) -> tuple[DenseModule, ...]:
        """What is computed after the pooling, in order; empty for most models."""
        return read_dense_modules(self.header, self.embedding_length)

    @property
    def embedding_dimensions(self) -> int:
        """Length of a text's vector."""
        modules = self.dense_modules
        return modules[-1].n_out if modules else self.embedding_length

    @property
    def context_length(self) -> int:
        """The longest text the model was trained for, in tokens."""
        return self.hyper_parameters.context_length

    @property
    def max_seq_length(self) -> int:
        """At how many tokens ``truncate=True`` cuts a text, special ones included.

        What the model's authors cut at, if the file says so; else `context_length`.
        """
        return self._max_seq_length or self.context_length

    @property
    def prompts(self) -> Mapping[str, str]:
        """What stands before a text, by the name of the purpose, such as ``"query"``."""
        return self._prompts

    @property
    def n_layers(self) -> int:
        """Number of transformer layers."""
        return self.hyper_parameters.n_layers

    @property
    def vocabulary_size(self) -> int:
        """Number of tokens."""
        return len(self.metadata.get("tokenizer.ggml.tokens", ()))

    @property
    def special_tokens(self) -> list[str]:
        """The tokens that stand for something else than text, as the file spells them."""
        types = self.metadata.get("tokenizer.ggml.token_type", ())
        tokens = self.metadata["tokenizer.ggml.tokens"]
        return [tokens[int(i)] for i in np.flatnonzero(np.isin(types, _SPECIAL_TYPES))]

    @property
    def is_causal(self) -> bool:
        """Whether a token sees only those before it."""
        return self.hyper_parameters.is_causal

    @property
    def doubts(self) -> list[str]:
        """Reasons why vectors may be wrong that can't be seen in the file."""
        if CONVERTED_BY in self.metadata:
            return []
        if self.architecture == "neo-bert":
            return [
                "llama.cpp's converter mixes up queries, keys and values of NeoBERT, and a file "
                "does not show it: convert the checkpoint with `embellama convert`"
            ]
        if self.architecture == "nomic-bert-moe":
            return [
                "llama.cpp's converter leaves out the biases of the experts, which llama.cpp can't "
                "add: for a few tokens another expert is chosen"
            ]
        return []

    @property
    def pooling_is_guessed(self) -> bool:
        """Whether neither the file nor its architecture says how the model pools."""
        return (
            self.hyper_parameters.pooling_type == 0
            and not self.has_classification_head
            and self.architecture not in NEVER_CAUSAL
        )

    @property
    def pooling(self) -> PoolingStrategy:
        """What the file says.

        If it says nothing: RANK if it has a classification head, else LAST for a causal model,
        else MEAN.
        """
        kind = self.hyper_parameters.pooling_type
        if kind in _FILE_POOLING:
            return _FILE_POOLING[kind]
        if self.has_classification_head:
            return PoolingStrategy.RANK
        return PoolingStrategy.LAST if self.is_causal else PoolingStrategy.MEAN

    @property
    def has_classification_head(self) -> bool:
        """Whether the model can rank."""
        return not _CLASSIFIER_TENSORS.isdisjoint(self.header.tensors)

    @property
    def n_scores(self) -> int:
        """Outputs of the classification head; at least 1."""
        return max(1, self.hyper_parameters.n_labels)


def model_info(model: str | os.PathLike[str]) -> ModelInfo:
    """Read what a model's file says, without loading the weights.

    Parameters
    ----------
    model : str or os.PathLike
        What :class:`embellama.ModelConfig` takes as `model_path`.

    Returns
    -------
    ModelInfo

    Raises
    ------
    ModelNotFoundError
        If there is no such file or name.
    ModelLoadError
        If the file is not a usable model.

    Examples
    --------
    >>> import embellama
    >>> embellama.model_info("all-MiniLM-L6-v2").vocabulary_size
    30522
    """
    return ModelInfo(read_header(catalog.resolve(model)))
