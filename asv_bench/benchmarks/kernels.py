# SPDX-License-Identifier: Apache-2.0
"""Our loops, numpy's way to the same numbers, and a plain read of the same bytes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from embellama.kernels import normalize_rows, pool_rows

# A micro-batch, which a core's own cache holds, and more than such a cache does.
ROWS = (256, 16384)
N_DIMS = 384


def vectors(n_rows: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal((n_rows, N_DIMS), dtype=np.float32)


class Pool:
    params = (("mean", "max"), ROWS)
    param_names = ("pooling", "n_rows")

    def setup(self, pooling: str, n_rows: int) -> None:
        self.values = vectors(n_rows)
        self.numpy = getattr(np, pooling)

    def time_kernel(self, pooling: str, n_rows: int) -> None:
        pool_rows(self.values, pooling)

    def time_numpy(self, pooling: str, n_rows: int) -> None:
        self.numpy(self.values, axis=0)

    def time_plain_read(self, pooling: str, n_rows: int) -> None:
        self.values.sum()


class Normalize:
    params = ROWS
    param_names = ("n_rows",)

    def setup(self, n_rows: int) -> None:
        self.values = vectors(n_rows)

    def time_kernel(self, n_rows: int) -> None:
        normalize_rows(self.values, "l2")

    def time_numpy(self, n_rows: int) -> None:
        self.values / np.linalg.norm(self.values, axis=1, keepdims=True)

    def time_plain_read(self, n_rows: int) -> None:
        self.values.sum()
