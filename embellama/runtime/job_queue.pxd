# SPDX-License-Identifier: Apache-2.0
from libc.stdint cimport int32_t, int64_t
from libcpp cimport bool
from libcpp.atomic cimport atomic

cdef extern from "runtime/job_queue.hpp" namespace "embellama" nogil:
    bool first_to_set(int32_t &flag) noexcept
    bool is_set(const int32_t &flag) noexcept

    cdef cppclass Claim:
        Job *job
        int32_t item
        int32_t n_texts

    ctypedef void (*RunClaims)(
        void *owner, int32_t worker, bool alone, const Claim *claims, int32_t n_claims
    ) noexcept

    cdef cppclass Job:
        RunClaims run
        void *owner
        void *request
        int32_t n_items
        const int32_t *item_tokens
        const int32_t *item_texts
        const void *merge_key
        atomic[int64_t] texts_done
        bool cancelled

    cdef cppclass JobQueue:
        JobQueue(
            int32_t n_threads, int64_t max_tokens, int64_t max_texts, void (*begin)() noexcept
        ) except +
        void submit(Job &job) except +
        bool wait(Job &job, double seconds) noexcept
        void cancel(Job &job) noexcept
        void stop() noexcept
        void detach(int32_t worker) noexcept
        void attach(int32_t worker) noexcept
        int64_t max_tokens() noexcept
        void set_max_tokens(int64_t max_tokens) noexcept
        int32_t *abort_flag(int32_t worker) noexcept
