# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
# distutils: language = c++
"""The functions of embellama's Cython API, one to one, for tests."""

import numpy as np

from libc.stdint cimport int32_t, int64_t

from embellama cimport core, kernels

core.check_api_version()


def tokenize(core.Vocabulary vocabulary, bytes utf8, int64_t capacity, bint add_special=True):
    cdef int32_t[::1] ids = np.full(max(capacity, 1), -1, dtype=np.int32)
    cdef const char *text = utf8
    cdef int64_t n_bytes = len(utf8)
    cdef int64_t n_ids
    with nogil:
        n_ids = core.tokenize(vocabulary, text, n_bytes, &ids[0], capacity, add_special, True)
    return n_ids, np.asarray(ids)


def encode(
    core.Context context, texts, kernels.Pooling pooling=kernels.POOL_MEAN,
    kernels.Norm norm=kernels.NORM_L2, double p=2, int64_t n_rows=0, first=0,
):
    """`first` puts tokens of no text before those of the first."""
    cdef int64_t n_texts = len(texts)
    cdef int32_t[::1] ids = np.concatenate(
        [np.zeros(first + 1), *texts, np.zeros(1)]
    ).astype(np.int32)[1:]
    cdef int64_t[::1] offsets = first + np.cumsum([0, *map(len, texts)], dtype=np.int64)
    n_dims = context.model.n_dimensions
    if pooling == kernels.POOL_NONE:
        n_dims = context.model.n_token_dimensions
    cdef float[:, ::1] out = np.full(
        (max(n_rows or n_texts, 1), n_dims), np.nan, dtype=np.float32
    )
    with nogil:
        core.encode(context, &ids[0], &offsets[0], n_texts, pooling, norm, p, &out[0, 0])
    return np.asarray(out)


def encode_until(core.Context context, started, int32_t[::1] stop):
    """Compute one text again and again, so that another thread finds the context in use."""
    cdef int32_t[::1] ids = np.full(256, 1000, dtype=np.int32)
    cdef int64_t[2] offsets = [0, 256]
    cdef float[::1] out = np.empty(context.model.n_dimensions, dtype=np.float32)
    started.set()
    with nogil:
        while stop[0] == 0:
            core.encode(
                context, &ids[0], offsets, 1, kernels.POOL_CLS, kernels.NORM_NONE, 0, &out[0]
            )
