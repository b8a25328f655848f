# SPDX-License-Identifier: Apache-2.0
from libc.stdint cimport int64_t

from embellama.libllama.handles cimport llama_model

cdef extern from "native/dense_head.hpp" namespace "embellama" nogil:
    cdef cppclass DenseHead:
        DenseHead(const llama_model *model) except +
        int64_t n_in() noexcept
        int64_t n_out() noexcept
