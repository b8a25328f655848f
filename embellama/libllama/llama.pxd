# SPDX-License-Identifier: Apache-2.0
# Mirrors llama.h of the pinned llama.cpp, as far as it is used.
from libc.stdint cimport int32_t, uint32_t, uint64_t

from embellama.libllama.ggml cimport ggml_threadpool_t
from embellama.libllama.handles cimport (
    llama_batch_ext,
    llama_context,
    llama_model,
    llama_vocab,
)

cdef extern from "llama.h" nogil:
    ctypedef int32_t llama_token
    ctypedef int32_t llama_seq_id

    cdef struct llama_memory_i:
        pass
    ctypedef llama_memory_i *llama_memory_t

    cdef enum llama_vocab_type:
        LLAMA_VOCAB_TYPE_NONE
        LLAMA_VOCAB_TYPE_SPM
        LLAMA_VOCAB_TYPE_WPM
        LLAMA_VOCAB_TYPE_UGM

    cdef enum llama_pooling_type:
        LLAMA_POOLING_TYPE_NONE
        LLAMA_POOLING_TYPE_RANK

    cdef enum llama_load_mode:
        LLAMA_LOAD_MODE_NONE
        LLAMA_LOAD_MODE_MMAP
        LLAMA_LOAD_MODE_MLOCK
        LLAMA_LOAD_MODE_MMAP_MLOCK

    cdef enum llama_process_type:
        LLAMA_PROCESS_TYPE_ENCODE
        LLAMA_PROCESS_TYPE_DECODE

    cdef enum llama_ftype:
        pass

    cdef struct llama_model_params:
        int32_t n_gpu_layers
        llama_load_mode load_mode

    cdef struct llama_context_params:
        uint32_t n_ctx
        uint32_t n_batch
        uint32_t n_ubatch
        uint32_t n_seq_max
        int32_t n_threads
        int32_t n_threads_batch
        llama_pooling_type pooling_type
        bint embeddings
        bint no_perf
        bint kv_unified

    cdef struct llama_model_quantize_params:
        int32_t nthread
        llama_ftype ftype

    const char *llama_version() noexcept
    void llama_backend_init() except +

    llama_model_params llama_model_default_params() noexcept
    llama_context_params llama_context_default_params() noexcept
    llama_model_quantize_params llama_model_quantize_default_params() noexcept

    void llama_model_free(llama_model *model) noexcept
    void llama_free(llama_context *context) noexcept

    bint llama_supports_gpu_offload() noexcept

    const llama_vocab *llama_model_get_vocab(const llama_model *model) noexcept
    int32_t llama_model_n_ctx_train(const llama_model *model) noexcept
    int32_t llama_model_n_embd_out(const llama_model *model) noexcept
    uint32_t llama_model_n_cls_out(const llama_model *model) noexcept
    int32_t llama_model_meta_val_str(
        const llama_model *model, const char *key, char *buf, size_t buf_size
    ) except +
    int32_t llama_model_desc(const llama_model *model, char *buffer, size_t size) except +
    uint64_t llama_model_size(const llama_model *model) noexcept
    uint64_t llama_model_n_params(const llama_model *model) noexcept
    bint llama_model_has_encoder(const llama_model *model) noexcept

    llama_memory_t llama_get_memory(const llama_context *context) noexcept
    void llama_memory_clear(llama_memory_t memory, bint data) noexcept
    void llama_attach_threadpool(
        llama_context *context, ggml_threadpool_t threadpool, ggml_threadpool_t threadpool_batch
    ) noexcept

    void llama_batch_ext_free(llama_batch_ext *batch) noexcept
    float *llama_get_embeddings(llama_context *context) noexcept
    float *llama_get_embeddings_seq(llama_context *context, llama_seq_id sequence) noexcept

    llama_vocab_type llama_vocab_type_of "llama_vocab_type"(const llama_vocab *vocab) noexcept
    int32_t llama_vocab_n_tokens(const llama_vocab *vocab) noexcept
    const char *llama_vocab_get_text(const llama_vocab *vocab, llama_token token) except +
    llama_token llama_vocab_bos(const llama_vocab *vocab) noexcept
    llama_token llama_vocab_eos(const llama_vocab *vocab) noexcept
    llama_token llama_vocab_sep(const llama_vocab *vocab) noexcept
    bint llama_vocab_get_add_bos(const llama_vocab *vocab) noexcept
    bint llama_vocab_get_add_eos(const llama_vocab *vocab) noexcept
    bint llama_vocab_get_add_sep(const llama_vocab *vocab) noexcept
