// SPDX-License-Identifier: Apache-2.0
#include "tokenizer.hpp"

#include <cstdio>
#include <exception>

#include "../runtime/exceptions.hpp"
#include "../runtime/large_stack.hpp"
#include "../runtime/thread.hpp"
#include "guarded.hpp"

namespace embellama {

Status Tokenizer::tokenize(const char * text, int64_t n_bytes, int32_t * ids, int32_t capacity, const AbortFlag * abort,
                           int32_t & n_ids, Message & message) const noexcept {
    // llama.cpp counts in 32 bits, and appends special tokens.
    if (n_bytes > INT32_MAX - 64) {
        return TOO_LARGE;
    }
    if (recurses && n_bytes > LONGEST_RUN && longest_run(text, n_bytes) > LONGEST_RUN) {
        snprintf(message.text, Message::SIZE,
                 "more than %d characters without a break between words: split or shorten them",
                 static_cast<int>(LONGEST_RUN));
        return TOKENIZER_FAILED;
    }
    const DefaultFloatEnvironment environment;
    llama_tokenize_set_stop_flag(abort ? abort->word() : nullptr);
    const Status status = guarded(message, [&] {
        n_ids =
            llama_tokenize(vocabulary, text, static_cast<int32_t>(n_bytes), ids, capacity, add_special, parse_special);
        return n_ids == INT32_MIN ? TOO_LARGE : OK;
    });
    llama_tokenize_set_stop_flag(nullptr);
    if (status != EXCEPTION) {
        return status;
    }
    return abort && abort->is_set() ? ABORTED : TOKENIZER_FAILED;
}

Status Tokenizer::tokenize_on_any_stack(const char * text, int64_t n_bytes, int32_t * ids, int32_t capacity,
                                        int32_t & n_ids, Message & message) const noexcept {
    if (!recurses) {
        return tokenize(text, n_bytes, ids, capacity, nullptr, n_ids, message);
    }
    Status status = OK;
    try {
        const Thread thread([&] { status = tokenize(text, n_bytes, ids, capacity, nullptr, n_ids, message); },
                            LARGE_STACK_BYTES);
    } catch (const std::exception &) {
        describe_exception(message.text, Message::SIZE);
        return NO_MEMORY;
    }
    return status;
}

}  // namespace embellama
