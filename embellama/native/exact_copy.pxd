# SPDX-License-Identifier: Apache-2.0
from embellama.libllama.handles cimport llama_model
from embellama.libllama.llama cimport llama_model_params
from embellama.native.context_state cimport ExactCopy

cdef extern from "native/exact_copy.hpp" namespace "embellama" nogil:
    ExactCopy *exact_copy_of "embellama::ExactCopy::of"(
        const llama_model *model, const char *path, llama_model_params params
    ) except +
