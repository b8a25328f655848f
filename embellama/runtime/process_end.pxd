# SPDX-License-Identifier: Apache-2.0
from libc.stdint cimport int32_t

cdef extern from "runtime/process_end.hpp" namespace "embellama" nogil:
    int32_t process_ends
    bint enter_llama() noexcept
    void leave_llama() noexcept
    void end_calls() noexcept
