# SPDX-License-Identifier: Apache-2.0
from libc.stdint cimport int32_t, int64_t

from embellama.native.context_state cimport ContextState
from embellama.rows cimport Norm, Pooling, VectorLoops
from embellama.runtime.process_end cimport AbortFlag
from embellama.runtime.status cimport Message, Status

cdef extern from "native/encode.hpp" namespace "embellama" nogil:
    cdef cppclass EncodeParameters:
        const int32_t *ids
        const int64_t *offsets
        int64_t n_texts
        Pooling pooling
        Norm norm
        double p
        float *out

    Status encode(
        ContextState &state, const VectorLoops &loops, const EncodeParameters &parameters,
        const AbortFlag &abort, int64_t &not_finite, Message &message,
    ) noexcept
