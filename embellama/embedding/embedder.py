# SPDX-License-Identifier: Apache-2.0
"""From checked texts to rows of numbers, on a model whose weights are in memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

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
from embellama.embedding.call import Call
from embellama.embedding.pair_template import split_template
from embellama.embedding.rows import Rows
from embellama.errors import (
    BatchError,
    EmbeddingGenerationError,
    EmbellamaError,
    InvalidInputError,
    ResourceLimitError,
    TokenizationError,
    not_finite,
)
from embellama.file_info import ModelInfo
from embellama.gguf.memory import key_value_bytes
from embellama.machine.cores import usable_cores
from embellama.machine.usable_memory import usable_memory
from embellama.workers import Failure, Workers

__all__ = ["Embedded", "Embedder", "Index", "Tokens"]

# Keys and values of fewer tokens are small beside the weights, and asking for the usable memory
# takes some 50 microseconds.
_LONG_TEXT_TOKENS = 4096

# The position of a text in the caller's list; None for a lone text.
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
    """The texts whose vectors were written: their rows, tokens, and which of them were cut."""

    row_of_text: NDArray[np.int64]
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
            half_keys=config.keys_in_float16,
            layer_norm_before_cut=info.layer_norm_before_cut,
        )
        self.vocabulary = self._workers.vocabulary
        self.max_sequence_length = config.n_ctx or info.context_length

    def close(self) -> None:
        """Free everything, after the calls under way have ended."""
        self._workers.close()

    def truncation(self, call: Call) -> int:
        """At how many tokens a call cuts a text; 0 where a text that is too long is an error."""
        return 0 if self._truncate(call) is False else self._most_tokens(call)

    def _truncate(self, call: Call) -> bool | int:
        return self._config.truncate if call.truncate is None else call.truncate

    def _most_tokens(self, call: Call) -> int:
        truncate = self._truncate(call)
        if truncate is True:
            return self._config.n_ctx or self._info.max_seq_length
        longest = self.max_sequence_length
        return longest if truncate is False else min(truncate, longest)

    def tokenize(self, texts: Sequence[str], call: Call, *, truncation: int = 0) -> Tokenized:
        """Tokenize texts, and cut them where `truncation` is not 0."""
        return self._workers.tokenize(
            tuple(texts),
            call,
            parse_special=self._config.parse_special,
            limit=truncation,
            final_id=self._final_id,
        )

    def require_tokens(self, tokenized: Tokenized, indices: Sequence[Index]) -> Tokens:
        """Return the tokens of all texts; one that can't be tokenized raises."""
        ids, offsets, truncated, refused = tokenized
        self._raise_first(refused, indices)
        return Tokens(ids, offsets, truncated, indices)

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
    def n_final_tokens(self) -> int:
        """How many special tokens are behind a text."""
        appends = self._final_id >= 0 and self.vocabulary.pair_frame[2][-1:] != [self._final_id]
        return self.vocabulary.n_suffix + appends

    @property
    def micro_batch_tokens(self) -> int:
        """The token budget of a micro-batch."""
        return self._workers.micro_batch_tokens

    @micro_batch_tokens.setter
    def micro_batch_tokens(self, n_tokens: int) -> None:
        self._workers.micro_batch_tokens = n_tokens

    def require_fitting(self, tokenized: Tokenized, indices: Sequence[Index], call: Call) -> Tokens:
        """Return the tokens of the texts that a vector can be computed for.

        One of the others raises, or is left out and goes into ``call.errors``.
        """
        ids, offsets, truncated, refused = tokenized
        tokens = Tokens(ids, offsets, truncated, indices)
        counts = tokens.counts
        # A vocabulary without special tokens may drop a whole text, and pooling needs a row.
        fits = (counts >= 1) & (counts <= self.max_sequence_length)
        if fits.all():
            return tokens

        def why(position: int) -> EmbellamaError:
            if position in refused:
                return self._refusal(refused[position], indices[position])
            return self._unfit(int(counts[position]), indices[position])

        for position in np.flatnonzero(~fits).tolist():
            index = indices[position]
            if call.errors is None or index is None:
                # The expression itself: a local variable that holds the exception would form a
                # cycle (exception, traceback, frame), which keeps these arrays alive until the
                # next garbage collection.
                raise why(position)
            call.errors[index] = why(position)
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
            f"{self._config.name}: {_where(index)} has {count} tokens{what}, "
            f"{self.max_sequence_length} is the limit: split it, or use truncate=True",
            index=index,
        )

    def tokenize_pairs(self, query: str, documents: list[str], call: Call) -> Tokens:
        """Join the query with each document as the model demands; only documents are cut."""
        template = self._info.metadata.get("tokenizer.chat_template.rerank")
        if template is not None:
            return self._fill_template(template, query, documents, call)
        before, between, after = self.vocabulary.pair_frame
        indices: list[Index] = [None, *range(len(documents))]
        ids, offsets = self._tokenize_parts([query, *documents], indices, call)
        head = np.concatenate([before, ids[: offsets[1]], between]).astype(np.int32)
        return self._join(
            head, ids, offsets[1:], np.array(after, dtype=np.int32), f"query has {offsets[1]}", call
        )

    def _fill_template(self, template: str, query: str, documents: list[str], call: Call) -> Tokens:
        """As llama-server's format_prompt_rerank, but what a text spells can't end the prompt."""
        parts = split_template(template, self._info.special_tokens)
        frame, ends = self._tokenize_parts(
            [parts.prefix, parts.suffix], [None, None], call, parse_special=True
        )
        filled = [parts.fill(query, document) for document in documents]
        ids, offsets = self._tokenize_parts(filled, range(len(filled)), call)
        prefix, suffix = frame[: ends[1]], frame[ends[1] :]
        return self._join(prefix, ids, offsets, suffix, f"model's prompt has {len(frame)}", call)

    def _tokenize_parts(
        self,
        parts: list[str],
        indices: Sequence[Index],
        call: Call,
        *,
        parse_special: bool | None = None,
    ) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        if parse_special is None:
            parse_special = self._config.parse_special
        ids, offsets, _, refused = self._workers.tokenize(
            tuple(parts), call, add_special=False, parse_special=parse_special
        )
        self._raise_first(refused, indices)
        return ids, offsets

    def _join(
        self,
        head: NDArray[np.int32],
        ids: NDArray[np.int32],
        offsets: NDArray[np.int64],
        tail: NDArray[np.int32],
        around: str,
        call: Call,
    ) -> Tokens:
        """Put head and tail around each text, which is cut to the room between them."""
        room = self._most_tokens(call) - len(head) - len(tail)
        if room < 1:
            raise InvalidInputError(
                f"{self._config.name}: the {around} tokens, which leaves no room for a document: "
                f"{self._room_by(around, call)}"
            )
        lengths = np.diff(offsets)
        kept = np.minimum(lengths, room) if self._truncate(call) is not False else lengths
        pairs = [
            part
            for first, length in zip(offsets[:-1], kept, strict=True)
            for part in (head, ids[first : first + length], tail)
        ]
        tokens = Tokens(
            np.concatenate([*pairs, np.zeros(0, dtype=np.int32)]),
            np.concatenate([[0], np.cumsum(kept + len(head) + len(tail))]).astype(np.int64),
            kept < lengths,
            list(range(len(lengths))),
        )
        self._check_pairs(tokens)
        return tokens

    def _room_by(self, around: str, call: Call) -> str:
        """Return what makes room for a document."""
        longest, possible = self.max_sequence_length, self._info.context_length
        ways = ["shorten the query"] if around.startswith("query") else []
        if self._most_tokens(call) < longest:
            ways.append(f"use truncate={longest}")
        elif longest < possible:
            ways.append(f"load the model with n_ctx={possible}")
        return ", or ".join(ways) or "use another model"

    def _check_pairs(self, tokens: Tokens) -> None:
        too_long = np.flatnonzero(tokens.counts > self.max_sequence_length)
        if len(too_long):
            index = int(too_long[0])
            raise self._unfit(int(tokens.counts[index]), index, " with the query")

    def vector(self, text: str) -> NDArray[np.float32]:
        """Compute the vector of one text."""
        norm, p = _norm(self._config.normalization)
        vector: NDArray[np.float32] | None = self._workers.embed_short(
            text,
            n_dims=self.n_dims,
            longest=self.max_sequence_length,
            pooling=self._pooling.value,
            norm=norm,
            p=p,
            parse_special=self._config.parse_special,
            limit=self.truncation(call := Call()),
            final_id=self._final_id,
        )
        if vector is None:
            tokenized = self.tokenize([text], call, truncation=self.truncation(call))
            vector = self.vectors(self.require_fitting(tokenized, [None], call), call)[0]
        return vector

    def embed(
        self, texts: Sequence[str], indices: Sequence[Index], rows: Rows, call: Call
    ) -> Embedded:
        """Write the vectors of texts; a text that has none raises, or goes into ``call.errors``."""
        tokenized = self.tokenize(texts, call, truncation=self.truncation(call))
        return self.embed_tokenized(tokenized, indices, rows, call)

    def embed_tokenized(
        self, tokenized: Tokenized, indices: Sequence[Index], rows: Rows, call: Call
    ) -> Embedded:
        """Write the vectors of texts as :meth:`embed` does, once they are tokenized."""
        tokens = self.require_fitting(tokenized, indices, call)
        if len(tokens.indices) < len(indices):
            position = {index: i for i, index in enumerate(indices)}
            rows = rows.of_texts(np.array([position[i] for i in tokens.indices], dtype=np.intp))
        self.compute(tokens, rows, call)
        return Embedded(rows.row_of_text, tokens.counts, tokens.truncated)

    def vectors(
        self, tokens: Tokens, call: Call, *, per_token: bool = False
    ) -> NDArray[np.float32]:
        """Return a row per text, or per token; a reranker's are the scores of its head."""
        is_reranker = self._pooling is PoolingStrategy.RANK
        n_dims = self._info.n_scores if is_reranker else self.n_dims
        if per_token:
            n_dims = self.model.n_token_dimensions
        n_texts = len(tokens.offsets) - 1
        row_of_text = tokens.offsets[:-1] if per_token else np.arange(n_texts, dtype=np.int64)
        array = np.empty((len(tokens.ids) if per_token else n_texts, n_dims), dtype=np.float32)
        self.compute(tokens, Rows(array, n_dims, row_of_text, per_token=per_token), call)
        return array

    def compute(self, tokens: Tokens, rows: Rows, call: Call) -> None:
        """Write the rows of tokenized texts; a failure raises, or goes into ``call.errors``."""
        self._require_memory(int(tokens.counts.max(initial=0)))
        order, bounds = batch.plan(
            tokens.counts,
            max_tokens=self.micro_batch_tokens,
            max_texts=self._max_texts,
            n_workers=self.n_threads,
        )
        norm, p = _norm(self._config.normalization)
        failures, reason = self._workers.embed(
            tokens.ids,
            tokens.offsets,
            order,
            bounds,
            rows,
            call,
            pooling=self._pooling.value,
            norm=norm,
            p=p,
        )
        failed = self._failures(tokens.indices, failures, reason)
        if call.errors is None:
            self._raise(failed)
        else:
            call.errors.update(
                (index, error) for index, error in failed.items() if index is not None
            )

    def _require_memory(self, longest: int) -> None:
        # Linux grants memory that it does not have, and ends the process when that is used.
        if longest < _LONG_TEXT_TOKENS or not self._info.is_causal:
            return
        wanted = key_value_bytes(
            self._info.header, longest, in_float16=self._config.keys_in_float16
        )
        if wanted > (usable := usable_memory()):
            raise ResourceLimitError(
                f"{self._config.name}: the keys and values of a text of {longest} tokens take "
                f"{wanted / 1e9:.1f} GB, and this process can have {usable / 1e9:.1f} GB: split "
                "the text, use truncate, or load the model with keys_in_float16=True"
            )

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


def _where(index: Index) -> str:
    return "the text" if index is None else f"text {index}"


def _norm(normalization: NormalizationMode | PNorm) -> tuple[str, float]:
    if isinstance(normalization, PNorm):
        return "p", normalization.p
    return normalization.value, 2.0
