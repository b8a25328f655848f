# SPDX-License-Identifier: Apache-2.0
"""An embedder that computes a text it remembers no second time."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embellama.config import ModelConfig, PoolingStrategy
from embellama.embedding.cache import CachedTokens, CachedVector, ModelCache
from embellama.embedding.deadline import Deadline
from embellama.embedding.embedder import Embedded, Embedder, Index, Tokenized
from embellama.errors import EmbellamaError
from embellama.kernels import quantize_rows
from embellama.model_info import ModelInfo

__all__ = ["CachedEmbedder"]


class CachedEmbedder(Embedder):
    """An :class:`embellama.embedding.embedder.Embedder` that looks into a cache first.

    Parameters
    ----------
    path : str
    config : ModelConfig
    info : ModelInfo
    pooling : PoolingStrategy
        As for Embedder.
    cache : ModelCache
        Outlives this object: a model that is loaded again finds what it knew.
    """

    def __init__(
        self,
        path: str,
        config: ModelConfig,
        info: ModelInfo,
        pooling: PoolingStrategy,
        cache: ModelCache,
    ) -> None:
        super().__init__(path, config, info, pooling)
        self._cache = cache
        # All that changes a vector beside the text: a new setting is in it by itself.
        settings = dataclasses.replace(config, model_name=None, cache=None)
        self._identity = repr((info.file_identity, pooling, settings))

    def _tokenize(self, texts: Sequence[str], limit: int, deadline: Deadline | None) -> Tokenized:
        cache = self._cache.tokens
        if cache is None:
            return super()._tokenize(texts, limit, deadline)
        found = cache.get([(self._identity, limit, text) for text in texts])
        entries = {
            text: entry for text, entry in zip(texts, found, strict=True) if entry is not None
        }
        missing = [text for text in dict.fromkeys(texts) if text not in entries]
        ids, offsets, truncated, refused = super()._tokenize(missing, limit, deadline)
        for i, text in enumerate(missing):
            entry = CachedTokens(ids[offsets[i] : offsets[i + 1]].copy(), bool(truncated[i]))
            entries[text] = entry
            if i not in refused:
                cache.put((self._identity, limit, text), text, entry)
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
        """Compute the vector of one text, unless it is known."""
        vector = np.empty((1, self.n_dims), dtype=np.float32)
        self.embed([text], [None], np.zeros(1, dtype=np.int64), vector, n_dims=self.n_dims)
        row: NDArray[np.float32] = vector[0]
        return row

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
        """Write the vectors of the texts, computing each unknown one once."""
        cache = self._cache.embeddings
        if cache is None:
            return super().embed(
                texts,
                indices,
                rows,
                out,
                n_dims=n_dims,
                dtype=dtype,
                levels=levels,
                errors=errors,
                deadline=deadline,
                progress=progress,
            )
        found = cache.get([(self._identity, n_dims, text) for text in texts])
        entries = {
            text: entry for text, entry in zip(texts, found, strict=True) if entry is not None
        }
        for once in (True, False):
            # Of equal texts the first is computed. Where it fails, the others do so by themselves
            # in a second round, each with its own index in the message.
            missing = [i for i, text in enumerate(texts) if text not in entries]
            if errors is not None:
                missing = [i for i in missing if indices[i] not in errors]
            if once:
                missing = sorted({texts[i]: i for i in reversed(missing)}.values())
            if missing:
                entries |= self._compute(
                    [texts[i] for i in missing],
                    [indices[i] for i in missing],
                    n_dims,
                    errors,
                    deadline,
                    progress and partial(_tell, progress, len(texts)),
                )
        known = [i for i, text in enumerate(texts) if text in entries]
        if known:
            vectors = np.stack([entries[texts[i]].vector for i in known])
            converted = np.empty((len(known), out.shape[1]), dtype=out.dtype)
            quantize_rows(vectors, dtype, converted, levels)
            out[rows[known]] = converted
        if progress is not None:
            progress(len(texts), len(texts))
        return Embedded(
            rows[known],
            np.array([entries[texts[i]].n_tokens for i in known], dtype=np.int32),
            np.array([entries[texts[i]].truncated for i in known], dtype=np.bool_),
        )

    def _compute(
        self,
        texts: list[str],
        indices: list[Index],
        n_dims: int,
        errors: dict[int, EmbellamaError] | None,
        deadline: Deadline | None,
        progress: Callable[[int, int], None] | None,
    ) -> dict[str, CachedVector]:
        """Compute texts and remember them; those that fail are missing from what is returned."""
        vectors = np.empty((len(texts), n_dims), dtype=np.float32)
        done = super().embed(
            texts,
            indices,
            np.arange(len(texts), dtype=np.int64),
            vectors,
            n_dims=n_dims,
            errors=errors,
            deadline=deadline,
            progress=progress,
        )
        entries = {}
        for row, n_tokens, truncated in zip(
            done.rows.tolist(), done.token_counts.tolist(), done.truncated.tolist(), strict=True
        ):
            if errors is None or indices[row] not in errors:
                entry = CachedVector(vectors[row].copy(), n_tokens, truncated)
                entries[texts[row]] = entry
                assert self._cache.embeddings is not None
                self._cache.embeddings.put((self._identity, n_dims, texts[row]), texts[row], entry)
        return entries


def _tell(progress: Callable[[int, int], None], n_texts: int, done: int, total: int) -> None:
    """Count the texts known already as done."""
    progress(n_texts - total + done, n_texts)
