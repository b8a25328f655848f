# SPDX-License-Identifier: Apache-2.0
"""What a GGUF file and the catalog say about a model, without loading the weights."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from embellama import catalog
from embellama.catalog import CatalogEntry
from embellama.config import PoolingStrategy
from embellama.gguf.check import check_model
from embellama.gguf.dense_modules import DenseModule, read_dense_modules
from embellama.gguf.header import CONVERTED_BY, LAYER_NORM_BEFORE_CUT, GGUFHeader
from embellama.gguf.hyper_parameters import NEVER_CAUSAL
from embellama.gguf.reader import read_header
from embellama.gguf.tokenizers import ALWAYS_BOS, added_by_default

__all__ = ["POOLING_TYPES", "ModelInfo", "Prompt", "model_info", "prompt_before"]

# llama_pooling_type, llama.h; 0 is NONE, which a file writes for "not stated".
POOLING_TYPES = {
    1: PoolingStrategy.MEAN,
    2: PoolingStrategy.CLS,
    3: PoolingStrategy.LAST,
    4: PoolingStrategy.RANK,
}
# LLAMA_TOKEN_TYPE_CONTROL and LLAMA_TOKEN_TYPE_USER_DEFINED, llama.h
_SPECIAL_TYPES = (3, 4)
_RERANK_TEMPLATE = "tokenizer.chat_template.rerank"
# The key of a special token's id, and where the token is.
_SPECIAL_TOKENS = {
    "bos": ("tokenizer.ggml.bos_token_id", "BOS before a text"),
    "eos": ("tokenizer.ggml.eos_token_id", "EOS behind a text"),
    "sep": ("tokenizer.ggml.seperator_token_id", "SEP between a query and a document"),
}
# LLM_TENSOR_CLS and LLM_TENSOR_CLS_OUT, llama-arch.cpp
_CLASSIFIER_TENSORS = {"cls.weight", "cls.output.weight"}
_PROMPT_KEY = "embellama.prompt."  # then the prompt's name
# The names under which sentence-transformers looks for the prompts of its encode_query and
# encode_document.
_PROMPT_NAMES = {"query": ("query",), "document": ("document", "passage", "corpus")}


class Prompt(NamedTuple):
    """What stands before a text, and who says so.

    Attributes
    ----------
    text : str
        Empty if the model needs none.
    source : str
        ``"the file"``, or the catalog and where it has the prompt from; empty if nobody says.
    """

    text: str
    source: str


def prompt_before(
    kind: Literal["query", "document"],
    stated: Mapping[str, str],
    stated_by: str,
    entry: CatalogEntry | None,
) -> Prompt:
    """Return the catalog's prompt, else the stated one, else an empty one.

    Parameters
    ----------
    kind : {"query", "document"}
        What the text is.
    stated : Mapping[str, str]
        Prompts by the name of their purpose, as sentence-transformers has them.
    stated_by : str
        Who says so.
    entry : CatalogEntry or None
        The known model.
    """
    known = getattr(entry, f"{kind}_prompt", "")
    if entry is not None and known:
        return Prompt(known, f"the catalog, from {entry.prompts_from}")
    names = [name for name in _PROMPT_NAMES[kind] if name in stated]
    text = next(filter(None, map(stated.get, names)), "")
    return Prompt(text, stated_by if names else "")


class ModelInfo:
    """What a GGUF file says about its model, and the catalog about a known one.

    Parameters
    ----------
    header : GGUFHeader
        As :func:`embellama.gguf.reader.read_header` returns it.
    entry : CatalogEntry, optional
        The known model that it is.

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

    def __init__(self, header: GGUFHeader, entry: CatalogEntry | None = None) -> None:
        self.header = header
        self.entry = entry
        self.hyper_parameters = check_model(header)
        limit = header.typed("embellama.max_seq_length", "u32")
        if limit is not None and not 1 <= limit <= self.context_length:
            raise header.error(
                f"'embellama.max_seq_length' is {limit}, not from 1 to {self.context_length}"
            )
        self._max_seq_length: int | None = limit
        self._layer_norm_before_cut = bool(header.typed(LAYER_NORM_BEFORE_CUT, "bool"))
        self._prompts = {
            key.removeprefix(_PROMPT_KEY): header.typed(key, "str")
            for key in header.metadata
            if key.startswith(_PROMPT_KEY)
        }

    def __repr__(self) -> str:
        parts = [
            f"{self.architecture} {self.file_type}",
            f"{self.n_parameters / 1e6:.3g} million parameters",
            f"{self.embedding_length} dimensions",
            f"{self.context_length} tokens",
            f"{self.pooling.value} pooling",
        ]
        return f"<ModelInfo {str(self.path)!r}: {', '.join(parts)}>"

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
        """What the file puts before a text, by the name of the purpose, such as ``"query"``."""
        return self._prompts

    @property
    def query_prompt(self) -> Prompt:
        """What `embed_query` puts before a text unless it is configured."""
        return prompt_before("query", self.prompts, "the file", self.entry)

    @property
    def document_prompt(self) -> Prompt:
        """What `embed_documents` puts before a text unless it is configured."""
        return prompt_before("document", self.prompts, "the file", self.entry)

    @property
    def matryoshka(self) -> tuple[int, ...]:
        """Lengths that vectors may be cut to, as the catalog says; empty if it names none."""
        return self.entry.matryoshka if self.entry else ()

    @property
    def layer_norm_before_cut(self) -> bool:
        """Whether ``truncate_dim`` applies a layer norm to a vector before it is cut."""
        return self._layer_norm_before_cut or (
            self.entry is not None and self.entry.layer_norm_before_cut
        )

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

    def doubts(self, pooling: PoolingStrategy) -> list[str]:
        """Return reasons why vectors may be wrong that can't be seen in the file.

        Parameters
        ----------
        pooling : PoolingStrategy
            How the model is used.

        Returns
        -------
        list of str

        Examples
        --------
        >>> import embellama
        >>> info = embellama.model_info("all-MiniLM-L6-v2")
        >>> info.doubts(info.pooling)
        []
        """
        return [*self._doubts_of_the_converter(), *self._doubts_of_special_tokens(pooling)]

    def _doubts_of_the_converter(self) -> list[str]:
        if self.architecture == "neo-bert" and CONVERTED_BY not in self.metadata:
            return [
                "llama.cpp's converter mixes up queries, keys and values of NeoBERT, and a file "
                "does not show it: convert the checkpoint with `embellama convert`"
            ]
        if self.architecture == "nomic-bert-moe" and not any(
            name.removesuffix("_exps.weight") + ".bias" in self.header.tensors
            for name in self.header.tensors
            if name.endswith(".ffn_down_exps.weight")
        ):
            return [
                "llama.cpp's converter leaves out the bias of the experts, so that another expert "
                "is chosen for a few tokens: convert the checkpoint with `embellama convert`"
            ]
        if self.architecture == "gemma-embedding" and not self.dense_modules:
            return [
                "llama.cpp's converter leaves out EmbeddingGemma's dense modules unless it is told "
                "otherwise, and vectors without them are other ones: convert the checkpoint with "
                "`embellama convert`"
            ]
        return []

    def _doubts_of_special_tokens(self, pooling: PoolingStrategy) -> list[str]:
        metadata = self.metadata
        pre = metadata.get("tokenizer.ggml.pre", "")
        settled = {
            "bos": pre in ALWAYS_BOS,
            # embellama appends it anyway.
            "eos": pooling is PoolingStrategy.LAST,
            # Only pairs have it, and a template has its own.
            "sep": pooling is not PoolingStrategy.RANK or _RERANK_TEMPLATE in metadata,
        }
        doubts = []
        for name, added in added_by_default(metadata["tokenizer.ggml.model"], pre).items():
            key, (id_key, place) = f"tokenizer.ggml.add_{name}_token", _SPECIAL_TOKENS[name]
            if key not in metadata and not settled[name] and (added or id_key in metadata):
                doubts.append(
                    f"the file has no key {key!r}: llama.cpp's default for its kind of tokenizer "
                    f"is taken, {'a' if added else 'no'} {place}. If the model was trained "
                    "otherwise, convert its checkpoint with `embellama convert`"
                )
        return doubts

    @property
    def pooling_source(self) -> str:
        """Who says how the model pools.

        ``"the file"``, ``"its classification head"``, ``"the catalog"``, ``"its architecture"``, or
        ``"a guess"``.
        """
        if self.hyper_parameters.pooling_type in POOLING_TYPES:
            return "the file"
        if self.has_classification_head:
            return "its classification head"
        if self.entry is not None:
            return "the catalog"
        return "its architecture" if self.architecture in NEVER_CAUSAL else "a guess"

    @property
    def pooling(self) -> PoolingStrategy:
        """What the file says.

        If it says nothing: RANK if it has a classification head, else what the catalog says of a
        known model, else LAST for a causal model, else MEAN.
        """
        kind = self.hyper_parameters.pooling_type
        if kind in POOLING_TYPES:
            return POOLING_TYPES[kind]
        if self.has_classification_head:
            return PoolingStrategy.RANK
        if self.entry is not None:
            return PoolingStrategy(self.entry.pooling)
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
    """Read what is known about a model, without loading the weights.

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
    path = catalog.resolve(model)
    return ModelInfo(read_header(path), catalog.find(os.fspath(model)) or catalog.find(str(path)))
