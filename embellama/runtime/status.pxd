# SPDX-License-Identifier: Apache-2.0
cdef extern from "runtime/status.hpp" namespace "embellama" nogil:
    ctypedef enum Status:
        OK
        ABORTED
        INVALID
        NO_MEMORY
        COMPUTE_FAILED
        EXCEPTION
        TOO_LARGE
        TOKENIZER_FAILED

    cdef cppclass Message:
        const char *text
