# SPDX-License-Identifier: Apache-2.0
# Mirrors rows.hpp.
from libc.stdint cimport int64_t
from libcpp cimport bool as cpp_bool

from embellama.runtime.cpu_features cimport InstructionSet

cdef extern from "vector_loops.hpp" namespace "embellama" nogil:
    cdef cppclass VectorLoops:
        pass
    const VectorLoops &loops_for(InstructionSet limit) noexcept

cdef extern from "rows.hpp" namespace "embellama" nogil:
    cdef cppclass Pooling:
        pass
    cdef cppclass Norm:
        pass
    cdef cppclass RowType:
        pass
    int64_t row_bytes(RowType type, int64_t n_dims) noexcept
    void pool(
        const VectorLoops &loops, Pooling pooling, const float *rows, int64_t n_rows,
        int64_t n_dims, float *out,
    ) noexcept
    cpp_bool normalize(
        const VectorLoops &loops, Norm norm, double p, float *vector, int64_t n_dims
    ) noexcept
    void write_row(
        const VectorLoops &loops, RowType type, const float *vector, int64_t n_dims,
        const float *starts, const float *steps, void *out,
    ) noexcept
