# SPDX-License-Identifier: Apache-2.0
from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t
from libcpp cimport bool as cpp_bool
from libcpp.atomic cimport atomic
from libcpp.pair cimport pair
from libcpp.string cimport string
from libcpp.vector cimport vector

from embellama.native.context_state cimport ContextParameters
from embellama.native.tokenizer cimport Tokenizer
from embellama.rows cimport Norm, Pooling, RowType
from embellama.runtime.cpu_features cimport InstructionSet
from embellama.runtime.status cimport Message, Status

cdef extern from "runtime/job_queue.hpp" namespace "embellama" nogil:
    cdef cppclass Job:
        int32_t n_items
        const int32_t *item_tokens
        const int32_t *item_texts
        atomic[int64_t] texts_done
        cpp_bool cancelled

cdef extern from "native/jobs.hpp" namespace "embellama" nogil:
    const int32_t CHUNK_TEXTS

    cdef cppclass TokenBuffer:
        int32_t *data() noexcept
        int64_t size() noexcept

    cdef cppclass Chunk "embellama::TokenizeJob::Chunk":
        TokenBuffer ids
        vector[pair[int32_t, string]] reasons

    cdef cppclass TokenizeJob(Job):
        Tokenizer tokenizer
        const char *const *texts
        const int64_t *n_bytes
        int32_t n_texts
        int32_t limit
        int32_t n_suffix
        int32_t final_id
        int32_t *counts
        uint8_t *truncated
        vector[Chunk] chunks

    cdef cppclass Rows:
        char *out
        int64_t stride
        const int64_t *row_of_text
        int64_t n_dims
        cpp_bool per_token
        RowType type
        const float *starts
        const float *steps

    cdef cppclass EmbedJob(Job):
        const int32_t *ids
        const int64_t *offsets
        const int32_t *order
        const int32_t *bounds
        Rows rows
        Pooling pooling
        Norm norm
        double p
        int8_t *failures
        Status status
        Message message

cdef extern from "native/worker_pool.hpp" namespace "embellama" nogil:
    cdef cppclass Parameters "embellama::WorkerPool::Parameters":
        ContextParameters context
        int32_t n_workers
        int64_t max_tokens
        int32_t max_texts
        InstructionSet instruction_set
        cpp_bool layer_norm_before_cut

    cdef cppclass WorkerPool:
        void set_max_tokens(int64_t max_tokens) noexcept
        Status submit(TokenizeJob &job, Message &message) noexcept
        Status submit(EmbedJob &job, Message &message) noexcept
        cpp_bool wait(Job &job, double seconds) noexcept
        void cancel(Job &job) noexcept
        void stop() noexcept
        void tokenize_here(TokenizeJob &job) noexcept

    cdef cppclass WorkerPools:
        WorkerPool *(*open)(const Parameters &parameters, Message &message) noexcept nogil
        cpp_bool (*process_is_ending)() noexcept nogil
        void (*end_calls)() noexcept nogil

    const WorkerPools worker_pools
    const char *WORKER_POOLS "embellama::WorkerPools::CAPSULE"
