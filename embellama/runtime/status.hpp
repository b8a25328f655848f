// SPDX-License-Identifier: Apache-2.0
// How a call on a compute thread ended. Such a thread has no Python state in which an exception could
// be raised; core.pyx turns a status into an exception once the GIL is held.
#pragma once

#include <cstddef>

namespace embellama {

enum Status : int {
    OK = 0,
    ABORTED = 2,     // llama_decode and llama_encode: the abort callback said stop
    INVALID = -1,    // ... invalid input batch
    NO_MEMORY = -2,  // ... could not allocate space for the compute graph
    COMPUTE_FAILED = -3,
    EXCEPTION = -4,
    TOO_LARGE = -5,
    TOKENIZER_FAILED = -6,
};

// Why a call failed, or "". It has a fixed size because memory may be what is lacking.
struct Message {
    static constexpr size_t SIZE = 512;
    char text[SIZE] = "";
};

}  // namespace embellama
