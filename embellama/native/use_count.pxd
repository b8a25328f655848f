# SPDX-License-Identifier: Apache-2.0
from libc.stdint cimport int32_t
from libcpp cimport bool as cpp_bool

cdef extern from "native/use_count.hpp" namespace "embellama" nogil:
    cpp_bool is_closed(const int32_t &count) noexcept
    cpp_bool begin_use(int32_t &count) noexcept
    void end_use(int32_t &count) noexcept
    cpp_bool close_unused(int32_t &count) noexcept
    void reopen(int32_t &count) noexcept
    cpp_bool take(int32_t &busy) noexcept
    void give_back(int32_t &busy) noexcept
