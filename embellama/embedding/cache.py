# SPDX-License-Identifier: Apache-2.0
"""What a model remembers of texts it has seen: their tokens and their vectors."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import threading
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from embellama.config import CacheConfig
from embellama.machine.forking import renew_after_fork

__all__ = ["CacheStats", "CachedTokens", "CachedVector", "ModelCache"]

# Bytes of an entry beside its text and numbers: the key, the entry, and the links of the order.
_ENTRY_BYTES = 400


@dataclasses.dataclass(frozen=True)
class CacheStats:
    """How a cache has served.

    Attributes
    ----------
    hits, misses : int
        Texts that were found, and that were not.
    evictions : int
        Entries dropped to make room for others.
    entry_count : int
        Entries held now.
    memory_bytes : int
        Bytes they take: texts, numbers and what Python adds.

    Examples
    --------
    >>> import embellama
    >>> stats = embellama.CacheStats(
    ...     hits=3, misses=1, evictions=0, entry_count=1, memory_bytes=2000
    ... )
    >>> stats.hit_rate
    0.75
    """

    hits: int
    misses: int
    evictions: int
    entry_count: int
    memory_bytes: int

    @property
    def hit_rate(self) -> float:
        """Hits per text asked for; 0 before the first."""
        return self.hits / max(1, self.hits + self.misses)


@dataclasses.dataclass(frozen=True)
class CachedTokens:
    """The token ids of a text, after truncation."""

    ids: NDArray[np.int32]
    truncated: bool

    @property
    def nbytes(self) -> int:
        """Bytes of the numbers."""
        return self.ids.nbytes


@dataclasses.dataclass(frozen=True)
class CachedVector:
    """The vector of a text, and what a result says beside it."""

    vector: NDArray[np.float32]
    n_tokens: int
    truncated: bool

    @property
    def nbytes(self) -> int:
        """Bytes of the numbers."""
        return self.vector.nbytes


_Entry = TypeVar("_Entry", CachedTokens, CachedVector)


class _LeastRecentlyUsed(Generic[_Entry]):
    """Entries by key, bounded in number and bytes; for any number of threads.

    Each change is one operation of an OrderedDict. So Ctrl-C, a fork, and a signal handler or
    finaliser that computes with the same model find the entries whole at any moment. (cachetools
    takes several operations, and Ctrl-C between them breaks it.) Only the sum of the bytes may be
    wrong: it is added up anew after an exception and in a forked child, and a handler that runs
    amid a change may leave it an entry off.
    """

    def __init__(self, max_entries: int, max_bytes: int) -> None:
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._entries: OrderedDict[Hashable, tuple[_Entry, int]] = OrderedDict()
        self._lock = threading.RLock()
        self._bytes = self._hits = self._misses = self._evictions = 0
        renew_after_fork(self)

    def _renew_after_fork(self) -> None:
        self._lock = threading.RLock()
        self._add_up()

    def _add_up(self) -> None:
        self._bytes = sum(size for _, size in list(self._entries.values()))

    def get(self, keys: Sequence[Hashable]) -> list[_Entry | None]:
        found: list[_Entry | None] = []
        with self._lock:
            for key in keys:
                entry, _ = self._entries.get(key, (None, 0))
                if entry is not None:
                    # Another call of this thread, from a signal handler, may have dropped it.
                    with contextlib.suppress(KeyError):
                        self._entries.move_to_end(key)
                found.append(entry)
            hits = len(found) - found.count(None)
            self._hits += hits
            self._misses += len(keys) - hits
        return found

    def put(self, key: Hashable, text: str, entry: _Entry) -> None:
        n_bytes = _ENTRY_BYTES + sys.getsizeof(text) + entry.nbytes
        if n_bytes > self._max_bytes:
            return
        with self._lock:
            try:
                if key in self._entries:
                    return
                while self._entries and (
                    len(self._entries) >= self._max_entries
                    or self._bytes + n_bytes > self._max_bytes
                ):
                    _, (_, freed) = self._entries.popitem(last=False)
                    self._bytes -= freed
                    self._evictions += 1
                self._entries[key] = (entry, n_bytes)
                self._bytes += n_bytes
            except BaseException:
                self._add_up()
                raise

    def clear(self) -> None:
        with self._lock:
            self._entries.clear()
            self._bytes = self._hits = self._misses = self._evictions = 0

    def stats(self) -> CacheStats:
        with self._lock:
            return CacheStats(
                self._hits, self._misses, self._evictions, len(self._entries), self._bytes
            )


class ModelCache:
    """The two caches of one model; each is None where its size is 0.

    Parameters
    ----------
    config : CacheConfig
    """

    def __init__(self, config: CacheConfig) -> None:
        max_bytes = int(config.max_memory_mb * 1e6)
        sizes = {"embeddings": config.embedding_cache_size, "tokens": config.token_cache_size}
        # The bytes go to the cache that is on, half to each where both are.
        share = max_bytes // max(1, sum(size > 0 for size in sizes.values()))
        caches: dict[str, Any] = {
            name: _LeastRecentlyUsed(size, share) for name, size in sizes.items() if size > 0
        }
        self.embeddings: _LeastRecentlyUsed[CachedVector] | None = caches.get("embeddings")
        self.tokens: _LeastRecentlyUsed[CachedTokens] | None = caches.get("tokens")
        self._caches = caches

    def clear(self) -> None:
        """Forget everything, the counts of hits and misses too."""
        for cache in self._caches.values():
            cache.clear()

    def stats(self) -> dict[str, CacheStats]:
        """Return the statistics of the caches that are on, by name."""
        return {name: cache.stats() for name, cache in self._caches.items()}
