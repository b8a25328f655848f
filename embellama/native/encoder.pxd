# SPDX-License-Identifier: Apache-2.0
# Mirrors the headers of embellama/encoder, as far as they are used.
from libcpp cimport bool
from libcpp.vector cimport vector

from embellama.runtime.cpu_features cimport InstructionSet
from embellama.libllama.handles cimport llama_model

cdef extern from "encoder/kernels.hpp" namespace "embellama::encoder" nogil:
    cdef cppclass Kernels:
        const char *name

cdef extern from "encoder/instruction_sets.hpp" namespace "embellama::encoder" nogil:
    void set_limit(InstructionSet limit) noexcept
    vector[const Kernels *] available_kernels() except +
    vector[const Kernels *] refused_kernels() except +
    const Kernels *choose_kernels(const char *name, bool exact) except +

cdef extern from "encoder/visibility.hpp" namespace "embellama::encoder" nogil:
    bool supports(const char *architecture) noexcept
    const Kernels *kernels_of(const llama_model *model) noexcept

cdef extern from "encoder/device.hpp" namespace "embellama::encoder" nogil:
    void register_backend() except +
