# SPDX-License-Identifier: Apache-2.0
"""An embedder behind a cache: texts that come again are not computed a second time."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from embellama.embedding.cache import CachedTokens, CachedVector, ModelCache
from embellama.embedding.call import Call
from embellama.embedding.embedder import Embedded, Embedder, Index, Tokenized
from embellama.embedding.rows import Rows
from embellama.kernels import quantize_rows

__all__ = ["CachedEmbedder"]


class CachedEmbedder:
    """What looks into a cache first, and has an embedder compute what is missing there.

    Parameters
    ----------
    embedder : Embedder
    identity : str
        All that a vector depends on beside its text: part of each key of the cache.
    cache : ModelCache
        Outlives this object: a model that is loaded again finds what it knew.
    """

    def __init__(self, embedder: Embedder, identity: str, cache: ModelCache) -> None:
        self._embedder = embedder
        self._identity = identity
        self._cache = cache

    def tokenize(self, texts: Sequence[str], call: Call, *, truncation: int = 0) -> Tokenized:
        """Tokenize texts as the embedder does, each unknown one once."""
        cache = self._cache.tokens
        if cache is None:
            return self._embedder.tokenize(texts, call, truncation=truncation)
        found = cache.get([(self._identity, truncation, text) for text in texts])
        entries = {
            text: entry for text, entry in zip(texts, found, strict=True) if entry is not None
        }
        missing = [text for text in dict.fromkeys(texts) if text not in entries]
        ids, offsets, truncated, refused = self._embedder.tokenize(
            missing, call, truncation=truncation
        )
        for i, text in enumerate(missing):
            entry = CachedTokens(ids[offsets[i] : offsets[i + 1]].copy(), bool(truncated[i]))
            entries[text] = entry
            if i not in refused:
                cache.put((self._identity, truncation, text), text, entry)
        parts = [entries[text] for text in texts]
        lengths = [len(part.ids) for part in parts]
        reasons = {missing[i]: reason for i, reason in refused.items()}
        return (
            np.concatenate([part.ids for part in parts] or [ids]),
            np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            np.array([part.truncated for part in parts], dtype=np.bool_),
            {i: reasons[text] for i, text in enumerate(texts) if text in reasons},
        )

    def vector(self, text: str) -> NDArray[np.float32]:
        """Return the vector of one text."""
        n_dims = self._embedder.n_dims
        vector = np.empty((1, n_dims), dtype=np.float32)
        self.embed([text], [None], Rows(vector, n_dims, np.zeros(1, dtype=np.int64)), Call())
        row: NDArray[np.float32] = vector[0]
        return row

    def embed(
        self, texts: Sequence[str], indices: Sequence[Index], rows: Rows, call: Call
    ) -> Embedded:
        """Write the vectors of texts as the embedder does, computing each unknown one once."""
        cache = self._cache.embeddings
        if cache is None:
            return self._embed(texts, indices, rows, call)
        kind = (self._identity, rows.n_dims, self._embedder.truncation(call))
        found = cache.get([(*kind, text) for text in texts])
        entries = {
            text: entry for text, entry in zip(texts, found, strict=True) if entry is not None
        }

        def compute(positions: list[int]) -> dict[str, CachedVector]:
            if not positions:
                return {}
            report = call.progress and partial(_report, call.progress, len(texts))
            return self._compute(
                [texts[i] for i in positions],
                [indices[i] for i in positions],
                rows.n_dims,
                dataclasses.replace(call, progress=report),
            )

        missing = [i for i, text in enumerate(texts) if text not in entries]
        entries |= compute(sorted({texts[i]: i for i in reversed(missing)}.values()))
        # Of equal texts the first is computed. Where that fails, the others are computed too, so
        # that each has an error with its own index.
        failed = call.errors or {}
        entries |= compute(
            [i for i in missing if texts[i] not in entries and indices[i] not in failed]
        )
        known = [i for i, text in enumerate(texts) if text in entries]
        if known:
            vectors = np.stack([entries[texts[i]].vector for i in known])
            converted = np.empty((len(known), rows.array.shape[1]), dtype=rows.array.dtype)
            quantize_rows(vectors, rows.dtype, converted, rows.levels)
            rows.array[rows.row_of_text[known]] = converted
        if call.progress is not None:
            call.progress(len(texts), len(texts))
        return Embedded(
            rows.row_of_text[known],
            np.array([entries[texts[i]].n_tokens for i in known], dtype=np.int32),
            np.array([entries[texts[i]].truncated for i in known], dtype=np.bool_),
        )

    def _embed(
        self, texts: Sequence[str], indices: Sequence[Index], rows: Rows, call: Call
    ) -> Embedded:
        """Compute texts whose vectors are unknown."""
        tokenized = self.tokenize(texts, call, truncation=self._embedder.truncation(call))
        return self._embedder.embed_tokenized(tokenized, indices, rows, call)

    def _compute(
        self, texts: list[str], indices: list[Index], n_dims: int, call: Call
    ) -> dict[str, CachedVector]:
        """Compute texts and remember them; those that fail are missing from what is returned."""
        vectors = np.empty((len(texts), n_dims), dtype=np.float32)
        rows = Rows(vectors, n_dims, np.arange(len(texts), dtype=np.int64))
        kind = (self._identity, n_dims, self._embedder.truncation(call))
        done = self._embed(texts, indices, rows, call)
        entries = {}
        for row, n_tokens, truncated in zip(
            done.row_of_text.tolist(),
            done.token_counts.tolist(),
            done.truncated.tolist(),
            strict=True,
        ):
            if call.errors is None or indices[row] not in call.errors:
                entry = CachedVector(vectors[row].copy(), n_tokens, truncated)
                entries[texts[row]] = entry
                assert self._cache.embeddings is not None
                self._cache.embeddings.put((*kind, texts[row]), texts[row], entry)
        return entries


def _report(progress: Callable[[int, int], None], n_texts: int, done: int, total: int) -> None:
    """Count the texts that are known already as done."""
    progress(n_texts - total + done, n_texts)
