# SPDX-License-Identifier: Apache-2.0
"""Our loops, numpy's functions for the same result, and a plain read of the same bytes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from embellama.kernels import normalize_rows, pool_rows, quantize_rows
from embellama.quantization import DTYPES, quantized_width

# Rows of a micro-batch, which fits into a core's own cache, and more rows than fit.
ROWS = (256, 16384)
N_DIMS = 384


def vectors(n_rows: int) -> NDArray[np.float32]:
    values = np.random.default_rng(0).standard_normal((n_rows, N_DIMS), dtype=np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def plain_read(values: NDArray[np.float32]) -> None:
    # BLAS reads every value once, as fast as the caches or the memory allow.
    np.dot(values.ravel(), values.ravel())


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
        plain_read(self.values)


class Normalize:
    params = ROWS
    param_names = ("n_rows",)

    def setup(self, n_rows: int) -> None:
        self.values = vectors(n_rows)

    def time_kernel(self, n_rows: int) -> None:
        normalize_rows(self.values, "l2", out=self.values)

    def time_numpy(self, n_rows: int) -> None:
        np.divide(self.values, np.linalg.norm(self.values, axis=1, keepdims=True), out=self.values)

    def time_plain_read(self, n_rows: int) -> None:
        plain_read(self.values)


class Quantize:
    """Vectors of float32 to smaller types."""

    params = ("float16", "int8", "ubinary")
    param_names = ("dtype",)

    def setup(self, dtype: str) -> None:
        self.values = vectors(ROWS[0])
        width = quantized_width(N_DIMS, dtype)
        self.out = np.empty((len(self.values), width), dtype=DTYPES[dtype][0])

    def time_kernel(self, dtype: str) -> None:
        quantize_rows(self.values, dtype, self.out)

    def time_numpy(self, dtype: str) -> None:
        if dtype == "float16":
            self.values.astype(np.float16)
        elif dtype == "int8":
            np.clip(np.rint(self.values * 127), -127, 127).astype(np.int8)
        else:
            np.packbits(self.values > 0, axis=1)
