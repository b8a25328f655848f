# SPDX-License-Identifier: Apache-2.0
cdef extern from "runtime/fork.hpp" namespace "embellama" nogil:
    void install_fork_handlers() noexcept
