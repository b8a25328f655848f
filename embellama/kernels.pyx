# SPDX-License-Identifier: Apache-2.0
# cython: boundscheck=False, wraparound=False, cdivision=True
"""Pooling and normalisation: loops over float32 that the compiler vectorises.

Other Cython modules reach the same functions on plain pointers, without the GIL, by
``cimport embellama.kernels``.
"""

import numpy as np

from libc.math cimport fabsf, pow, sqrt
from libc.string cimport memcpy

# As many partial sums as two AVX-512 registers hold: without -ffast-math the compiler may not
# reorder one running sum, but it may keep independent ones in vector lanes.
cdef enum:
    LANES = 32

# llama.cpp's common_embd_normalize scales to this peak for embd_norm = 0.
cdef double INT16_PEAK = 32760.0


cdef void _sum_rows(const float *rows, int64_t n_rows, int64_t n_dims, float *out) noexcept nogil:
    cdef int64_t row, i
    cdef const float *values
    memcpy(out, rows, n_dims * sizeof(float))
    for row in range(1, n_rows):
        values = rows + row * n_dims
        for i in range(n_dims):
            out[i] += values[i]


cdef void _max_rows(const float *rows, int64_t n_rows, int64_t n_dims, float *out) noexcept nogil:
    cdef int64_t row, i
    cdef const float *values
    memcpy(out, rows, n_dims * sizeof(float))
    for row in range(1, n_rows):
        values = rows + row * n_dims
        for i in range(n_dims):
            # Written so that a NaN in either operand stays: numpy.max does the same.
            out[i] = out[i] if out[i] > values[i] or out[i] != out[i] else values[i]


cdef void _scale(float *vector, int64_t n_dims, float factor) noexcept nogil:
    cdef int64_t i
    for i in range(n_dims):
        vector[i] *= factor


cdef double _sum_of_squares(const float *vector, int64_t n_dims) noexcept nogil:
    cdef float[LANES] partial
    cdef int64_t i, lane
    cdef int64_t whole = n_dims - n_dims % LANES
    cdef double total = 0.0
    for lane in range(LANES):
        partial[lane] = 0.0
    i = 0
    while i < whole:
        for lane in range(LANES):
            partial[lane] += vector[i + lane] * vector[i + lane]
        i += LANES
    for i in range(whole, n_dims):
        total += <double>vector[i] * vector[i]
    for lane in range(LANES):
        total += partial[lane]
    return total


cdef float _max_abs(const float *vector, int64_t n_dims) noexcept nogil:
    cdef float[LANES] partial
    cdef float value, peak = 0.0
    cdef int64_t i, lane
    cdef int64_t whole = n_dims - n_dims % LANES
    for lane in range(LANES):
        partial[lane] = 0.0
    i = 0
    while i < whole:
        for lane in range(LANES):
            value = fabsf(vector[i + lane])
            partial[lane] = value if value > partial[lane] else partial[lane]
        i += LANES
    for lane in range(LANES):
        peak = partial[lane] if partial[lane] > peak else peak
    for i in range(whole, n_dims):
        value = fabsf(vector[i])
        peak = value if value > peak else peak
    return peak


cdef bint _is_finite(const float *vector, int64_t n_dims) noexcept nogil:
    # x * 0 is 0 for finite x and NaN otherwise, and a sum that meets a NaN stays NaN.
    cdef float[LANES] partial
    cdef float total = 0.0
    cdef int64_t i, lane
    cdef int64_t whole = n_dims - n_dims % LANES
    for lane in range(LANES):
        partial[lane] = 0.0
    i = 0
    while i < whole:
        for lane in range(LANES):
            partial[lane] += vector[i + lane] * <float>0.0
        i += LANES
    for lane in range(LANES):
        total += partial[lane]
    for i in range(whole, n_dims):
        total += vector[i] * <float>0.0
    return total == 0.0


cdef double _p_norm(const float *vector, int64_t n_dims, double p, double peak) noexcept nogil:
    # Relative to the peak, so that no power over- or underflows.
    cdef double total = 0.0
    cdef int64_t i
    for i in range(n_dims):
        total += pow(fabsf(vector[i]) / peak, p)
    return peak * pow(total, 1.0 / p)


cdef void pool(
    Pooling pooling, const float *rows, int64_t n_rows, int64_t n_dims, float *out
) noexcept nogil:
    if pooling == POOL_MEAN:
        _sum_rows(rows, n_rows, n_dims, out)
        _scale(out, n_dims, <float>(1.0 / n_rows))
    elif pooling == POOL_MEAN_SQRT:
        _sum_rows(rows, n_rows, n_dims, out)
        _scale(out, n_dims, <float>(1.0 / sqrt(<double>n_rows)))
    elif pooling == POOL_MAX:
        _max_rows(rows, n_rows, n_dims, out)
    elif pooling == POOL_LAST:
        memcpy(out, rows + (n_rows - 1) * n_dims, n_dims * sizeof(float))
    else:
        memcpy(out, rows, n_dims * sizeof(float))


