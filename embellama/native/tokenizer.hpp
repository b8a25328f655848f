// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "../runtime/abort_flag.hpp"
#include "../runtime/status.hpp"

struct llama_vocab;

namespace embellama {

// What turns a text into token ids. Any number of threads may share it.
struct Tokenizer {
    const llama_vocab * vocabulary = nullptr;
    bool add_special = true;
    bool parse_special = true;
    // Whether tokenizing recurses once per character, which only a large stack holds.
    bool recurses = false;

    // Writes at most `capacity` ids and sets n_ids; where they do not fit, n_ids is minus the number
    // needed. A thread that tokenizes with `recurses` has a stack of LARGE_STACK_BYTES. Returns ABORTED
    // soon after `abort`, which may be null, is set.
    Status tokenize(const char * text, int64_t n_bytes, int32_t * ids, int32_t capacity, const AbortFlag * abort,
                    int32_t & n_ids, Message & message) const noexcept;

    // The same on a thread of any stack.
    Status tokenize_on_any_stack(const char * text, int64_t n_bytes, int32_t * ids, int32_t capacity, int32_t & n_ids,
                                 Message & message) const noexcept;
};

}  // namespace embellama
