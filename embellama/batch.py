# SPDX-License-Identifier: Apache-2.0
"""Which texts share a micro-batch: pure planning on token counts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from embellama.errors import ConfigurationError, safe_repr

__all__ = ["MICRO_BATCH_TOKENS", "plan"]

# Measured best for MiniLM on two cores: attention in llama.cpp runs over the whole micro-batch,
# so its cost grows with the square of this.
MICRO_BATCH_TOKENS = 256
"""The default of ``ModelConfig.micro_batch_tokens``."""

# Below this many tokens a micro-batch costs more in overhead than another worker saves.
_MIN_BALANCED_TOKENS = 32


def plan(
    lengths: NDArray[np.integer], *, max_tokens: int, max_texts: int, n_workers: int = 1
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Pack texts into micro-batches, the longest first.

    Texts of like length end up together, so that llama.cpp's attention, whose cost grows with
    the square of a micro-batch's tokens, wastes little; the short ones come last, so that the
    workers finish at about the same time.

    Parameters
    ----------
    lengths : numpy.ndarray of int, shape (N,)
        Tokens of each text.
    max_tokens : int
        Tokens of a micro-batch. A longer text has a micro-batch of its own.
    max_texts : int
        Texts of a micro-batch.
    n_workers : int, optional
        How many micro-batches are computed at a time (default 1). If there are few
        micro-batches they are made smaller so that every worker gets its share.

    Returns
    -------
    order : numpy.ndarray of int32, shape (N,)
        Every text once.
    bounds : numpy.ndarray of int32, shape (M + 1,)
        Micro-batch i holds the texts ``order[bounds[i]:bounds[i + 1]]``.

    Raises
    ------
    ConfigurationError
        If `max_tokens`, `max_texts` or `n_workers` is below 1.

    Examples
    --------
    >>> import numpy as np
    >>> from embellama.batch import plan
    >>> order, bounds = plan(np.array([5, 60, 7, 40]), max_tokens=64, max_texts=256)
    >>> [order[a:b].tolist() for a, b in zip(bounds[:-1], bounds[1:])]
    [[1], [3, 2, 0]]
    """
    for name, limit in (
        ("max_tokens", max_tokens),
        ("max_texts", max_texts),
        ("n_workers", n_workers),
    ):
        if limit < 1:
            raise ConfigurationError(f"{name} must be at least 1, not {safe_repr(limit)}")
    # Stable, so that the plan does not depend on the sort's implementation.
    longest_first = np.argsort(-np.asarray(lengths, dtype=np.int64), kind="stable")
    # The index is an int64: numpy crashes where it gets no memory to convert an int32 index.
    ends = np.cumsum(lengths[longest_first], dtype=np.int64)
    order = longest_first.astype(np.int32)
    n_texts = len(order)
    if n_texts == 0:
        return order, np.zeros(1, dtype=np.int32)
    total = int(ends[-1])
    rounds = max(1, -(-total // (max_tokens * n_workers)))
    balanced = -(-total // (rounds * n_workers))
    budget = min(max_tokens, max(balanced, _MIN_BALANCED_TOKENS))
    bounds = [0]
    while bounds[-1] < n_texts:
        start = bounds[-1]
        used = int(ends[start - 1]) if start else 0
        end = int(np.searchsorted(ends, used + budget, side="right"))
        bounds.append(min(max(end, start + 1), start + max_texts))
    return order, np.array(bounds, dtype=np.int32)