cdef bint normalize(Norm norm, double p, float *vector, int64_t n_dims) noexcept nogil:
    cdef double length, peak
    if not _is_finite(vector, n_dims):
        return False
    if norm == NORM_NONE:
        return True
    if norm == NORM_L2:
        length = sqrt(_sum_of_squares(vector, n_dims))
        # Outside this range float32 squares lose digits or overflow; scale by the peak first.
        if 1e-15 < length < 1e18:
            _scale(vector, n_dims, <float>(1.0 / length))
            return True
    peak = _max_abs(vector, n_dims)
    if peak == 0.0:
        return True
    if norm == NORM_MAX_ABS:
        length = peak / INT16_PEAK
    else:
        length = _p_norm(vector, n_dims, 2.0 if norm == NORM_L2 else p, peak)
    _divide(vector, n_dims, length)
    return True


cdef void _divide(float *vector, int64_t n_dims, double length) noexcept nogil:
    # In double: 1 / length of a subnormal vector overflows float32.
    cdef int64_t i
    for i in range(n_dims):
        vector[i] = <float>(vector[i] / length)


POOLINGS = {
    "mean": POOL_MEAN,
    "cls": POOL_CLS,
    "last": POOL_LAST,
    "max": POOL_MAX,
    "mean_sqrt": POOL_MEAN_SQRT,
}
NORMS = {"none": NORM_NONE, "max_abs": NORM_MAX_ABS, "l2": NORM_L2}


def pool_rows(rows, str pooling):
    """Pool the vectors of one text's tokens.

    Parameters
    ----------
    rows : array_like of float32, shape (T, D)
        One vector per token, T at least 1.
    pooling : {"mean", "cls", "last", "max", "mean_sqrt"}
        See :class:`embellama.PoolingStrategy`.

    Returns
    -------
    numpy.ndarray of float32, shape (D,)

    Raises
    ------
    ValueError
        If `rows` is not two-dimensional, has no row, or `pooling` is unknown.

    Examples
    --------
    >>> from embellama.kernels import pool_rows
    >>> pool_rows([[1.0, 2.0], [3.0, 4.0]], "mean")
    array([2., 3.], dtype=float32)
    """
    if pooling not in POOLINGS:
        raise ValueError(f"pooling must be one of {sorted(POOLINGS)}, not {pooling!r}")
    values = np.ascontiguousarray(rows, dtype=np.float32)
    if values.ndim != 2 or values.shape[0] == 0:
        raise ValueError(f"rows must have shape (T, D) with T >= 1, not {values.shape}")
    result = np.empty(values.shape[1], dtype=np.float32)
    cdef const float[:, ::1] source = values
    cdef float[::1] target = result
    cdef Pooling kind = POOLINGS[pooling]
    if source.shape[1] > 0:
        with nogil:
            pool(kind, &source[0, 0], source.shape[0], source.shape[1], &target[0])
    return result


def normalize_rows(rows, norm="l2"):
    """Scale every row of an array.

    Parameters
    ----------
    rows : array_like of float32, shape (N, D)
    norm : {"none", "max_abs", "l2"} or float
        See :class:`embellama.NormalizationMode`; a number p >= 1 asks for the p-norm.

    Returns
    -------
    numpy.ndarray of float32, shape (N, D)
        A new array. Zero rows stay zero; rows with a NaN or an infinity stay as they are.

    Raises
    ------
    ValueError
        If `rows` is not two-dimensional or `norm` is unknown.

    Examples
    --------
    >>> from embellama.kernels import normalize_rows
    >>> normalize_rows([[3.0, 4.0], [0.0, 0.0]])
    array([[0.6, 0.8],
           [0. , 0. ]], dtype=float32)
    """
    cdef Norm kind
    cdef double p = 2.0
    if isinstance(norm, str):
        if norm not in NORMS:
            raise ValueError(f"norm must be one of {sorted(NORMS)} or a number, not {norm!r}")
        kind = NORMS[norm]
    else:
        kind = NORM_P
        p = norm
        if not 1.0 <= p < float("inf"):
            raise ValueError(f"a p-norm needs a finite p of at least 1, not {norm!r}")
    result = np.array(rows, dtype=np.float32, order="C", ndmin=1)
    if result.ndim != 2:
        raise ValueError(f"rows must have shape (N, D), not {result.shape}")
    cdef float[:, ::1] target = result
    cdef int64_t row
    if target.shape[1] > 0:
        with nogil:
            for row in range(target.shape[0]):
                normalize(kind, p, &target[row, 0], target.shape[1])
    return result
