# SPDX-License-Identifier: Apache-2.0
from libc.stdint cimport int32_t

from embellama.native.encoder cimport Kernels
from embellama.libllama.ggml cimport ggml_threadpool
from embellama.libllama.handles cimport (
    llama_batch_ext,
    llama_context,
    llama_model,
    llama_vocab,
)
from embellama.libllama.llama cimport (
    llama_context_params,
    llama_model_params,
    llama_model_quantize_params,
    llama_process_type,
)

cdef extern from "native/guarded.hpp" namespace "embellama" nogil:
    int tokenize(
        const llama_vocab *vocab, const char *text, int32_t n_bytes, int32_t *ids,
        int32_t capacity, bint add_special, bint parse_special, bint recurses,
        const int32_t *abort_flag, int32_t *n_ids, char *message, size_t size,
    ) noexcept
    int tokenize_on_large_stack(
        const llama_vocab *vocab, const char *text, int32_t n_bytes, int32_t *ids,
        int32_t capacity, bint add_special, bint parse_special, int32_t *n_ids,
        char *message, size_t size,
    ) noexcept
    llama_model *load_model(
        const char *path, llama_model_params params, const Kernels *kernels
    ) except +
    int new_context(
        llama_model *model, llama_context_params params, llama_context **context,
        char *message, size_t size,
    ) noexcept
    int new_batch(
        llama_context *context, llama_batch_ext **batch, char *message, size_t size
    ) noexcept
    int new_threadpool(
        int n_threads, ggml_threadpool **threadpool, char *message, size_t size
    ) noexcept
    int quantize(
        const char *source, const char *destination, const llama_model_quantize_params *params,
        char *message, size_t size,
    ) noexcept
    void clear_batch(llama_batch_ext *batch) noexcept
    int add_token(
        llama_batch_ext *batch, int32_t sequence, int32_t id, int32_t position,
        char *message, size_t size,
    ) noexcept
    int process(
        llama_context *context, llama_process_type type, llama_batch_ext *batch,
        char *message, size_t size,
    ) noexcept
    void set_abort_flag(llama_context *context, int32_t *flag) noexcept
