# SPDX-License-Identifier: Apache-2.0
"""What a model does with texts: each method of the public class, on options that were read."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from itertools import islice
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from embellama.config import ModelConfig, PoolingStrategy, as_integer
from embellama.embedding.asyncio_thread import in_daemon_thread
from embellama.embedding.call import Call
from embellama.embedding.deadline import Deadline
from embellama.embedding.embedder import Tokens
from embellama.embedding.lifecycle import Lifecycle
from embellama.embedding.options import EmbedOptions
from embellama.embedding.prompts import Purpose, prompt_for
from embellama.embedding.rows import Output
from embellama.embedding.texts import check_text, check_texts, each_text, is_one_text
from embellama.errors import ConfigurationError, EmbellamaError, InvalidInputError, safe_repr
from embellama.progress import progress_callback
from embellama.results import EmbeddingResult, RerankResult
from embellama.token_ids import token_ids

__all__ = ["Verbs"]


class Verbs:
    """What the methods of one model do.

    Parameters
    ----------
    config : ModelConfig
    lifecycle : Lifecycle
        Of the same model.
    """

    def __init__(self, config: ModelConfig, lifecycle: Lifecycle) -> None:
        self._config = config
        self._lifecycle = lifecycle
        self._name = config.name

    def one(
        self,
        text: object,
        options: EmbedOptions,
        purpose: Purpose | None = None,
        deadline: Deadline | None = None,
    ) -> NDArray[Any] | EmbeddingResult:
        """Compute the vector of a text."""
        self._require_text_vectors("use embed_multi()")
        output = Output(self._name, self._lifecycle.n_dimensions, options, lone=True)
        good: list[str] = []
        errors: dict[int, EmbellamaError] = {}
        try:
            good.append(self._prompt(purpose) + check_text(text, self._name))
        except InvalidInputError as error:
            if options.on_error == "raise":
                raise
            errors[0] = error.with_traceback(None)
        index = None if options.on_error == "raise" else 0
        deadline = deadline or Deadline(options.timeout)
        return self._compute(good, [index] * len(good), errors, output, options, deadline)

    def many(
        self,
        texts: Iterable[str],
        options: EmbedOptions,
        purpose: Purpose | None = None,
        deadline: Deadline | None = None,
        *,
        first_index: int = 0,
    ) -> NDArray[Any] | EmbeddingResult:
        """Compute a row for each text."""
        deadline = deadline or Deadline(options.timeout)
        self._require_text_vectors("use embed_batch_multi()")
        output = Output(self._name, self._lifecycle.n_dimensions, options)
        good, errors = check_texts(
            texts,
            self._name,
            prompt=self._prompt(purpose),
            first_index=first_index,
            on_error=options.on_error,
            deadline=deadline,
        )
        n_texts = len(good) + len(errors)
        indices = [i for i in range(first_index, first_index + n_texts) if i not in errors]
        return self._compute(good, indices, errors, output, options, deadline, first_index)

    def one_or_many(
        self,
        texts: object,
        options: EmbedOptions,
        purpose: Purpose | None = None,
        deadline: Deadline | None = None,
    ) -> NDArray[Any] | EmbeddingResult:
        """Compute the vector of a text, or a row for each of several."""
        if is_one_text(texts):
            return self.one(texts, options, purpose, deadline)
        return self.many(cast("Iterable[str]", texts), options, purpose, deadline)

    async def on_thread(
        self,
        compute: Callable[..., NDArray[Any] | EmbeddingResult],
        texts: object,
        options: EmbedOptions,
        purpose: Purpose | None = None,
    ) -> NDArray[Any] | EmbeddingResult:
        """Have one of the methods above compute on a thread, until the task is cancelled."""
        deadline = Deadline(options.timeout)
        try:
            return await in_daemon_thread(
                lambda: compute(texts, options, purpose, deadline), deadline
            )
        finally:
            deadline.cancel()

    def _prompt(self, purpose: Purpose | None) -> str:
        return prompt_for(purpose, self._config, self._lifecycle.info)

    def vector(self, text: object, purpose: Purpose | None = None) -> NDArray[np.float32]:
        """Compute the vector of a text without options, the shortest way there is."""
        checked = check_text(text, self._name)
        self._require_text_vectors("use embed_multi()")
        return self._lifecycle.loaded().text_embedder.vector(self._prompt(purpose) + checked)

    def _compute(
        self,
        good: list[str],
        indices: Sequence[int | None],
        errors: dict[int, EmbellamaError],
        output: Output,
        options: EmbedOptions,
        deadline: Deadline,
        first_index: int = 0,
    ) -> NDArray[Any] | EmbeddingResult:
        """Compute the vectors of the texts that were found good."""
        text_embedder = self._lifecycle.loaded().text_embedder
        n_texts = len(good) + len(errors)
        positions = [(index or first_index) - first_index for index in indices]
        rows = output.rows(n_texts, np.array(positions, dtype=np.int64))
        skipped = errors if options.on_error == "nan" else None
        with progress_callback(options.progress, len(good)) as report:
            call = Call(deadline, progress=report, errors=skipped, truncate=options.truncate)
            embedded = text_embedder.embed(good, indices, rows, call)
        counts = np.zeros(n_texts, dtype=np.int32)
        truncated = np.zeros(n_texts, dtype=np.bool_)
        counts[embedded.row_of_text] = embedded.token_counts
        truncated[embedded.row_of_text] = embedded.truncated
        for index in errors:
            rows.array[index - first_index] = np.nan
        vectors = output.finished(rows)
        if not options.details:
            return vectors
        vectors = np.atleast_2d(vectors)
        return EmbeddingResult(vectors, counts, truncated, dict(sorted(errors.items())))

    def windows(
        self, texts: Iterable[str], options: EmbedOptions, *, size: int
    ) -> Iterator[tuple[int, NDArray[Any] | EmbeddingResult]]:
        """Compute the rows of texts, a window at a time."""
        source = cast("Iterator[str]", each_text(texts, self._name))
        if as_integer("window", size) < 1:
            raise ConfigurationError(f"window must be at least 1, not {safe_repr(size)}")
        total = len(texts) if isinstance(texts, Sized) else None
        start = 0
        with progress_callback(options.progress, total) as report:
            while taken := list(islice(source, min(size, sys.maxsize))):
                window = dataclasses.replace(
                    options, progress=False if report is None else _shifted(report, start, total)
                )
                yield start, self.many(taken, window, first_index=start)
                start += len(taken)

    def embed_tokens(self, ids: ArrayLike, options: EmbedOptions) -> NDArray[Any] | EmbeddingResult:
        """Compute the vector of token ids."""
        self._require_text_vectors("there is none: load the model with another pooling")
        output = Output(self._name, self._lifecycle.n_dimensions, options, lone=True)
        embedder = self._lifecycle.loaded().embedder
        array = token_ids(ids, self._name, len(embedder.vocabulary))
        longest = embedder.max_sequence_length
        if not 1 <= len(array) <= longest:
            raise InvalidInputError(
                f"{self._name}: a text has from 1 to {longest} tokens, not {len(array)}"
            )
        offsets = np.array([0, len(array)], dtype=np.int64)
        tokens = Tokens(array, offsets, np.zeros(1, dtype=np.bool_), [None])
        rows = output.rows(1, np.zeros(1, dtype=np.int64))
        embedder.compute(tokens, rows, Call(Deadline(options.timeout)))
        vector = output.finished(rows)
        if options.details:
            return EmbeddingResult(np.atleast_2d(vector), tokens.counts, tokens.truncated)
        return vector

    def one_multi(
        self, text: object, options: EmbedOptions, *, special_tokens: bool
    ) -> NDArray[np.float32] | EmbeddingResult[list[NDArray[np.float32]]]:
        """Compute a vector per token of a text."""
        good = [check_text(text, self._name)]
        result = self._multi(good, [None], options, Deadline(options.timeout), special_tokens)
        return result if options.details else result.embeddings[0]

    def many_multi(
        self, texts: Iterable[str], options: EmbedOptions, *, special_tokens: bool
    ) -> list[NDArray[np.float32]] | EmbeddingResult[list[NDArray[np.float32]]]:
        """Compute a vector per token of each text."""
        deadline = Deadline(options.timeout)
        good, _ = check_texts(texts, self._name, deadline=deadline)
        result = self._multi(good, range(len(good)), options, deadline, special_tokens)
        return result if options.details else result.embeddings

    def _multi(
        self,
        good: list[str],
        indices: Sequence[int | None],
        options: EmbedOptions,
        deadline: Deadline,
        special_tokens: bool,
    ) -> EmbeddingResult[list[NDArray[np.float32]]]:
        self._require_no_reranker()
        loaded = self._lifecycle.loaded()
        embedder = loaded.embedder
        with progress_callback(options.progress, len(good)) as report:
            call = Call(deadline, progress=report, truncate=options.truncate)
            truncation = embedder.truncation(call)
            tokenized = loaded.text_embedder.tokenize(good, call, truncation=truncation)
            tokens = embedder.require_fitting(tokenized, indices, call)
            rows = embedder.vectors(tokens, call, per_token=True)
        parts = np.split(rows, tokens.offsets[1:-1]) if good else []
        if not special_tokens:
            first, last = embedder.vocabulary.n_prefix, embedder.n_final_tokens
            parts = [part[first : len(part) - last] for part in parts]
        return EmbeddingResult(parts, tokens.counts, tokens.truncated)

    def rerank(
        self, query: str, documents: Iterable[str], options: EmbedOptions, *, top_n: int | None
    ) -> list[RerankResult]:
        """Order documents by their scores."""
        if self._lifecycle.pooling is not PoolingStrategy.RANK:
            has_head = self._lifecycle.info.has_classification_head
            remedy = 'it with pooling="rank"' if has_head else "a model with a classification head"
            raise ConfigurationError(f"{self._name} is no reranker: load {remedy}")
        if top_n is not None and as_integer("top_n", top_n) < 0:
            raise ConfigurationError(f"top_n must not be negative: {safe_repr(top_n)}")
        deadline = Deadline(options.timeout)
        query = check_text(query, self._name)
        texts, _ = check_texts(documents, self._name, deadline=deadline)
        embedder = self._lifecycle.loaded().embedder
        with progress_callback(options.progress, len(texts)) as report:
            call = Call(deadline, progress=report, truncate=options.truncate)
            tokens = embedder.tokenize_pairs(query, texts, call)
            scores = embedder.vectors(tokens, call)[:, 0]
        counts = tokens.counts
        best = np.argsort(-scores, kind="stable")[:top_n].tolist()
        if not options.details:
            return [RerankResult(i, float(scores[i]), texts[i]) for i in best]
        return [
            RerankResult(i, float(scores[i]), texts[i], int(counts[i]), bool(tokens.truncated[i]))
            for i in best
        ]

    def warm_cache(self, texts: Iterable[str], options: EmbedOptions) -> None:
        """Compute vectors for the cache only."""
        if self._lifecycle.cache is None:
            raise ConfigurationError(f"{self._name} has no cache: load it with cache=CacheConfig()")
        self.many(texts, options)

    def _require_no_reranker(self) -> None:
        if self._lifecycle.pooling is PoolingStrategy.RANK:
            raise ConfigurationError(f"{self._name} is a reranker: use rerank()")

    def _require_text_vectors(self, per_token: str) -> None:
        """Raise unless texts have vectors; `per_token` does what can be done without pooling."""
        self._require_no_reranker()
        if self._lifecycle.pooling is PoolingStrategy.NONE:
            raise ConfigurationError(f"{self._name}: with pooling NONE {per_token}")


def _shifted(
    report: Callable[[int, int], None], start: int, total: int | None
) -> Callable[[int, int], None]:
    """Report a window's progress as that of all windows, or of those that were read."""
    return lambda done, n_texts: report(start + done, start + n_texts if total is None else total)
