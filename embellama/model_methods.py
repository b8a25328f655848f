# SPDX-License-Identifier: Apache-2.0
"""The methods of a model that compute something of texts.

Their signatures are long, so the stub beside this file has them: ``tests/support/stubs.py``
writes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from embellama.config import ModelConfig
from embellama.embedding.lifecycle import Lifecycle
from embellama.embedding.options import EmbedOptions
from embellama.embedding.verbs import Verbs
from embellama.keywords import keywords_of
from embellama.results import EmbeddingResult, RerankResult

__all__ = ["ModelMethods"]

# Texts embed_iter takes from its source at a time: enough for well-packed micro-batches.
_WINDOW_TEXTS = 2048
# Vectors per token are float32, and are written where the call decides.
_NOT_PER_TOKEN = ("dtype", "truncate_dim", "ranges", "on_error", "out")


class ModelMethods:
    """Methods of :class:`embellama.EmbeddingModel`.

    Parameters
    ----------
    config : ModelConfig
    lifecycle : Lifecycle
    """

    def __init__(self, config: ModelConfig, lifecycle: Lifecycle) -> None:
        self._verbs = Verbs(config, lifecycle)

    @keywords_of(EmbedOptions)
    def embed(self, text: str | Iterable[str], **options: Any) -> NDArray[Any] | EmbeddingResult:
        """Turn one text into a vector, or several into rows.

        Parameters
        ----------
        text : str or iterable of str
            Not empty, and not white space only. Several texts are what :meth:`embed_batch` takes.
        **options
            As :class:`EmbedOptions`.

        Returns
        -------
        numpy.ndarray, shape (D,), or (N, D) for several texts; or EmbeddingResult

        Raises
        ------
        InvalidInputError
            If the text is empty, too long, or holds lone surrogates.
        EmbeddingGenerationError
            If the computation fails.
        TokenizationError, ResourceLimitError, ModelLoadError, DimensionMismatchError
            As :meth:`embed_batch`.
        TextTypeError
            If `text` is not a str.
        ConfigurationError
            If the model is a reranker, its pooling is NONE, or the value of an option is unknown.
        OperationTimeoutError
            If `timeout` passes.

        Examples
        --------
        >>> import embellama
        >>> model = embellama.EmbeddingModel("all-MiniLM-L6-v2")
        >>> model.embed("Hello, world!").shape
        (384,)
        >>> model.embed(["a cat", "a dog"]).shape
        (2, 384)
        >>> model.embed("one two three four", truncate=4, details=True).token_counts.tolist()
        [4]
        """
        if not options and isinstance(text, str):
            return self._verbs.vector(text)
        return self._verbs.one_or_many(text, EmbedOptions(**options))

    @keywords_of(EmbedOptions)
    def embed_query(self, text: str, **options: Any) -> NDArray[Any] | EmbeddingResult:
        """:meth:`embed` with the model's prompt for queries before the text.

        Parameters
        ----------
        text : str
        **options
            As :class:`EmbedOptions`.

        Returns
        -------
        numpy.ndarray, shape (D,), or EmbeddingResult

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
        if not options:
            return self._verbs.vector(text, "query")
        return self._verbs.one(text, EmbedOptions(**options), "query")

    @keywords_of(EmbedOptions)
    def embed_batch(self, texts: Iterable[str], **options: Any) -> NDArray[Any] | EmbeddingResult:
        """Turn texts into vectors, all cores at work.

        Every text is checked before anything is computed.

        Parameters
        ----------
        texts : iterable of str
            None of them empty. A column of pandas, polars, pyarrow or NumPy is one too.
        **options
            As :class:`EmbedOptions`.

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
        return self._verbs.many(texts, EmbedOptions(**options))

    @keywords_of(EmbedOptions)
    def embed_queries(self, texts: Iterable[str], **options: Any) -> NDArray[Any] | EmbeddingResult:
        """:meth:`embed_batch` with the model's prompt for queries before each text.

        Parameters
        ----------
        texts : iterable of str
        **options
            As :class:`EmbedOptions`.

        Returns
        -------
        numpy.ndarray, shape (N, D), or EmbeddingResult

        Raises
        ------
        InvalidInputError
            As :meth:`embed_batch`.

        Examples
        --------
        >>> import embellama
        >>> prompt = "query: "
        >>> model = embellama.EmbeddingModel("all-MiniLM-L6-v2", query_prompt=prompt)
        >>> vector = model.embed("query: a cat")
        >>> bool(abs(model.embed_queries(["a cat"])[0] - vector).max() < 1e-6)
        True
        """
        return self._verbs.many(texts, EmbedOptions(**options), "query")

    @keywords_of(EmbedOptions)
    def embed_documents(
        self, texts: Iterable[str], **options: Any
    ) -> NDArray[Any] | EmbeddingResult:
        """:meth:`embed_batch` with the model's prompt for documents before each text.

        Parameters
        ----------
        texts : iterable of str
        **options
            As :class:`EmbedOptions`.

        Returns
        -------
        numpy.ndarray, shape (N, D), or EmbeddingResult

        Raises
        ------
        InvalidInputError
            As :meth:`embed_batch`.

        Examples
        --------
        >>> import embellama
        >>> prompt = "passage: "
        >>> model = embellama.EmbeddingModel("all-MiniLM-L6-v2", document_prompt=prompt)
        >>> vector = model.embed("passage: a cat")
        >>> bool(abs(model.embed_documents(["a cat"])[0] - vector).max() < 1e-6)
        True
        """
        return self._verbs.many(texts, EmbedOptions(**options), "document")

    @keywords_of(EmbedOptions)
    async def aembed(
        self, text: str | Iterable[str], **options: Any
    ) -> NDArray[Any] | EmbeddingResult:
        """See :meth:`EmbeddingModel.embed`, for asyncio: the event loop keeps running.

        Cancelling the task stops the computation.

        Examples
        --------
        >>> import asyncio, embellama
        >>> model = embellama.EmbeddingModel("all-MiniLM-L6-v2")
        >>> asyncio.run(model.aembed("a cat")).shape
        (384,)
        """
        verbs = self._verbs
        return await verbs.on_thread(verbs.one_or_many, text, EmbedOptions(**options))

    @keywords_of(EmbedOptions)
    async def aembed_query(self, text: str, **options: Any) -> NDArray[Any] | EmbeddingResult:
        """See :meth:`EmbeddingModel.embed_query`, for asyncio, and :meth:`aembed`."""
        return await self._verbs.on_thread(self._verbs.one, text, EmbedOptions(**options), "query")

    @keywords_of(EmbedOptions)
    async def aembed_batch(
        self, texts: Iterable[str], **options: Any
    ) -> NDArray[Any] | EmbeddingResult:
        """See :meth:`EmbeddingModel.embed_batch`, for asyncio: the event loop keeps running.

        Cancelling the task stops the computation.

        Examples
        --------
        >>> import asyncio, embellama
        >>> model = embellama.EmbeddingModel("all-MiniLM-L6-v2")
        >>> asyncio.run(model.aembed_batch(["a cat", "a dog"])).shape
        (2, 384)
        """
        return await self._verbs.on_thread(self._verbs.many, texts, EmbedOptions(**options))

    @keywords_of(EmbedOptions)
    async def aembed_queries(
        self, texts: Iterable[str], **options: Any
    ) -> NDArray[Any] | EmbeddingResult:
        """See :meth:`EmbeddingModel.embed_queries`, for asyncio, and :meth:`aembed_batch`."""
        return await self._verbs.on_thread(
            self._verbs.many, texts, EmbedOptions(**options), "query"
        )

    @keywords_of(EmbedOptions)
    async def aembed_documents(
        self, texts: Iterable[str], **options: Any
    ) -> NDArray[Any] | EmbeddingResult:
        """See :meth:`EmbeddingModel.embed_documents`, for asyncio, and :meth:`aembed_batch`."""
        return await self._verbs.on_thread(
            self._verbs.many, texts, EmbedOptions(**options), "document"
        )

    @keywords_of(EmbedOptions, without=["out"])
    def embed_iter(
        self, texts: Iterable[str], *, window: int = _WINDOW_TEXTS, **options: Any
    ) -> Iterator[tuple[int, NDArray[Any] | EmbeddingResult]]:
        """Turn any number of texts into vectors, a window at a time, in bounded memory.

        Parameters
        ----------
        texts : iterable of str
            Read as the vectors are consumed; may be endless.
        window : int, optional
            Texts to read at a time (default 2048). Larger windows pack slightly better.
        **options
            As :class:`EmbedOptions`.

        Yields
        ------
        start : int
            Index of the window's first text.
        rows : numpy.ndarray, shape (n, D), or EmbeddingResult
            Vectors of the texts ``start`` to ``start + n - 1``. The result's ``errors`` have the
            indices of texts in all of `texts`.

        Raises
        ------
        InvalidInputError
            As :meth:`embed_batch`, when the window that holds the text is reached.
        ConfigurationError
            If `window` is below 1, or the value of an option unknown.
        TypeError
            As :meth:`embed_batch`.

        Notes
        -----
        `timeout` is for each window. `progress` counts the texts of all windows; the total is what
        `texts` has, or if it has no length, what was read so far.

        Examples
        --------
        >>> import embellama
        >>> model = embellama.EmbeddingModel("all-MiniLM-L6-v2")
        >>> [(start, rows.shape) for start, rows in model.embed_iter(["a cat", "a dog"])]
        [(0, (2, 384))]
        """
        return self._verbs.windows(texts, EmbedOptions(**options), size=window)

    @keywords_of(EmbedOptions, without=["truncate", "on_error", "progress"])
    def embed_tokens(self, ids: ArrayLike, **options: Any) -> NDArray[Any] | EmbeddingResult:
        """Turn token ids, such as :meth:`tokenize` gives, into a vector.

        Parameters
        ----------
        ids : array_like of int, shape (T,)
            Special tokens included.
        **options
            As :class:`EmbedOptions`.

        Returns
        -------
        numpy.ndarray, shape (D,), or EmbeddingResult

        Raises
        ------
        InvalidInputError
            If there is no token, one too many, or one that the vocabulary lacks.
        DimensionMismatchError, OperationTimeoutError
            As :meth:`embed_batch`.
        ConfigurationError
            If the model is a reranker, its pooling is NONE, or the value of an option is unknown.

        Examples
        --------
        >>> import embellama
        >>> model = embellama.EmbeddingModel("all-MiniLM-L6-v2")
        >>> vector = model.embed_tokens(model.tokenize("a cat"))
        >>> bool(abs(vector - model.embed("a cat")).max() < 1e-6)
        True
        """
        return self._verbs.embed_tokens(ids, EmbedOptions(**options))

    @keywords_of(EmbedOptions, without=[*_NOT_PER_TOKEN, "progress"])
    def embed_multi(
        self, text: str, *, special_tokens: bool = True, **options: Any
    ) -> NDArray[np.float32] | EmbeddingResult[list[NDArray[np.float32]]]:
        """Turn one text into a vector per token, as late interaction wants them.

        Of a model with dense modules after the pooling, these are the vectors before the modules,
        as sentence-transformers' token embeddings.

        Parameters
        ----------
        text : str
        special_tokens : bool, optional
            Keep the rows of the special tokens around the text (default True).
        **options
            As :class:`EmbedOptions`.

        Returns
        -------
        numpy.ndarray of float32, shape (T, D), or EmbeddingResult
            Each row normalised by itself. The result's ``embeddings`` are a list of one array.

        Raises
        ------
        InvalidInputError
            As :meth:`embed`.
        ConfigurationError
            If the model is a reranker.
        OperationTimeoutError
            If `timeout` passes.

        Examples
        --------
        >>> import embellama
        >>> model = embellama.EmbeddingModel("all-MiniLM-L6-v2")
        >>> model.embed_multi("Hello, world!").shape
        (6, 384)
        """
        return self._verbs.one_multi(text, EmbedOptions(**options), special_tokens=special_tokens)

    @keywords_of(EmbedOptions, without=_NOT_PER_TOKEN)
    def embed_batch_multi(
        self, texts: Iterable[str], *, special_tokens: bool = True, **options: Any
    ) -> list[NDArray[np.float32]] | EmbeddingResult[list[NDArray[np.float32]]]:
        """Turn texts into a vector per token each, as :meth:`embed_multi` does.

        Parameters
        ----------
        texts : iterable of str
        special_tokens : bool, optional
            Keep the rows of the special tokens around a text (default True).
        **options
            As :class:`EmbedOptions`.

        Returns
        -------
        list of numpy.ndarray of float32, each of shape (T, D), or EmbeddingResult
            Views of one array. The result's ``embeddings`` are such a list.

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
        return self._verbs.many_multi(texts, EmbedOptions(**options), special_tokens=special_tokens)

    @keywords_of(EmbedOptions, without=_NOT_PER_TOKEN)
    def rerank(
        self, query: str, documents: Iterable[str], *, top_n: int | None = None, **options: Any
    ) -> list[RerankResult]:
        """Order documents by how well they answer a query, with a cross-encoder.

        Parameters
        ----------
        query : str
        documents : iterable of str
            With `truncate`, a document is cut to what fits beside the query.
        top_n : int, optional
            How many to return. Default: all.
        **options
            As :class:`EmbedOptions`.

        Returns
        -------
        list of RerankResult
            The best first. With `details`, each has its document's tokens, and whether it was cut.

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
        return self._verbs.rerank(query, documents, EmbedOptions(**options), top_n=top_n)

    @keywords_of(EmbedOptions, without=["details", "dtype", "ranges", "on_error", "out"])
    def warm_cache(self, texts: Iterable[str], **options: Any) -> None:
        """Compute the vectors of texts that will come, so that the cache has them.

        Parameters
        ----------
        texts : iterable of str
            With the prompts that will stand before them.
        **options
            As :class:`EmbedOptions`.

        Raises
        ------
        InvalidInputError
            As :meth:`embed_batch`.
        ConfigurationError
            If the configuration turns no cache on.

        Examples
        --------
        >>> import embellama
        >>> cache = embellama.CacheConfig()
        >>> model = embellama.EmbeddingModel("all-MiniLM-L6-v2", cache=cache)
        >>> model.warm_cache(["a cat", "a dog"])
        >>> vector = model.embed("a cat")
        >>> model.cache_stats()["embeddings"].hits
        1
        """
        self._verbs.warm_cache(texts, EmbedOptions(**options))
