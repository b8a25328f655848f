# SPDX-License-Identifier: Apache-2.0
from libc.stdint cimport int32_t, int64_t
from libcpp.vector cimport vector

cdef extern from "native/micro_batches.hpp" namespace "embellama" nogil:
    const int64_t MICRO_BATCH_TOKENS "embellama::MICRO_BATCH_TOKENS"

    cdef cppclass MicroBatches:
        vector[int32_t] order
        vector[int32_t] bounds

    MicroBatches plan_micro_batches(
        const vector[int64_t] &lengths, int64_t max_tokens, int64_t max_texts, int64_t n_workers
    ) except +
