# SPDX-License-Identifier: Apache-2.0
from embellama.libllama.handles cimport llama_model
from embellama.libllama.llama cimport llama_model_params, llama_model_quantize_params
from embellama.native.encoder cimport Kernels
from embellama.runtime.status cimport Message, Status

cdef extern from "native/guarded.hpp" namespace "embellama" nogil:
    llama_model *load_model(
        const char *path, llama_model_params params, const Kernels *kernels
    ) except +
    Status quantize(
        const char *source, const char *destination, const llama_model_quantize_params &params,
        Message &message,
    ) noexcept
