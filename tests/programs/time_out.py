# SPDX-License-Identifier: Apache-2.0
"""A call that times out amid more work than its caller would wait for, and a model that works on.

Arguments: a model file, the name of a call, and ``cached`` or ``plain``.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator

import numpy as np

from embellama import CacheConfig, EmbeddingModel, ModelConfig, OperationTimeoutError

# One computation of this takes llama.cpp's own kernels some tenths of a second.
LONG = "a b c d " * 1_000
# std::regex searches it from end to end for what it does not hold, without a look at a flag.
HUGE = "word " * 500_000


def slowly() -> Iterator[str]:
    for i in range(100_000):
        time.sleep(0.05)
        yield f"text {i}"


CALLS: dict[str, Callable[[EmbeddingModel, float], object]] = {
    "tokenizing": lambda model, timeout: model.embed_batch([HUGE] * 5_000, timeout=timeout),
    "computing": lambda model, timeout: model.embed_batch(
        [LONG + str(i) for i in range(5_000)], timeout=timeout
    ),
    "computing tokens": lambda model, timeout: model.embed_batch_multi(
        [LONG] * 1_000, timeout=timeout
    ),
    "reading texts": lambda model, timeout: model.embed_batch(slowly(), timeout=timeout),
}


def main() -> None:
    path, call, cached = sys.argv[1:]
    cache = CacheConfig(token_cache_size=10) if cached == "cached" else None
    config = ModelConfig(path, truncate=True, n_threads=1, cache=cache)
    with EmbeddingModel(config) as model:
        expected = model.embed("works on")
        try:
            CALLS[call](model, 0.3)
        except OperationTimeoutError as error:
            print(error)
        np.testing.assert_allclose(model.embed_batch(["works on"])[0], expected, atol=1e-5)


if __name__ == "__main__":
    main()
