# SPDX-License-Identifier: Apache-2.0
from libc.stdint cimport int32_t
from libcpp cimport bool as cpp_bool

from embellama.libllama.handles cimport llama_model
from embellama.native.dense_head cimport DenseHead

cdef extern from "native/context_state.hpp" namespace "embellama" nogil:
    cdef cppclass ExactCopy:
        pass

    cdef cppclass ContextParameters "embellama::ContextState::Parameters":
        llama_model *model
        const DenseHead *head
        const ExactCopy *exact
        int32_t n_threads
        cpp_bool ranks
        cpp_bool half_keys

    cdef cppclass ContextState:
        ContextState(const ContextParameters &parameters) except +
        int32_t n_tokens() noexcept
        void release() noexcept
        void abandon() noexcept
