# SPDX-License-Identifier: Apache-2.0
cdef extern from "runtime/process_end.hpp" namespace "embellama" nogil:
    cdef cppclass AbortFlag:
        pass
    AbortFlag process_ends
    bint enter_llama() noexcept
    void leave_llama() noexcept
