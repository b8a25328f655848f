# SPDX-License-Identifier: Apache-2.0
# Declarations only; mirrors vector_loops.hpp.
from libc.stdint cimport int8_t, int64_t, uint8_t, uint16_t
from libcpp cimport bool as cpp_bool

from embellama.runtime.cpu_features cimport InstructionSet

cdef extern from "vector_loops.hpp" namespace "embellama" nogil:
    cdef struct VectorLoops:
        void (*sum_rows)(
            const float *rows, int64_t n_rows, int64_t n_dims, float *out
        ) noexcept nogil
        void (*max_rows)(
            const float *rows, int64_t n_rows, int64_t n_dims, float *out
        ) noexcept nogil
        void (*scale)(float *vector, int64_t n_dims, float factor) noexcept nogil
        void (*divide)(float *vector, int64_t n_dims, double divisor) noexcept nogil
        double (*sum_of_squares)(const float *vector, int64_t n_dims) noexcept nogil
        float (*max_abs)(const float *vector, int64_t n_dims) noexcept nogil
        cpp_bool (*is_finite)(const float *vector, int64_t n_dims) noexcept nogil
        void (*to_float16)(const float *vector, int64_t n_dims, uint16_t *out) noexcept nogil
        void (*to_int8)(const float *vector, int64_t n_dims, int8_t *out) noexcept nogil
        void (*to_levels)(
            const float *vector, int64_t n_dims, const float *starts, const float *steps,
            uint8_t flip, uint8_t *out,
        ) noexcept nogil
        void (*to_bits)(
            const float *vector, int64_t n_dims, uint8_t flip, uint8_t *out
        ) noexcept nogil

    const VectorLoops &loops_for(InstructionSet limit) noexcept
