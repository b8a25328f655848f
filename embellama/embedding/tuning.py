# SPDX-License-Identifier: Apache-2.0
"""Which micro-batch size computes most tokens a second on this machine."""

from __future__ import annotations

import time

import numpy as np

from embellama.embedding.call import Call
from embellama.embedding.embedder import Embedder, Tokens

__all__ = ["fastest_micro_batch", "random_texts"]

CANDIDATES = (64, 128, 256, 512, 1024, 2048)
ROUNDS = 2
# Tokens for each worker, so that none has the machine to itself.
LEAST_TOKENS = 512
# A size this much slower than the best so far is not measured again.
HOPELESS = 1.5


def fastest_micro_batch(embedder: Embedder) -> int:
    """Measure the candidates in turns and return the best; the setting stays as it was.

    Every worker gets two micro-batches or more.

    Parameters
    ----------
    embedder : Embedder

    Returns
    -------
    int
        Tokens.
    """
    before = embedder.micro_batch_tokens
    seconds_per_token = dict.fromkeys(CANDIDATES, float("inf"))
    try:
        for _ in range(ROUNDS):
            limit = HOPELESS * min(seconds_per_token.values())
            for size in CANDIDATES:
                if seconds_per_token[size] <= limit:
                    embedder.micro_batch_tokens = size
                    n_tokens = max(2 * size, LEAST_TOKENS) * embedder.n_threads
                    tokens = random_texts(embedder, n_tokens)
                    start = time.perf_counter()
                    embedder.vectors(tokens, Call())
                    seconds = (time.perf_counter() - start) / len(tokens.ids)
                    seconds_per_token[size] = min(seconds_per_token[size], seconds)
    finally:
        embedder.micro_batch_tokens = before
    return min(CANDIDATES, key=seconds_per_token.__getitem__)


def random_texts(embedder: Embedder, n_tokens: int) -> Tokens:
    """Return texts of 8 to 64 tokens, as sentences and short paragraphs have, if so many fit.

    Parameters
    ----------
    embedder : Embedder
    n_tokens : int
        Of all texts together; there are a few more, so that no text ends in its midst.

    Returns
    -------
    Tokens
    """
    generator = np.random.default_rng(0)
    longest = min(64, embedder.max_sequence_length)
    lengths = generator.integers(min(8, longest), longest + 1, size=n_tokens)
    lengths = lengths[: int(np.searchsorted(np.cumsum(lengths), n_tokens)) + 1]
    ids = generator.integers(0, len(embedder.vocabulary), size=int(lengths.sum()), dtype=np.int32)
    return Tokens(
        ids,
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        np.zeros(len(lengths), dtype=np.bool_),
        [None] * len(lengths),
    )
