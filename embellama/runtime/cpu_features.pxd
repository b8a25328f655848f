# SPDX-License-Identifier: Apache-2.0
# Mirrors cpu_features.hpp.
from libcpp cimport bool

cdef extern from "runtime/cpu_features.hpp" namespace "embellama" nogil:
    cdef cppclass InstructionSet:
        pass
    enum:
        N_INSTRUCTION_SETS

    const char *name_of(InstructionSet set) noexcept
    const char *missing(InstructionSet set) noexcept
    InstructionSet compiled_for() noexcept
    const char *tiles_refused() noexcept
