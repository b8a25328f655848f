# SPDX-License-Identifier: Apache-2.0
from libcpp cimport bool
from libcpp.string cimport string

cdef extern from "runtime/llama_log.hpp" namespace "embellama" nogil:
    void install_log() except +
    void set_log_level(int level) noexcept
    bool take_log_line(int &level, string &line) except +
    string take_errors() except +
