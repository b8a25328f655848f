# SPDX-License-Identifier: Apache-2.0
cdef extern from "runtime/aborts.hpp" namespace "embellama" nogil:
    void install_abort_callback() noexcept
