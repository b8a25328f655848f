# SPDX-License-Identifier: Apache-2.0
# Pooling and normalisation on plain pointers: no Python, no allocation, no GIL.
from libc.stdint cimport int32_t, int64_t

cpdef enum Pooling:
    POOL_NONE = 0
    POOL_MEAN = 1
    POOL_CLS = 2
    POOL_LAST = 3
    POOL_MAX = 4
    POOL_MEAN_SQRT = 5

cpdef enum Norm:
    NORM_NONE = 0
    NORM_MAX_ABS = 1
    NORM_L2 = 2
    NORM_P = 3

cpdef enum RowType:
    ROW_FLOAT32 = 0
    ROW_FLOAT16 = 1
    ROW_INT8 = 2
    ROW_UINT8 = 3
    ROW_BINARY = 4
    ROW_UBINARY = 5

# rows: n_rows x n_dims, contiguous; n_rows >= 1. out: n_dims values that do not overlap rows.
# POOL_NONE has no single vector and is not accepted here.
cdef void pool(
    Pooling pooling, const float *rows, int64_t n_rows, int64_t n_dims, float *out
) noexcept nogil

# Scales the vector in place. If it holds a NaN or an infinity, returns 0 and does not change it.
cdef bint normalize(Norm norm, double p, float *vector, int64_t n_dims) noexcept nogil

# Converts a vector to another type, as embellama.quantize describes, and writes it to `out`:
# n_dims values, or n_dims bits. starts and steps: n_dims values each for the int8 and uint8 types
# with ranges, else NULL.
cdef void write_row(
    RowType row_type, const float *vector, int64_t n_dims, const float *starts,
    const float *steps, void *out,
) noexcept nogil
