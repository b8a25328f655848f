# SPDX-License-Identifier: Apache-2.0
"""A model that can be loaded and unloaded: its file, its limits, its tokens."""

from __future__ import annotations

import dataclasses
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from embellama.config import ModelConfig, PoolingStrategy
from embellama.core import Model
from embellama.embedding.cache import CacheStats, ModelCache
from embellama.embedding.cached_embedder import CachedEmbedder
from embellama.embedding.call import Call
from embellama.embedding.embedder import Embedder
from embellama.embedding.texts import check_str
from embellama.errors import ConfigurationError, ModelLoadError
from embellama.files.identity import file_identity
from embellama.machine.forking import renew_after_fork
from embellama.model_info import ModelInfo, model_info

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["LoadableModel", "Loaded"]


@dataclasses.dataclass(frozen=True)
class Loaded:
    """What is there while a model is loaded.

    Attributes
    ----------
    embedder : Embedder
    text_embedder : Embedder or CachedEmbedder
        The same, or what looks into the model's cache before it.
    """

    embedder: Embedder
    text_embedder: Embedder | CachedEmbedder


class LoadableModel:
    """What :class:`embellama.EmbeddingModel` is apart from embedding.

    Parameters
    ----------
    config : ModelConfig, str or os.PathLike
        Settings, or just what :class:`ModelConfig` takes as `model_path`.
    """

    def __init__(self, config: ModelConfig | str | os.PathLike[str]) -> None:
        self._config = config if isinstance(config, ModelConfig) else ModelConfig(config)
        self._renew_after_fork()
        renew_after_fork(self)
        self._state: Loaded | None = None
        self._cache = ModelCache(self._config.cache) if self._config.cache else None
        self._read_info()
        self.load()

    def _renew_after_fork(self) -> None:
        self._lock = threading.RLock()

    def _read_info(self) -> None:
        self._info = model_info(self._config.model_path)
        self._pooling = self._config.pooling or self._info.pooling
        asked = self._config.n_ctx
        trained_for = self._info.context_length
        if asked is not None and asked > trained_for:
            raise ConfigurationError(
                f"{self.name}: n_ctx={asked}, but the model was trained for texts of at most "
                f"{trained_for} tokens: use n_ctx={trained_for} or less"
            )
        if self._pooling is PoolingStrategy.RANK and not self._info.has_classification_head:
            raise ConfigurationError(
                f"{self.name}: RANK pooling needs a classification head, and this file has none: "
                "use a reranker, or another pooling"
            )

    def load(self) -> None:
        """Load the weights, unless they are loaded.

        Raises
        ------
        ModelNotFoundError
            If the file is gone.
        ModelLoadError
            If the file is no usable model.
        ConfigurationError
            If the file has changed, and the settings do not fit it.
        ResourceLimitError
            If there is no memory for the weights.

        Examples
        --------
        >>> import embellama
        >>> model = embellama.EmbeddingModel("all-MiniLM-L6-v2")
        >>> model.unload()
        >>> model.load()
        >>> model.embed("a cat").shape
        (384,)
        """
        with self._lock:
            if self._state is not None:
                return
            if (
                not self.path.exists()
                or file_identity(self.path.stat()) != self._info.file_identity
            ):
                # Another file than the one that was checked: nothing known of it holds.
                self._read_info()
            embedder = Embedder(str(self.path), self._config, self._info, self._pooling)
            text_embedder: Embedder | CachedEmbedder = embedder
            if self._cache is not None:
                # All that changes a vector beside its text: a new setting is in it by itself.
                settings = dataclasses.replace(self._config, model_name=None, cache=None)
                identity = repr((self._info.file_identity, self._pooling, settings))
                text_embedder = CachedEmbedder(embedder, identity, self._cache)
            self._state = Loaded(embedder, text_embedder)
            # Kept for the properties of an unloaded model.
            self._dimensions = embedder.n_dims
            self._model_size = embedder.size
            vocabulary = embedder.vocabulary
            self._special_tokens = vocabulary.n_prefix + vocabulary.n_suffix

    def unload(self) -> None:
        """Free the weights and stop the threads; :meth:`load` brings them back.

        Waits for calls under way. Calling it twice is fine.

        Examples
        --------
        >>> import embellama
        >>> model = embellama.EmbeddingModel("all-MiniLM-L6-v2")
        >>> model.unload()
        >>> model.is_loaded, model.embedding_dimensions
        (False, 384)
        """
        with self._lock:
            state, self._state = self._state, None
        if state is not None:
            state.embedder.close()

    @property
    def is_loaded(self) -> bool:
        """Whether the weights are in memory."""
        return self._state is not None

    def __enter__(self) -> Self:
        self.load()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.unload()

    def __repr__(self) -> str:
        state = "" if self.is_loaded else ", unloaded"
        return f"<{type(self).__name__} {self.name!r}: {self.info.architecture}{state}>"

    def __reduce__(self) -> Any:
        raise TypeError("a model can't be pickled: pass its config and load it in each process")

    @property
    def config(self) -> ModelConfig:
        """The settings the model was made with."""
        return self._config

    @property
    def name(self) -> str:
        """What messages call the model: ``model_name``, or the file's name without suffix."""
        return self._config.name

    @property
    def path(self) -> Path:
        """The GGUF file."""
        return self._info.path

    @property
    def info(self) -> ModelInfo:
        """What the file says about the model."""
        return self._info

    @property
    def metadata(self) -> Mapping[str, Any]:
        """All key-values of the file."""
        return self._info.metadata

    @property
    def pooling(self) -> PoolingStrategy:
        """How token vectors become a text's vector."""
        return self._pooling

    @property
    def embedding_dimensions(self) -> int:
        """Length D of a vector."""
        return self._dimensions

    @property
    def max_sequence_length(self) -> int:
        """The longest text in tokens, special ones included."""
        return self._config.n_ctx or self._info.context_length

    @property
    def effective_max_tokens(self) -> int:
        """Tokens of a text's own that fit: the longest text less the special tokens around it."""
        return self.max_sequence_length - self._special_tokens

    @property
    def micro_batch_tokens(self) -> int:
        """The token budget of one micro-batch, as configured, derived or tuned."""
        return self._loaded().embedder.micro_batch_tokens

    @property
    def model_size(self) -> int:
        """Bytes of all tensors."""
        return self._model_size

    def tokenize(self, text: str) -> NDArray[np.int32]:
        """Turn a text into the token ids that :meth:`embed` computes with.

        Parameters
        ----------
        text : str
            Any text, also an empty one.

        Returns
        -------
        numpy.ndarray of int32, shape (T,)
            Special tokens included; not cut.

        Raises
        ------
        InvalidInputError
            If the text holds lone surrogates.
        TokenizationError
            If the tokenizer fails.
        ModelLoadError
            If the model is unloaded.
        TextTypeError
            If `text` is no str.

        Examples
        --------
        >>> import embellama
        >>> model = embellama.EmbeddingModel("all-MiniLM-L6-v2")
        >>> model.tokenize("Hello, world!")
        array([ 101, 7592, 1010, 2088,  999,  102], dtype=int32)
        """
        checked = check_str(text, self.name)
        loaded = self._loaded()
        tokenized = loaded.text_embedder.tokenize([checked], Call())
        return loaded.embedder.require_tokens(tokenized, [None]).ids

    def count_tokens(self, text: str) -> int:
        """Return the number of tokens of a text, special ones included.

        Parameters
        ----------
        text : str

        Returns
        -------
        int

        Raises
        ------
        InvalidInputError, TokenizationError, ModelLoadError, TextTypeError
            As :meth:`tokenize`.

        Examples
        --------
        >>> import embellama
        >>> embellama.EmbeddingModel("all-MiniLM-L6-v2").count_tokens("Hello, world!")
        6
        """
        return len(self.tokenize(text))

    def cache_stats(self) -> dict[str, CacheStats]:
        """Return how the model's caches have served.

        Returns
        -------
        dict of str to CacheStats
            ``"embeddings"`` and ``"tokens"``, those of them that the configuration turns on.

        Examples
        --------
        >>> import embellama
        >>> config = embellama.ModelConfig("all-MiniLM-L6-v2", cache=embellama.CacheConfig())
        >>> model = embellama.EmbeddingModel(config)
        >>> same = model.embed("a cat") == model.embed("a cat")
        >>> model.cache_stats()["embeddings"].hits
        1
        """
        return {} if self._cache is None else self._cache.stats()

    def clear_cache(self) -> None:
        """Forget the texts that the caches keep, and their statistics.

        Examples
        --------
        >>> import embellama
        >>> config = embellama.ModelConfig("all-MiniLM-L6-v2", cache=embellama.CacheConfig())
        >>> model = embellama.EmbeddingModel(config)
        >>> vector = model.embed("a cat")
        >>> model.clear_cache()
        >>> model.cache_stats()["embeddings"].entry_count
        0
        """
        if self._cache is not None:
            self._cache.clear()

    @property
    def core_model(self) -> Model:
        """The weights as other Cython modules take them, an :class:`embellama.core.Model`.

        Contexts made of it share the weights in memory, and keep them when this model is unloaded.

        Raises
        ------
        ModelLoadError
            If the model is unloaded.

        Examples
        --------
        >>> import embellama
        >>> from embellama.core import Context
        >>> model = embellama.EmbeddingModel("all-MiniLM-L6-v2")
        >>> Context(model.core_model).token_vectors(model.tokenize("a cat")).shape
        (4, 384)
        """
        return self._loaded().embedder.model

    def _loaded(self) -> Loaded:
        state = self._state
        if state is None:
            raise ModelLoadError(f"{self.name}: the model is unloaded; load() it again")
        return state
