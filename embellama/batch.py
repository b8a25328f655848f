# SPDX-License-Identifier: Apache-2.0
"""Which texts share a micro-batch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from embellama import core
from embellama.errors import ConfigurationError, safe_repr

__all__ = ["MICRO_BATCH_TOKENS", "plan"]

MICRO_BATCH_TOKENS = core.MICRO_BATCH_TOKENS
"""The default of ``ModelConfig.micro_batch_tokens``."""

_NO_LIMIT = 2**62


def plan(
    lengths: NDArray[np.integer], *, max_tokens: int, max_texts: int, n_workers: int = 1
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Pack texts into micro-batches, the longest first.

    Texts of similar length end up together, so that llama.cpp's attention, whose cost grows with
    the square of a micro-batch's tokens, wastes little. Short texts come last, so that the workers
    finish at about the same time.

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
        The index of every text, each once.
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
    # No limit above the largest number of 64 bits makes a difference.
    limits = (min(limit, _NO_LIMIT) for limit in (max_tokens, max_texts, n_workers))
    return core.plan(np.ascontiguousarray(lengths, dtype=np.int64), *limits)
