# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3, boundscheck=False, wraparound=False
"""Calls of embellama's Cython API, for asv_bench/benchmarks/cython_api.py."""

import numpy as np

from libc.stdint cimport int32_t, int64_t

from embellama cimport core, kernels


def encode(core.Context context not None, const int32_t[::1] ids not None):
    """Embed with the public function encode()."""
    cdef int64_t[2] offsets = [0, ids.shape[0]]
    vector = np.empty(context.model.n_dimensions, dtype=np.float32)
    cdef float[::1] out = vector
    with nogil:
        core.encode(
            context, &ids[0], offsets, 1, kernels.POOL_MEAN, kernels.NORM_L2, 0, &out[0]
        )
    return vector


def compute(core.Context context not None, const int32_t[::1] ids not None):
    """Embed as encode() does inside, without its checks and its planning."""
    cdef const int32_t *first = &ids[0]
    cdef int32_t length = <int32_t>ids.shape[0]
    cdef int32_t n_dims = context.model.n_dimensions
    cdef int status
    vector = np.empty(n_dims, dtype=np.float32)
    cdef float[::1] out = vector
    with nogil:
        status = core.compute(context.state, &first, &length, 1)
        kernels.pool(
            kernels.POOL_MEAN, core.token_vectors(context.state), length, n_dims, &out[0]
        )
        kernels.normalize(kernels.NORM_L2, 0, &out[0], n_dims)
    if status != 0:
        raise RuntimeError(f"status {status}")
    return vector


def empty_calls(int64_t n):
    """Call encode() for no texts."""
    cdef int64_t _i
    with nogil:
        for _i in range(n):
            core.encode(None, NULL, NULL, 0, kernels.POOL_MEAN, kernels.NORM_L2, 0, NULL)


def normalize_calls(float[::1] vector not None, int64_t n):
    """Normalise one vector again and again."""
    cdef int64_t _i
    with nogil:
        for _i in range(n):
            kernels.normalize(kernels.NORM_L2, 0, &vector[0], vector.shape[0])
