# SPDX-License-Identifier: Apache-2.0
"""One loaded model: texts in, vectors out."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, TypedDict, cast, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from embellama.config import ModelConfig, NormalizationMode, PoolingStrategy, as_integer
from embellama.core import Model
from embellama.embedding import verification
from embellama.embedding.asyncio_thread import in_daemon_thread
from embellama.embedding.cache import CacheStats
from embellama.embedding.call import Call
from embellama.embedding.deadline import Deadline
from embellama.embedding.embedder import Tokens
from embellama.embedding.lifecycle import Lifecycle, Loaded
from embellama.embedding.rows import Output
from embellama.embedding.texts import check_str, check_text, check_texts, each_text
from embellama.embedding.tuning import fastest_micro_batch, random_texts
from embellama.errors import (
    ConfigurationError,
    EmbellamaError,
    InvalidInputError,
    safe_repr,
)
from embellama.model_info import ModelInfo, Prompt
from embellama.progress import Progress, progress_callback
from embellama.quantization import quantized_width
from embellama.results import EmbeddingResult, RerankResult
from embellama.similarity import pairwise_similarity, similarity
from embellama.token_ids import token_ids

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

__all__ = ["BatchOptions", "EmbeddingModel"]

# Texts embed_iter takes from its source at a time: enough for well-packed micro-batches.
_WINDOW_TEXTS = 2048


class BatchOptions(TypedDict, total=False):
    """The options of :meth:`EmbeddingModel.embed_batch`, for the methods that pass them on."""

    progress: Progress
    out: NDArray[Any] | None
    dtype: str
    truncate_dim: int | None
    ranges: ArrayLike | None
    on_error: str
    timeout: float | None


class EmbeddingModel:
    """A loaded model.

    Any method may be called from any thread; callers share the model's workers.

    Parameters
    ----------
    config : ModelConfig, str or os.PathLike
        Settings, or just what :class:`ModelConfig` takes as `model_path`.

    Raises
    ------
    ModelNotFoundError
        If there is no such file or name.
    ModelLoadError
        If the file is not a usable model.
    ConfigurationError
        If a setting does not fit the model or the build.

    Examples
    --------
    >>> import embellama
    >>> with embellama.EmbeddingModel("all-MiniLM-L6-v2") as model:
    ...     vector = model.embed("Hello, world!")
    >>> vector.shape, vector.dtype
    ((384,), dtype('float32'))
    """

    def __init__(self, config: ModelConfig | str | os.PathLike[str]) -> None:
        self._config = config if isinstance(config, ModelConfig) else ModelConfig(config)
        self._lifecycle = Lifecycle(self._config)

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

    def embed(self, text: str) -> NDArray[np.float32]:
        """Turn one text into a vector.

        Parameters
        ----------
        text : str
            Not empty, and not white space only.

        Returns
        -------
        numpy.ndarray of float32, shape (D,)

        Raises
        ------
        InvalidInputError
            If the text is empty, too long, or holds lone surrogates.
        EmbeddingGenerationError
            If the computation fails.
        TokenizationError, ResourceLimitError, ModelLoadError
            As :meth:`embed_batch`.
        TextTypeError
            If `text` is not a str.
        ConfigurationError
            If the model is a reranker, or its pooling is NONE.

        Examples
        --------
        >>> import embellama
        >>> model = embellama.EmbeddingModel("all-MiniLM-L6-v2")
        >>> model.embed("Hello, world!").shape
        (384,)
        """
        return self._vector(check_text(text, self.name))

    def _vector(self, text: str) -> NDArray[np.float32]:
        """Compute the vector of a text that was checked."""
        self._require_text_vectors()
        return self._loaded().text_embedder.vector(text)

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """:meth:`embed` with the model's prompt for queries before the text.

        Parameters
        ----------
        text : str

        Returns
        -------
        numpy.ndarray of float32, shape (D,)

        Raises
        ------
        InvalidInputError
            As :meth:`embed`.

        Examples
        --------
        >>> import embellama
        >>> model = embellama.EmbeddingModel("all-MiniLM-L6-v2")
        >>> bool((model.embed_query("a cat") == model.embed("a cat")).all())  # needs no prompt
        True
        """
        return self._vector(self._prompt("query") + check_text(text, self.name))

    def embed_documents(
        self, texts: Iterable[str], **options: Unpack[BatchOptions]
    ) -> NDArray[Any]:
        """:meth:`embed_batch` with the model's prompt for documents before each text.

        Parameters
        ----------
        texts : iterable of str
        **options
            As :meth:`embed_batch`, except `details`.

        Returns
        -------
        numpy.ndarray, shape (N, D)

        Raises
        ------
        InvalidInputError
            As :meth:`embed_batch`.

        Examples
        --------
        >>> import embellama
        >>> config = embellama.ModelConfig("all-MiniLM-L6-v2", document_prompt="passage: ")
        >>> model = embellama.EmbeddingModel(config)
        >>> vector = model.embed("passage: a cat")
        >>> bool(abs(model.embed_documents(["a cat"])[0] - vector).max() < 1e-6)
        True
        """
        return self._embed_batch(texts, prompt=self._prompt("document"), **options).embeddings

    def _prompt(self, kind: Literal["query", "document"]) -> str:
        """Return the configured prompt, else what is known of the model."""
        configured: str | None = getattr(self._config, f"{kind}_prompt")
        if configured is not None:
            return configured
        known: Prompt = getattr(self.info, f"{kind}_prompt")
        return known.text

    @overload
    def embed_batch(
        self,
        texts: Iterable[str],
        *,
        details: Literal[False] = ...,
        **options: Unpack[BatchOptions],
    ) -> NDArray[Any]: ...
    @overload
    def embed_batch(
        self, texts: Iterable[str], *, details: Literal[True], **options: Unpack[BatchOptions]
    ) -> EmbeddingResult: ...
    def embed_batch(
        self, texts: Iterable[str], *, details: bool = False, **options: Unpack[BatchOptions]
    ) -> NDArray[Any] | EmbeddingResult:
        """Turn texts into vectors, all cores at work.

        Every text is checked before anything is computed.

        Parameters
        ----------
        texts : iterable of str
            None of them empty. A column of pandas, polars, pyarrow or NumPy is one too.
        details : bool, optional
            Return an EmbeddingResult instead of the bare array (default False).
        progress : bool or callable, optional
            True shows a bar on standard error; a callable is called as ``progress(done, total)``,
            counted in texts. Default False.
        out : numpy.ndarray, optional
            A writable array or memmap of the result's shape and type to write into.
        dtype : str, optional
            ``"float32"`` (default), ``"float16"``, ``"int8"``, ``"uint8"``, ``"binary"`` or
            ``"ubinary"``; see :func:`embellama.quantize`.
        truncate_dim : int, optional
            Keep the first dimensions only, for models trained for it (Matryoshka); they are
            normalised after the cut. Default: all.
        ranges : array_like of float32, shape (2, D), optional
            For the int8 and uint8 types; see :func:`embellama.quantize`.
        on_error : {"raise", "nan"}, optional
            ``"nan"`` gives a bad text, a missing one too, a row of NaN, and the result's ``errors``
            the reason. For float types only. Default: ``"raise"``.
        timeout : float, optional
            Seconds the call may take. Default: no limit.

        Returns
        -------
        numpy.ndarray, shape (N, D), or EmbeddingResult
            Rows in the order of `texts`; (N, ceil(D / 8)) for the binary types.

        Raises
        ------
        InvalidInputError
            If a text is empty, too long, or holds lone surrogates; its ``index`` says which.
        TokenizationError
            If the tokenizer fails on a text.
        EmbeddingGenerationError
            If the computation fails for a text.
        BatchError
            If it fails for several.
        ResourceLimitError
            If memory runs out.
        ModelLoadError
            If the model is unloaded.
        DimensionMismatchError
            If `out`, `truncate_dim` or `ranges` does not fit.
        ConfigurationError
            If the model is a reranker, its pooling is NONE, or the value of an option is unknown.
        OperationTimeoutError
            If `timeout` passes.
        TextTypeError
            If a text is not a str, or missing; its ``index`` says which.
        TypeError
            If `texts` is one str, a data frame, a mapping, a set or an array of two dimensions.

        Examples
        --------
        >>> import embellama
        >>> model = embellama.EmbeddingModel("all-MiniLM-L6-v2")
        >>> vectors = model.embed_batch(["a cat", "a dog", "a quarterly report"])
        >>> bool(vectors[0] @ vectors[1] > vectors[0] @ vectors[2])
        True
        >>> model.embed_batch(["a cat"], dtype="ubinary").shape
        (1, 48)
        """
        result = self._embed_batch(texts, **options)
        return result if details else result.embeddings

    def _embed_batch(
        self,
        texts: Iterable[str],
        *,
        prompt: str = "",
        first_index: int = 0,
        deadline: Deadline | None = None,
        progress: Progress = False,
        out: NDArray[Any] | None = None,
        dtype: str = "float32",
        truncate_dim: int | None = None,
        ranges: ArrayLike | None = None,
        on_error: str = "raise",
        timeout: float | None = None,
    ) -> EmbeddingResult:
        deadline = deadline or Deadline(timeout)
        self._require_text_vectors()
        output = Output(
            self.name,
            self.embedding_dimensions,
            out=out,
            dtype=dtype,
            truncate_dim=truncate_dim,
            ranges=ranges,
            on_error=on_error,
        )
        good, errors = check_texts(
            texts,
            self.name,
            prompt=prompt,
            first_index=first_index,
            on_error=on_error,
            deadline=deadline,
        )
        skipped = errors if on_error == "nan" else None
        return self._embed_checked(
            good, errors, output, Call(deadline, errors=skipped), progress, first_index
        )

    def _embed_checked(
        self,
        good: list[str],
        errors: dict[int, EmbellamaError],
        output: Output,
        call: Call,
        progress: Progress = False,
        first_index: int = 0,
    ) -> EmbeddingResult:
        """Compute the vectors of the texts that :func:`check_texts` found good."""
        text_embedder = self._loaded().text_embedder
        n_texts = len(good) + len(errors)
        indices = [i for i in range(first_index, first_index + n_texts) if i not in errors]
        rows = output.rows(n_texts, np.array(indices, dtype=np.int64) - first_index)
        with progress_callback(progress, len(good)) as report:
            call = dataclasses.replace(call, progress=report)
            embedded = text_embedder.embed(good, indices, rows, call)
        counts = np.zeros(n_texts, dtype=np.int32)
        truncated = np.zeros(n_texts, dtype=np.bool_)
        counts[embedded.row_of_text] = embedded.token_counts
        truncated[embedded.row_of_text] = embedded.truncated
        for index in errors:
            rows.array[index - first_index] = np.nan
        return EmbeddingResult(
            output.finished(rows), counts, truncated, dict(sorted(errors.items()))
        )

    def _require_text_vectors(self) -> None:
        if self.pooling is PoolingStrategy.RANK:
            raise ConfigurationError(f"{self.name} is a reranker: use rerank()")
        if self.pooling is PoolingStrategy.NONE:
            raise ConfigurationError(f"{self.name}: with pooling NONE use embed_multi()")

    def embed_iter(
        self, texts: Iterable[str], *, window: int = _WINDOW_TEXTS, on_error: str = "raise"
    ) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Turn any number of texts into vectors, a window at a time, in bounded memory.

        Parameters
        ----------
        texts : iterable of str
            Read as the vectors are consumed; may be endless.
        window : int, optional
            Texts to read at a time (default 2048). Larger windows pack slightly better.
        on_error : {"raise", "nan"}, optional
            As :meth:`embed_batch`. Default: ``"raise"``.

        Yields
        ------
        start : int
            Index of the window's first text.
        rows : numpy.ndarray of float32, shape (n, D)
            Vectors of the texts ``start`` to ``start + n - 1``.

        Raises
        ------
        InvalidInputError
            As :meth:`embed_batch`, when the window that holds the text is reached.
        ConfigurationError
            If `window` is below 1, or `on_error` unknown.
        TypeError
            As :meth:`embed_batch`.

        Examples
        --------
        >>> import embellama
        >>> model = embellama.EmbeddingModel("all-MiniLM-L6-v2")
        >>> [(start, rows.shape) for start, rows in model.embed_iter(["a cat", "a dog"])]
        [(0, (2, 384))]
        """
        source = cast("Iterator[str]", each_text(texts, self.name))
        if as_integer("window", window) < 1:
            raise ConfigurationError(f"window must be at least 1, not {safe_repr(window)}")
        start = 0
        while taken := list(islice(source, min(window, sys.maxsize))):
            result = self._embed_batch(taken, first_index=start, on_error=on_error)
            yield start, result.embeddings
            start += len(taken)

    def embed_multi(self, text: str, *, special_tokens: bool = True) -> NDArray[np.float32]:
        """Turn one text into a vector per token, as late interaction wants them.

        Of a model with dense modules after the pooling, these are the vectors before the modules,
        as sentence-transformers' token embeddings.

        Parameters
        ----------
        text : str
        special_tokens : bool, optional
            Keep the rows of the special tokens around the text (default True).

        Returns
        -------
        numpy.ndarray of float32, shape (T, D)
            Each row normalised by itself.

        Raises
        ------
        InvalidInputError
            As :meth:`embed`.
        ConfigurationError
            If the model is a reranker.

        Examples
        --------
        >>> import embellama
        >>> model = embellama.EmbeddingModel("all-MiniLM-L6-v2")
        >>> model.embed_multi("Hello, world!").shape
        (6, 384)
        """
        return self._multi([check_text(text, self.name)], [None], special_tokens, Call())[0]

    def embed_batch_multi(
        self,
        texts: Iterable[str],
        *,
        special_tokens: bool = True,
        timeout: float | None = None,
    ) -> list[NDArray[np.float32]]:
        """Turn texts into a vector per token each, as :meth:`embed_multi` does.

        Parameters
        ----------
        texts : iterable of str
        special_tokens : bool, optional
            Keep the rows of the special tokens around a text (default True).
        timeout : float, optional
            Seconds the call may take. Default: no limit.

        Returns
        -------
        list of numpy.ndarray of float32, each of shape (T, D)
            Views of one array.

        Raises
        ------
        InvalidInputError
            As :meth:`embed_batch`.
        ConfigurationError
            If the model is a reranker.
        OperationTimeoutError
            If `timeout` passes.

        Examples
        --------
        >>> import embellama
        >>> model = embellama.EmbeddingModel("all-MiniLM-L6-v2")
        >>> [rows.shape for rows in model.embed_batch_multi(["a", "a cat"])]
        [(3, 384), (4, 384)]
        """
        call = Call(Deadline(timeout))
        good, _ = check_texts(texts, self.name, deadline=call.deadline)
        return self._multi(good, list(range(len(good))), special_tokens, call)

    def _multi(
        self,
        texts: list[str],
        indices: Sequence[int | None],
        special_tokens: bool,
        call: Call,
    ) -> list[NDArray[np.float32]]:
        if self.pooling is PoolingStrategy.RANK:
            self._require_text_vectors()
        loaded = self._loaded()
        embedder = loaded.embedder
        tokenized = loaded.text_embedder.tokenize(texts, call, truncation=embedder.truncation)
        tokens = embedder.require_fitting(tokenized, indices, call)
        rows = embedder.vectors(tokens, call, per_token=True)
        parts = np.split(rows, tokens.offsets[1:-1]) if texts else []
        if special_tokens:
            return parts
        first, n_final = embedder.vocabulary.n_prefix, embedder.n_final_tokens
        return [part[first : len(part) - n_final] for part in parts]

    def embed_tokens(self, ids: ArrayLike) -> NDArray[np.float32]:
        """Turn token ids, such as :meth:`tokenize` gives, into a vector.

        Parameters
        ----------
        ids : array_like of int, shape (T,)
            Special tokens included.

        Returns
        -------
        numpy.ndarray of float32, shape (D,)

        Raises
        ------
        InvalidInputError
            If there is no token, one too many, or one that the vocabulary lacks.
        ConfigurationError
            If the model is a reranker, or its pooling is NONE.

        Examples
        --------
        >>> import embellama
        >>> model = embellama.EmbeddingModel("all-MiniLM-L6-v2")
        >>> vector = model.embed_tokens(model.tokenize("a cat"))
        >>> bool(abs(vector - model.embed("a cat")).max() < 1e-6)
        True
        """
        self._require_text_vectors()
        embedder = self._loaded().embedder
        array = token_ids(ids, self.name, len(embedder.vocabulary))
        if not 1 <= len(array) <= self.max_sequence_length:
            raise InvalidInputError(
                f"{self.name}: a text has from 1 to {self.max_sequence_length} tokens, "
                f"not {len(array)}"
            )
        offsets = np.array([0, len(array)], dtype=np.int64)
        tokens = Tokens(array, offsets, np.zeros(1, dtype=np.bool_), [None])
        vector: NDArray[np.float32] = embedder.vectors(tokens, Call())[0]
        return vector

    @property
    def score_kind(self) -> str:
        """What :meth:`rerank` scores are: ``"logit"`` or ``"probability"``.

        llama.cpp ends the graph of Qwen3 rerankers with a softmax; other heads give logits, and
        neither is squashed again.
        """
        # llm_graph_context::build_pooling, llama-graph.cpp
        return "probability" if self.info.architecture in ("qwen3", "qwen3vl") else "logit"

    def rerank(
        self,
        query: str,
        documents: Iterable[str],
        *,
        top_n: int | None = None,
        timeout: float | None = None,
    ) -> list[RerankResult]:
        """Order documents by how well they answer a query, with a cross-encoder.

        Parameters
        ----------
        query : str
        documents : iterable of str
            With ``truncate`` in the configuration, a document is cut to what fits beside the
            query.
        top_n : int, optional
            How many to return. Default: all.
        timeout : float, optional
            Seconds the call may take. Default: no limit.

        Returns
        -------
        list of RerankResult
            The best first.

        Raises
        ------
        ConfigurationError
            If the model is not a reranker, or `top_n` is negative.
        InvalidInputError
            If the query or a document is empty, or both together are too long.
        OperationTimeoutError
            If `timeout` passes.

        Notes
        -----
        Scores are what the model's head gives, see :attr:`score_kind`; a sigmoid makes a
        probability of a logit.

        Examples
        --------
        >>> import embellama
        >>> model = embellama.EmbeddingModel("reranker.gguf")  # doctest: +SKIP
        >>> documents = ["Interest rates rose.", "Cats sleep up to 16 hours."]
        >>> model.rerank("How long do cats sleep?", documents, top_n=1)  # doctest: +SKIP
        [RerankResult(index=1, score=8.9, document='Cats sleep up to 16 hours.')]
        """
        if self.pooling is not PoolingStrategy.RANK:
            raise ConfigurationError(
                f"{self.name} is no reranker: load a model with a classification head"
            )
        if top_n is not None and as_integer("top_n", top_n) < 0:
            raise ConfigurationError(f"top_n must not be negative: {safe_repr(top_n)}")
        call = Call(Deadline(timeout))
        query = check_text(query, self.name)
        texts, _ = check_texts(documents, self.name, deadline=call.deadline)
        embedder = self._loaded().embedder
        tokens = embedder.tokenize_pairs(query, texts, call)
        scores = embedder.vectors(tokens, call)[:, 0]
        best = np.argsort(-scores, kind="stable")[:top_n]
        return [RerankResult(int(i), float(scores[i]), texts[i]) for i in best]

    async def aembed(self, text: str) -> NDArray[np.float32]:
        """:meth:`embed` for asyncio: the event loop keeps running.

        Parameters
        ----------
        text : str

        Returns
        -------
        numpy.ndarray of float32, shape (D,)

        Raises
        ------
        InvalidInputError
            As :meth:`embed`.

        Examples
        --------
        >>> import asyncio, embellama
        >>> model = embellama.EmbeddingModel("all-MiniLM-L6-v2")
        >>> asyncio.run(model.aembed("a cat")).shape
        (384,)
        """
        checked = check_text(text, self.name)
        self._require_text_vectors()
        output = Output(self.name, self.embedding_dimensions)
        result = await self._in_thread(
            lambda deadline: self._embed_checked([checked], {}, output, Call(deadline)),
            Deadline(None),
        )
        vector: NDArray[np.float32] = result.embeddings[0]
        return vector

    @staticmethod
    async def _in_thread(
        compute: Callable[[Deadline], EmbeddingResult], deadline: Deadline
    ) -> EmbeddingResult:
        """Compute on a thread of its own, until the task is cancelled."""
        try:
            return await in_daemon_thread(lambda: compute(deadline), deadline)
        finally:
            deadline.cancel()

    async def aembed_batch(
        self, texts: Iterable[str], **options: Unpack[BatchOptions]
    ) -> NDArray[Any]:
        """:meth:`embed_batch` for asyncio: the event loop keeps running.

        Cancelling the task stops the computation.

        Parameters
        ----------
        texts : iterable of str
        **options
            As :meth:`embed_batch`, except `details`.

        Returns
        -------
        numpy.ndarray, shape (N, D)

        Raises
        ------
        InvalidInputError
            As :meth:`embed_batch`.

        Examples
        --------
        >>> import asyncio, embellama
        >>> model = embellama.EmbeddingModel("all-MiniLM-L6-v2")
        >>> asyncio.run(model.aembed_batch(["a cat", "a dog"])).shape
        (2, 384)
        """
        result = await self._in_thread(
            lambda deadline: self._embed_batch(texts, deadline=deadline, **options),
            Deadline(options.get("timeout")),
        )
        return result.embeddings

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

    def _similarity_kind(self, *vectors: ArrayLike) -> str:
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

    def _without_padding(self, similarities: NDArray[Any], kind: str) -> NDArray[Any]:
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
        >>> config = embellama.ModelConfig("all-MiniLM-L6-v2", cache=embellama.CacheConfig())
        >>> model = embellama.EmbeddingModel(config)
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
        >>> config = embellama.ModelConfig("all-MiniLM-L6-v2", cache=embellama.CacheConfig())
        >>> model = embellama.EmbeddingModel(config)
        >>> vector = model.embed("a cat")
        >>> model.clear_cache()
        >>> model.cache_stats()["embeddings"].entry_count
        0
        """
        if self._lifecycle.cache is not None:
            self._lifecycle.cache.clear()

    def warm_cache(self, texts: Iterable[str]) -> None:
        """Compute the vectors of texts that will come, so that the cache has them.

        Parameters
        ----------
        texts : iterable of str

        Raises
        ------
        InvalidInputError
            As :meth:`embed_batch`.
        ConfigurationError
            If the configuration turns no cache on.

        Examples
        --------
        >>> import embellama
        >>> config = embellama.ModelConfig("all-MiniLM-L6-v2", cache=embellama.CacheConfig())
        >>> model = embellama.EmbeddingModel(config)
        >>> model.warm_cache(["a cat", "a dog"])
        >>> vector = model.embed("a cat")
        >>> model.cache_stats()["embeddings"].hits
        1
        """
        if self._lifecycle.cache is None:
            raise ConfigurationError(f"{self.name} has no cache: set ModelConfig's cache")
        self._embed_batch(texts)

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
