# SPDX-License-Identifier: Apache-2.0
"""From checked texts to rows of numbers, on a model whose weights are in memory."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embellama import batch
from embellama.config import (
    MAX_SEQUENCES,
    Accuracy,
    ModelConfig,
    NormalizationMode,
    PNorm,
    PoolingStrategy,
)
from embellama.core import Model
from embellama.embedding.deadline import Deadline
from embellama.errors import (
    BatchError,
    EmbeddingGenerationError,
    EmbellamaError,
    InvalidInputError,
    TokenizationError,
    not_finite,
)
from embellama.jobs import Failure
from embellama.machine.cores import usable_cores
from embellama.model_info import ModelInfo
from embellama.workers import Workers

__all__ = ["Embedded", "Embedder", "Index", "Tokens"]

# Where a text stood in the caller's list; None for a lone text.
Index = int | None
# Why a text can't be tokenized, and what Workers.tokenize returns.
Refused = tuple[type[EmbellamaError], str]
Tokenized = tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.bool_], dict[int, Refused]]


@dataclasses.dataclass(frozen=True)
class Tokens:
    """Tokenized texts: text i has ``ids[offsets[i]:offsets[i + 1]]``."""

    ids: NDArray[np.int32]
    offsets: NDArray[np.int64]
    truncated: NDArray[np.bool_]
    indices: Sequence[Index]

    @property
    def counts(self) -> NDArray[np.int32]:
        """Tokens of each text."""
        return np.diff(self.offsets).astype(np.int32)


@dataclasses.dataclass(frozen=True)
class Embedded:
    """Which rows were written, with the tokens of each text and whether it was cut."""

    rows: NDArray[np.int64]
    token_counts: NDArray[np.int32]
    truncated: NDArray[np.bool_]


class Embedder:
    """The weights, the workers, and the limits that hold for them.

    Parameters
    ----------
    path : str
        A GGUF file that :func:`embellama.gguf.check.check_model` accepts.
    config : ModelConfig
    info : ModelInfo
    pooling : PoolingStrategy
    """

    def __init__(
        self, path: str, config: ModelConfig, info: ModelInfo, pooling: PoolingStrategy
    ) -> None:
        self._config = config
        self._info = info
        self._pooling = pooling
        self._max_texts = config.n_seq_max or MAX_SEQUENCES
        model = Model(
            path,
            use_mmap=config.use_mmap,
            use_mlock=config.use_mlock,
            n_gpu_layers=config.n_gpu_layers,
            architecture=info.architecture,
            exact=config.accuracy is Accuracy.EXACT,
            instruction_set=config.instruction_set or "",
        )
        self.model = model
        self.n_dims = model.n_dimensions
        self.size = model.size
        self.instruction_set = model.instruction_set
        self.n_threads = config.n_threads or usable_cores()
        self._workers = Workers(
            model,
            config.name,
            n_threads=self.n_threads,
            micro_batch_tokens=config.micro_batch_tokens or batch.MICRO_BATCH_TOKENS,
            n_sequences=self._max_texts,
            ranks=pooling is PoolingStrategy.RANK,
        )
        self.vocabulary = self._workers.vocabulary
        self.longest = config.n_ctx or info.context_length

    def close(self) -> None:
        """Free everything, after the calls under way have ended."""
        self._workers.close()

    def tokenize(
        self, texts: Sequence[str], indices: Sequence[Index], *, deadline: Deadline | None = None
    ) -> Tokens:
        """Tokenize without cutting; a text that can't be tokenized raises."""
        ids, offsets, truncated, refused = self._tokenize(texts, 0, deadline)
        self._raise_first(refused, indices)
        return Tokens(ids, offsets, truncated, indices)

    def _tokenize(self, texts: Sequence[str], limit: int, deadline: Deadline | None) -> Tokenized:
        return self._workers.tokenize(
            tuple(texts),
            parse_special=self._config.parse_special,
            limit=limit,
            final_id=self._final_id,
            deadline=deadline,
        )

    def _refusal(self, refused: Refused, index: Index) -> EmbellamaError:
        kind, reason = refused
        error = kind(f"{self._config.name}: {_where(index)}: {reason}")
        if isinstance(error, (InvalidInputError, TokenizationError)):
            error.index = index
        return error

    def _raise_first(self, refused: dict[int, Refused], indices: Sequence[Index]) -> None:
        for position in sorted(refused):
            raise self._refusal(refused[position], indices[position])

    @property
    def _final_id(self) -> int:
        # Causal embedders are trained to gather the text's meaning in its last token, EOS.
        return self.vocabulary.eos if self._pooling is PoolingStrategy.LAST else -1

    @property
    def micro_batch_tokens(self) -> int:
        """The token budget of a micro-batch."""
        return self._workers.micro_batch_tokens

    @micro_batch_tokens.setter
    def micro_batch_tokens(self, n_tokens: int) -> None:
        self._workers.micro_batch_tokens = n_tokens

    @property
    def _limit(self) -> int:
        truncate = self._config.truncate
        return self.longest if isinstance(truncate, bool) else min(truncate, self.longest)

    def tokenize_fitting(
        self,
        texts: Sequence[str],
        indices: Sequence[Index],
        *,
        errors: dict[int, EmbellamaError] | None = None,
        deadline: Deadline | None = None,
    ) -> Tokens:
        """Tokenize and cut; a text without tokens that fit raises, or goes into `errors`."""
        limit = self._limit if self._config.truncate is not False else 0
        ids, offsets, truncated, refused = self._tokenize(texts, limit, deadline)
        tokens = Tokens(ids, offsets, truncated, indices)
        counts = tokens.counts
        # A vocabulary without special tokens may drop a whole text, and pooling needs a row.
        fits = (counts >= 1) & (counts <= self.longest)
        if fits.all():
            return tokens

        def why(position: int) -> EmbellamaError:
            if position in refused:
                return self._refusal(refused[position], indices[position])
            return self._unfit(int(counts[position]), indices[position])

        for position in np.flatnonzero(~fits).tolist():
            index = indices[position]
            if errors is None or index is None:
                # From no variable of this frame: its traceback has the frame, and the two would
                # keep all these arrays until the garbage collector comes.
                raise why(position)
            errors[index] = why(position)
        return Tokens(
            ids[np.repeat(fits, counts)],
            np.concatenate([[0], np.cumsum(counts[fits])]).astype(np.int64),
            truncated[fits],
            [indices[position] for position in np.flatnonzero(fits).tolist()],
        )

    def _unfit(self, count: int, index: Index, what: str = "") -> InvalidInputError:
        if count == 0:
            return InvalidInputError(
                f"{self._config.name}: {_where(index)} has no token: leave it out", index=index
            )
        return InvalidInputError(
            f"{self._config.name}: {_where(index)} has {count} tokens{what}, {self.longest} is "
            "the limit: split it, or use truncate=True",
            index=index,
        )

    def tokenize_pairs(
        self, query: str, documents: list[str], deadline: Deadline | None = None
    ) -> Tokens:
        """Join the query with each document as the vocabulary demands, cutting documents only."""
        template = self._info.metadata.get("tokenizer.chat_template.rerank")
        indices = list(range(len(documents)))
        if template is not None:
            # Rerankers made from causal models bring the sentence to fill in (llama-server's
            # format_prompt_rerank does the same).
            filled = tuple(_fill(template, query, document) for document in documents)
            ids, offsets, truncated, refused = self._workers.tokenize(
                filled, add_special=False, deadline=deadline
            )
            self._raise_first(refused, indices)
            tokens = Tokens(ids, offsets, truncated, indices)
            self._check_pairs(tokens)
            return tokens
        before, between, after = self.vocabulary.pair_frame
        ids, offsets, _, refused = self._workers.tokenize(
            (query, *documents),
            add_special=False,
            parse_special=self._config.parse_special,
            deadline=deadline,
        )
        self._raise_first(refused, [None, *indices])
        head = np.concatenate([before, ids[: offsets[1]], between]).astype(np.int32)
        tail = np.array(after, dtype=np.int32)
        room = self._limit - len(head) - len(tail)
        if room < 1:
            raise InvalidInputError(
                f"{self._config.name}: the query has {offsets[1]} tokens, which leaves no room "
                "for a document: shorten it"
            )
        lengths = np.diff(offsets[1:])
        kept = np.minimum(lengths, room) if self._config.truncate is not False else lengths
        pairs = [
            part
            for first, length in zip(offsets[1:-1], kept, strict=True)
            for part in (head, ids[first : first + length], tail)
        ]
        joined = kept + len(head) + len(tail)
        tokens = Tokens(
            np.concatenate([*pairs, np.zeros(0, dtype=np.int32)]),
            np.concatenate([[0], np.cumsum(joined)]).astype(np.int64),
            kept < lengths,
            indices,
        )
        self._check_pairs(tokens)
        return tokens

    def _check_pairs(self, tokens: Tokens) -> None:
        too_long = np.flatnonzero(tokens.counts > self.longest)
        if len(too_long):
            index = int(too_long[0])
            raise self._unfit(int(tokens.counts[index]), index, " with the query")

    def vector(self, text: str) -> NDArray[np.float32]:
        """Compute the vector of one text."""
        norm, p = _norm(self._config.normalization)
        vector: NDArray[np.float32] | None = self._workers.embed_short(
            text,
            n_dims=self.n_dims,
            longest=self.longest,
            pooling=self._pooling.value,
            norm=norm,
            p=p,
            parse_special=self._config.parse_special,
            limit=self._limit if self._config.truncate is not False else 0,
            final_id=self._final_id,
        )
        if vector is None:
            vector = self.vectors(self.tokenize_fitting([text], [None]))[0]
        return vector

    def embed(
        self,
        texts: Sequence[str],
        indices: Sequence[Index],
        rows: NDArray[np.int64],
        out: NDArray[Any],
        *,
        n_dims: int,
        dtype: str = "float32",
        levels: NDArray[np.float32] | None = None,
        errors: dict[int, EmbellamaError] | None = None,
        deadline: Deadline | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Embedded:
        """Write the vector of text i to row ``rows[i]`` of `out`.

        A text that has none raises, or goes into `errors` and is left out;
        :func:`embellama.quantize` says what `dtype` means and
        :func:`embellama.quantization.quantization_levels` makes `levels`.
        """
        tokens = self.tokenize_fitting(texts, indices, errors=errors, deadline=deadline)
        if len(tokens.indices) < len(indices):
            row_of = dict(zip(indices, rows.tolist(), strict=True))
            rows = np.array([row_of[index] for index in tokens.indices], dtype=np.int64)
        self.vectors(
            tokens,
            n_dims=n_dims,
            out=out,
            dtype=dtype,
            levels=levels,
            places=rows,
            errors=errors,
            deadline=deadline,
            progress=progress,
        )
        return Embedded(rows, tokens.counts, tokens.truncated)

    def vectors(
        self,
        tokens: Tokens,
        *,
        n_dims: int | None = None,
        per_token: bool = False,
        out: NDArray[Any] | None = None,
        dtype: str = "float32",
        levels: NDArray[np.float32] | None = None,
        places: NDArray[np.int64] | None = None,
        errors: dict[int, EmbellamaError] | None = None,
        deadline: Deadline | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> NDArray[Any]:
        """Compute a row per text, or per token; a failure raises, or goes into `errors`.

        A reranker's rows are the scores of its head.
        """
        counts = tokens.counts
        order, bounds = batch.plan(
            counts,
            max_tokens=self.micro_batch_tokens,
            max_texts=self._max_texts,
            n_workers=self.n_threads,
        )
        if n_dims is None:
            ranks = self._pooling is PoolingStrategy.RANK
            n_dims = self._info.n_scores if ranks else self.n_dims
        if out is None:
            rows = int(counts.sum()) if per_token else len(counts)
            out = np.empty((rows, n_dims), dtype=np.float32)
        norm, p = _norm(self._config.normalization)
        failed = self._failures(
            tokens.indices,
            *self._workers.embed(
                tokens.ids,
                tokens.offsets,
                order,
                bounds,
                out,
                n_dims=n_dims,
                pooling=self._pooling.value,
                norm=norm,
                p=p,
                per_token=per_token,
                dtype=dtype,
                levels=levels,
                places=places,
                deadline=deadline,
                progress=progress,
            ),
        )
        if errors is None:
            self._raise(failed)
        else:
            errors.update((index, error) for index, error in failed.items() if index is not None)
        return out

    def _raise(self, failed: dict[Index, EmbellamaError]) -> None:
        if len(failed) == 1:
            raise failed.popitem()[1]
        if failed:
            raise BatchError(
                f"{self._config.name}: {len(failed)} texts were not computed, the first because: "
                f"{next(iter(failed.values()))}",
                {index: error for index, error in failed.items() if index is not None},
            )

    def _failures(
        self, indices: Sequence[Index], failures: NDArray[np.int8], reason: Exception | None
    ) -> dict[Index, EmbellamaError]:
        return {
            indices[position]: self._failure(int(failures[position]), indices[position], reason)
            for position in np.flatnonzero(failures).tolist()
        }

    def _failure(self, failure: int, index: Index, reason: Exception | None) -> EmbellamaError:
        if failure == Failure.NOT_FINITE:
            return EmbeddingGenerationError(not_finite(f"{self._config.name}: {_where(index)}"))
        if isinstance(reason, EmbellamaError):
            return reason
        return EmbeddingGenerationError(f"{self._config.name}: {_where(index)} was not computed")


def _fill(template: str, query: str, document: str) -> str:
    """In one pass: a query that spells {document} stays what it is."""
    values = {"{query}": query, "{document}": document}
    return re.sub(r"\{query\}|\{document\}", lambda match: values[match[0]], template)


def _where(index: Index) -> str:
    return "the text" if index is None else f"text {index}"


def _norm(normalization: NormalizationMode | PNorm) -> tuple[str, float]:
    if isinstance(normalization, PNorm):
        return "p", normalization.p
    return normalization.value, 2.0
