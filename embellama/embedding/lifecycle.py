# SPDX-License-Identifier: Apache-2.0
"""A model's file, and its weights while they are in memory."""

from __future__ import annotations

import dataclasses
import logging
import threading

from embellama.config import ModelConfig, PoolingStrategy
from embellama.embedding.cache import ModelCache
from embellama.embedding.cached_embedder import CachedEmbedder
from embellama.embedding.embedder import Embedder
from embellama.errors import ConfigurationError, ModelLoadError
from embellama.file_info import ModelInfo, model_info
from embellama.files.identity import file_identity
from embellama.machine.forking import renew_after_fork

__all__ = ["Lifecycle", "Loaded"]

_logger = logging.getLogger("embellama")


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


class Lifecycle:
    """Loads and unloads one model; for any number of threads.

    Parameters
    ----------
    config : ModelConfig

    Attributes
    ----------
    info : ModelInfo
        Of the file that was last looked at.
    pooling : PoolingStrategy
        What was configured, else what the file says.
    cache : ModelCache or None
        Outlives the weights.
    n_dimensions, n_special_tokens, n_bytes : int
        Of a vector, around a text, and of all tensors: as when the model was last loaded.

    Raises
    ------
    ModelNotFoundError, ModelLoadError, ConfigurationError, ResourceLimitError
        As :class:`embellama.EmbeddingModel`.
    """

    def __init__(self, config: ModelConfig) -> None:
        self._config = config
        self._renew_after_fork()
        renew_after_fork(self)
        self._loaded: Loaded | None = None
        self.cache = ModelCache(config.cache) if config.cache else None
        self._read_info()
        self.load()

    def _renew_after_fork(self) -> None:
        # Reentrant: a signal handler may unload what its thread is loading.
        self._lock = threading.RLock()

    def _read_info(self) -> None:
        config = self._config
        self.info: ModelInfo = model_info(config.model_path)
        self.pooling: PoolingStrategy = config.pooling or self.info.pooling
        for doubt in self.info.doubts(self.pooling):
            _logger.warning("%s: %s", config.name, doubt)
        if config.pooling is None and self.info.pooling_source == "a guess":
            _logger.warning(
                "%s: the file does not say how the model pools; %s is used, as is usual for %s. "
                "Name what the model was trained with: pooling=%r or another one",
                config.name,
                self.pooling.value,
                "causal models" if self.info.is_causal else "encoders",
                self.pooling.value,
            )
        trained_for = self.info.context_length
        if config.n_ctx is not None and config.n_ctx > trained_for:
            raise ConfigurationError(
                f"{config.name}: n_ctx={config.n_ctx}, but the model was trained for texts of at "
                f"most {trained_for} tokens: use n_ctx={trained_for} or less"
            )
        if self.pooling is PoolingStrategy.RANK and not self.info.has_classification_head:
            raise ConfigurationError(
                f"{config.name}: RANK pooling needs a classification head, and this file has none: "
                "use a reranker, or another pooling"
            )

    def load(self) -> None:
        """Load the weights, unless they are loaded."""
        with self._lock:
            if self._loaded is not None:
                return
            path = self.info.path
            if not path.exists() or file_identity(path.stat()) != self.info.file_identity:
                # The file is not the one that was checked: read and check it again.
                self._read_info()
            embedder = Embedder(str(self.info.path), self._config, self.info, self.pooling)
            text_embedder: Embedder | CachedEmbedder = embedder
            if self.cache is not None:
                # All that a vector depends on beside its text. Settings added later are included.
                settings = dataclasses.replace(self._config, model_name=None, cache=None)
                identity = repr((self.info.file_identity, self.pooling, settings))
                text_embedder = CachedEmbedder(embedder, identity, self.cache)
            self._loaded = Loaded(embedder, text_embedder)
            self.n_dimensions = embedder.n_dims
            self.n_bytes = embedder.size
            self.n_special_tokens = embedder.vocabulary.n_prefix + embedder.n_final_tokens

    def unload(self) -> None:
        """Free the weights and stop the threads, after the calls under way."""
        with self._lock:
            loaded, self._loaded = self._loaded, None
        if loaded is not None:
            loaded.embedder.close()

    @property
    def is_loaded(self) -> bool:
        """Whether the weights are in memory."""
        return self._loaded is not None

    def loaded(self) -> Loaded:
        """Return what is there; ModelLoadError if the model is unloaded."""
        loaded = self._loaded
        if loaded is None:
            raise ModelLoadError(f"{self._config.name}: the model is unloaded; load() it again")
        return loaded
