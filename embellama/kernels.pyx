# SPDX-License-Identifier: Apache-2.0
# cython: boundscheck=False, wraparound=False, cdivision=True
"""Pooling, normalisation and smaller types: rows of float32, in rows.cpp.

Other Cython modules call the same functions on plain pointers, without the GIL, after
``cimport embellama.kernels``.
"""

import numpy as np

from embellama cimport rows as native_rows
from embellama.instruction_set cimport limit
from embellama.rows cimport VectorLoops, loops_for
from embellama.runtime.cpu_features cimport InstructionSet

cdef const VectorLoops *loops = &loops_for(<InstructionSet>limit())


cdef void pool(
    Pooling pooling, const float *rows, int64_t n_rows, int64_t n_dims, float *out
) noexcept nogil:
    native_rows.pool(loops[0], <native_rows.Pooling>pooling, rows, n_rows, n_dims, out)


cdef bint normalize(Norm norm, double p, float *vector, int64_t n_dims) noexcept nogil:
    return native_rows.normalize(loops[0], <native_rows.Norm>norm, p, vector, n_dims)


cdef void write_row(
    RowType row_type, const float *vector, int64_t n_dims, const float *starts,
    const float *steps, void *out,
) noexcept nogil:
    native_rows.write_row(
        loops[0], <native_rows.RowType>row_type, vector, n_dims, starts, steps, out
    )


POOLINGS = {
    "mean": POOL_MEAN,
    "cls": POOL_CLS,
    "last": POOL_LAST,
    "max": POOL_MAX,
    "mean_sqrt": POOL_MEAN_SQRT,
}
NORMS = {"none": NORM_NONE, "max_abs": NORM_MAX_ABS, "l2": NORM_L2}
ROW_TYPES = {
    "float32": ROW_FLOAT32,
    "float16": ROW_FLOAT16,
    "int8": ROW_INT8,
    "uint8": ROW_UINT8,
    "binary": ROW_BINARY,
    "ubinary": ROW_UBINARY,
}


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


def normalize_rows(rows, norm="l2", *, out=None):
    """Scale every row of an array.

    Parameters
    ----------
    rows : array_like of float32, shape (N, D)
    norm : {"none", "max_abs", "l2"} or float
        See :class:`embellama.NormalizationMode`; a number p >= 1 asks for the p-norm.
    out : numpy.ndarray of float32, shape (N, D), optional
        A C-contiguous array to write to, which may be `rows` itself. Default: a new one.

    Returns
    -------
    numpy.ndarray of float32, shape (N, D)
        `out`, or the new array. Zero rows stay zero; rows with a NaN or an infinity stay as they
        are.

    Raises
    ------
    ValueError
        If `rows` is not two-dimensional, `norm` is unknown, or `out` does not fit.

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
    if out is None:
        result = np.array(rows, dtype=np.float32, order="C", ndmin=1)
    else:
        result = out
        if out is not rows:
            out[...] = rows
    if result.ndim != 2:
        raise ValueError(f"rows must have shape (N, D), not {result.shape}")
    cdef float[:, ::1] target = result
    cdef int64_t row
    if target.shape[1] > 0:
        with nogil:
            for row in range(target.shape[0]):
                normalize(kind, p, &target[row, 0], target.shape[1])
    return result


def quantize_rows(
    const float[:, ::1] rows not None, str dtype not None, out, float[:, ::1] levels=None
):
    """Write every row of an array as another type.

    :func:`embellama.quantize` is the public function for this.

    Parameters
    ----------
    rows : numpy.ndarray of float32, shape (N, D)
    dtype : str
        See :func:`embellama.quantize`.
    out : numpy.ndarray, shape (N, W)
        Of the type and width that `dtype` asks for, C-contiguous.
    levels : numpy.ndarray of float32, shape (2, D), optional
        The first level of each dimension, and the distance between its levels. Optional for int8,
        required for uint8.

    Raises
    ------
    ValueError
        If `dtype` is unknown, or `out` or `levels` does not fit.

    Examples
    --------
    >>> import numpy as np
    >>> from embellama.kernels import quantize_rows
    >>> out = np.empty((1, 2), dtype=np.int8)
    >>> quantize_rows(np.array([[1.0, -0.5]], dtype=np.float32), "int8", out)
    >>> out
    array([[127, -64]], dtype=int8)
    """
    if dtype not in ROW_TYPES:
        raise ValueError(f"dtype must be one of {sorted(ROW_TYPES)}, not {dtype!r}")
    cdef RowType row_type = ROW_TYPES[dtype]
    cdef char[:, ::1] target = np.asarray(out).view(np.int8)
    cdef int64_t n_dims = rows.shape[1]
    cdef int64_t n_bytes = native_rows.row_bytes(<native_rows.RowType>row_type, n_dims)
    if target.shape[0] != rows.shape[0] or target.shape[1] != n_bytes:
        raise ValueError(
            f"{dtype} of shape ({rows.shape[0]}, {n_dims}) needs {n_bytes} bytes a row, and out "
            f"has {target.shape[0]} rows of {target.shape[1]}"
        )
    if row_type == ROW_UINT8 and levels is None:
        raise ValueError("uint8 needs levels")
    if levels is not None and (levels.shape[0] != 2 or levels.shape[1] != n_dims):
        raise ValueError(f"levels must have shape (2, {n_dims})")
    cdef const float *starts = NULL
    cdef const float *steps = NULL
    cdef int64_t row
    if rows.shape[0] == 0 or rows.shape[1] == 0:
        return
    if levels is not None:
        starts = &levels[0, 0]
        steps = &levels[1, 0]
    with nogil:
        for row in range(rows.shape[0]):
            write_row(row_type, &rows[row, 0], rows.shape[1], starts, steps, &target[row, 0])
