# SPDX-License-Identifier: Apache-2.0
"""One loaded model: texts in, vectors out."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from embellama.config import (
    ModelConfig,
    NormalizationMode,
    PoolingStrategy,
    model_config,
)
from embellama.core import Model
from embellama.embedding import verification
from embellama.embedding.cache import CacheStats
from embellama.embedding.call import Call
from embellama.embedding.lifecycle import Lifecycle, Loaded
from embellama.embedding.texts import check_str
from embellama.embedding.tuning import fastest_micro_batch, random_texts
from embellama.errors import ModelLoadError
from embellama.file_info import ModelInfo
from embellama.keywords import keywords_of
from embellama.model_methods import ModelMethods
from embellama.quantization import quantized_width
from embellama.settings import ModelSettings
from embellama.vector_similarity import Kind, pairwise_similarity, similarity

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

__all__ = ["EmbeddingModel"]


@keywords_of(ModelConfig, types=ModelSettings)
class EmbeddingModel(ModelMethods):
    """A loaded model.

    Any method may be called from any thread; callers share the model's workers.

    Parameters
    ----------
    config : ModelConfig, str or os.PathLike
        Settings, or what :class:`ModelConfig` takes as `model_path`, with settings by name.
    **settings
        As :class:`ModelConfig` takes them.

    Raises
    ------
    ModelNotFoundError
        If there is no such file or name.
    ModelLoadError
        If the file is not a usable model.
    ConfigurationError
        If a setting is out of its range, does not fit the model or the build, or stands beside a
        ModelConfig.
    TypeError
        If a setting has the wrong type, or there is no such setting.

    Examples
    --------
    >>> import embellama
    >>> with embellama.EmbeddingModel("all-MiniLM-L6-v2", truncate=True) as model:
    ...     vector = model.embed("Hello, world!")
    >>> vector.shape, vector.dtype
    ((384,), dtype('float32'))
    """

    def __init__(
        self, config: ModelConfig | str | os.PathLike[str], **settings: Unpack[ModelSettings]
    ) -> None:
        self._config = model_config(config, settings)
        self._lifecycle = Lifecycle(self._config)
        super().__init__(self._config, self._lifecycle)

    def load(self) -> None:
        """Load the weights, unless they are loaded.

        Raises
        ------
        ModelNotFoundError
            If the file is gone.
        ModelLoadError
            If the file is not a usable model.
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
        self._lifecycle.load()

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
        self._lifecycle.unload()

    @property
    def is_loaded(self) -> bool:
        """Whether the weights are in memory."""
        return self._lifecycle.is_loaded

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
        try:
            state = f"on {self.core_model.instruction_set}"
        except ModelLoadError:
            state = "unloaded"
        parts = [
            self.path.name,
            f"{self.embedding_dimensions} dimensions",
            f"{self.max_sequence_length} tokens",
            f"{self.pooling.value} pooling",
            state,
        ]
        return f"<{type(self).__name__} {self.name!r}: {', '.join(parts)}>"

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
        return self.info.path

    @property
    def info(self) -> ModelInfo:
        """What the file says about the model."""
        return self._lifecycle.info

    @property
    def metadata(self) -> Mapping[str, Any]:
        """All key-values of the file."""
        return self.info.metadata

    @property
    def pooling(self) -> PoolingStrategy:
        """How token vectors become a text's vector."""
        return self._lifecycle.pooling

    @property
    def embedding_dimensions(self) -> int:
        """Length D of a vector."""
        return self._lifecycle.n_dimensions

    @property
    def max_sequence_length(self) -> int:
        """The longest text in tokens, special ones included."""
        return self._config.n_ctx or self.info.context_length

    @property
    def effective_max_tokens(self) -> int:
        """Tokens of a text's own that fit: the longest text less the special tokens around it."""
        return self.max_sequence_length - self._lifecycle.n_special_tokens

    @property
    def micro_batch_tokens(self) -> int:
        """The token budget of one micro-batch, as configured, derived or tuned."""
        return self._loaded().embedder.micro_batch_tokens

    @property
    def model_size(self) -> int:
        """Bytes of all tensors."""
        return self._lifecycle.n_bytes

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
        return self._lifecycle.loaded()

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
            If `text` is not a str.

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

    @property
    def score_kind(self) -> str:
        """What :meth:`rerank` scores are: ``"logit"`` or ``"probability"``.

        llama.cpp ends the graph of Qwen3 rerankers with a softmax; other heads give logits, and
        neither is squashed again.
        """
        # llm_graph_context::build_pooling, llama-graph.cpp
        return "probability" if self.info.architecture in ("qwen3", "qwen3vl") else "logit"

    def similarity(self, a: ArrayLike, b: ArrayLike) -> NDArray[Any]:
        """Compare every vector of `a` with every vector of `b`.

        Parameters
        ----------
        a : array_like, shape (N, D) or (D,)
        b : array_like, shape (M, D) or (D,)
            Vectors this model made.

        Returns
        -------
        numpy.ndarray, shape (N, M)
            Cosines; as dot products where floats have the model's normalisation L2, since both are
            the same then. Hamming similarities, the shares of equal bits, where rows hold packed
            bits, which are int8 or uint8 and D / 8 wide. Of rows that ``truncate_dim`` cut before
            they were packed, ask for them: ``embellama.similarity(a, b, kind="hamming")``.

        Raises
        ------
        DimensionMismatchError
            If the vectors differ in length.

        Examples
        --------
        >>> import embellama
        >>> model = embellama.EmbeddingModel("all-MiniLM-L6-v2")
        >>> vectors = model.embed_batch(["a cat", "a kitten", "a quarterly report"])
        >>> model.similarity(vectors[0], vectors).round(1)
        array([[1. , 0.8, 0.1]], dtype=float32)
        """
        kind = self._similarity_kind(a, b)
        return self._without_padding(similarity(a, b, kind=kind), kind)

    def pairwise_similarity(self, a: ArrayLike, b: ArrayLike) -> NDArray[Any]:
        """Compare the vectors of `a` and `b` row by row, as :meth:`similarity` does.

        Parameters
        ----------
        a, b : array_like, shape (N, D)

        Returns
        -------
        numpy.ndarray, shape (N,)

        Raises
        ------
        DimensionMismatchError
            If the shapes differ.

        Examples
        --------
        >>> import embellama
        >>> model = embellama.EmbeddingModel("all-MiniLM-L6-v2")
        >>> questions = model.embed_batch(["Where do cats sleep?", "Who sets interest rates?"])
        >>> answers = model.embed_batch(["On the sofa.", "The central bank."])
        >>> model.pairwise_similarity(questions, answers).shape
        (2,)
        """
        kind = self._similarity_kind(a, b)
        return self._without_padding(pairwise_similarity(a, b, kind=kind), kind)

    def _similarity_kind(self, *vectors: ArrayLike) -> Kind:
        arrays = [np.asarray(each) for each in vectors]
        packed = quantized_width(self.embedding_dimensions, "ubinary")
        if all(
            array.dtype in (np.int8, np.uint8) and array.shape[-1:] == (packed,) for array in arrays
        ):
            return "hamming"
        normalized = self._config.normalization is NormalizationMode.L2 and all(
            array.dtype.kind == "f" for array in arrays
        )
        return "dot" if normalized else "cosine"

    def _without_padding(self, similarities: NDArray[Any], kind: Kind) -> NDArray[Any]:
        """Correct for the bits that fill a row's last byte: they are equal in all rows."""
        n_bits = 8 * quantized_width(self.embedding_dimensions, "ubinary")
        if kind != "hamming" or n_bits == self.embedding_dimensions:
            return similarities
        share = np.float32(n_bits / self.embedding_dimensions)
        differing: NDArray[Any] = (1 - similarities) * share
        return 1 - differing

    def cache_stats(self) -> dict[str, CacheStats]:
        """Return how the model's caches have served.

        Returns
        -------
        dict of str to CacheStats
            ``"embeddings"`` and ``"tokens"``, those of them that the configuration turns on.

        Examples
        --------
        >>> import embellama
        >>> cache = embellama.CacheConfig()
        >>> model = embellama.EmbeddingModel("all-MiniLM-L6-v2", cache=cache)
        >>> same = model.embed("a cat") == model.embed("a cat")
        >>> model.cache_stats()["embeddings"].hits
        1
        """
        cache = self._lifecycle.cache
        return {} if cache is None else cache.stats()

    def clear_cache(self) -> None:
        """Forget the texts that the caches keep, and their statistics.

        Examples
        --------
        >>> import embellama
        >>> cache = embellama.CacheConfig()
        >>> model = embellama.EmbeddingModel("all-MiniLM-L6-v2", cache=cache)
        >>> vector = model.embed("a cat")
        >>> model.clear_cache()
        >>> model.cache_stats()["embeddings"].entry_count
        0
        """
        if self._lifecycle.cache is not None:
            self._lifecycle.cache.clear()

    def warmup(self, *, tune: bool = False) -> None:
        """Make the contexts and touch the weights, so that the next call is at full speed.

        Parameters
        ----------
        tune : bool, optional
            Also measure on this machine which micro-batch size computes most tokens a second,
            and use it until the model is unloaded; takes as long as some 15,000 tokens per core.
            Default False.

        Raises
        ------
        ModelLoadError
            If the model is unloaded.

        Examples
        --------
        >>> import embellama
        >>> model = embellama.EmbeddingModel("all-MiniLM-L6-v2")
        >>> model.warmup()
        """
        embedder = self._loaded().embedder
        if tune:
            embedder.micro_batch_tokens = fastest_micro_batch(embedder)
        for n_tokens in (1, 320 * embedder.n_threads):
            embedder.vectors(random_texts(embedder, n_tokens), Call())

    def verify(self) -> None:
        """Check that the model computes right on this machine.

        Texts must have the same vectors in a batch and alone, and a model of the catalog with its
        own pooling the vector it is known for. Texts longer than `n_ctx` are left out. A file with
        a ``.sha256`` beside it, as the cache has, must still be that file. Takes about as long as
        40 short texts.

        Raises
        ------
        EmbeddingGenerationError
            If they have not; the message says by how much.
        ModelLoadError
            If the file has changed, or can't be read.
        ModelNotFoundError
            If the file is gone and its ``.sha256`` is not.
        ConfigurationError
            If the model is a reranker, or its pooling is NONE.

        Examples
        --------
        >>> import embellama
        >>> embellama.EmbeddingModel("all-MiniLM-L6-v2").verify()
        """
        verification.verify(self)
