// SPDX-License-Identifier: Apache-2.0
// llama.cpp calls that may throw, turned into a status and a message: compute threads have no
// Python state in which an exception could be raised.
#pragma once

#include <cstdint>
#include <cstdio>
#include <exception>
#include <mutex>
#include <new>
#include <stdexcept>
#include <string>

#include "../encoder/offer.hpp"
#include "../runtime/aborts.hpp"
#include "../runtime/exceptions.hpp"
#include "../runtime/float_environment.hpp"
#include "../runtime/fork.hpp"
#include "../runtime/large_stack.hpp"
#include "../runtime/llama_log.hpp"
#include "../runtime/process_end.hpp"
#include "ggml-cpu.h"
#include "llama.h"

namespace embellama {

enum Status : int {
    OK = 0,
    ABORTED = 2,     // llama_decode and llama_encode: the abort callback said stop
    INVALID = -1,    // ... invalid input batch
    NO_MEMORY = -2,  // ... could not allocate space for the compute graph
    COMPUTE_FAILED = -3,
    EXCEPTION = -4,
    TOO_LARGE = -5,
};

template <typename Call>
int guarded(char * message, size_t size, Call call) noexcept {
    const AbortsThrow guard;
    try {
        const int status = call();
        if (status != OK) {
            const std::string errors = take_errors();
            if (!message[0]) {
                snprintf(message, size, "%s", errors.c_str());
            }
        }
        return status;
    } catch (...) {
        return describe_exception(message, size) ? NO_MEMORY : EXCEPTION;
    }
}

// `recurses` says that the vocabulary needs a large stack, and that the calling thread has one. Ends
// with ABORTED once another thread sets *abort_flag; null for never.
inline int tokenize(const llama_vocab * vocab, const char * text, int32_t n_bytes, int32_t * ids, int32_t capacity,
                    bool add_special, bool parse_special, bool recurses, const int32_t * abort_flag, int32_t * n_ids,
                    char * message, size_t size) noexcept {
    if (recurses && n_bytes > LONGEST_RUN && longest_run(text, n_bytes) > LONGEST_RUN) {
        snprintf(message, size, "more than %d characters without a break between words: split or shorten them",
                 static_cast<int>(LONGEST_RUN));
        return EXCEPTION;
    }
    const DefaultFloatEnvironment environment;
    llama_tokenize_set_stop_flag(abort_flag);
    const int status = guarded(message, size, [&] {
        *n_ids = llama_tokenize(vocab, text, n_bytes, ids, capacity, add_special, parse_special);
        return *n_ids == INT32_MIN ? TOO_LARGE : OK;
    });
    llama_tokenize_set_stop_flag(nullptr);
    return status == EXCEPTION && abort_flag && __atomic_load_n(abort_flag, __ATOMIC_RELAXED) ? ABORTED : status;
}

inline int tokenize_on_large_stack(const llama_vocab * vocab, const char * text, int32_t n_bytes, int32_t * ids,
                                   int32_t capacity, bool add_special, bool parse_special, int32_t * n_ids,
                                   char * message, size_t size) noexcept {
    int status = NO_MEMORY;
    on_large_stack([&] {
        status = tokenize(vocab, text, n_bytes, ids, capacity, add_special, parse_special, true, nullptr, n_ids,
                          message, size);
    });
    return status;
}

// `kernels` may be null: llama.cpp then computes alone. Throws what llama.cpp throws; null too
// when the process ends.
inline llama_model * load_model(const char * path, llama_model_params params, const encoder::Kernels * kernels) {
    const bool mapped = params.load_mode == LLAMA_LOAD_MODE_MMAP || params.load_mode == LLAMA_LOAD_MODE_MMAP_MLOCK;
    const encoder::Offer offer(kernels, mapped);
    const AbortsThrow guard;
    const DefaultFloatEnvironment environment;
    params.progress_callback = [](float, void *) { return __atomic_load_n(&process_ends, __ATOMIC_RELAXED) == 0; };
    const InsideLlama inside;
    if (!inside.entered) {
        throw std::runtime_error("the process is ending");
    }
    return llama_model_load_from_file(path, params);
}

inline int new_context(llama_model * model, llama_context_params params, llama_context ** context, char * message,
                       size_t size) noexcept {
    const DefaultFloatEnvironment environment;
    return guarded(message, size, [&] {
        // Creating a context writes to state that the contexts of a model share.
        const std::lock_guard<std::mutex> lock(context_creation);
        const encoder::Offer offer(encoder::kernels_of(model));
        if (offer.kernels) {
            // AUTO turns it off where a layer's weights and its attention are on different devices.
            params.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_ENABLED;
        }
        *context = llama_init_from_model(model, params);
        if (*context) {
            return OK;
        }
        // llama.cpp caught it, and only its log says what it was.
        const std::string errors = take_errors();
        snprintf(message, size, "%s", errors.c_str());
        return errors.find("GGML_ASSERT") == std::string::npos ? NO_MEMORY : EXCEPTION;
    });
}

inline int new_batch(llama_context * context, llama_batch_ext ** batch, char * message, size_t size) noexcept {
    return guarded(message, size, [&] {
        *batch = llama_batch_ext_init(context);
        return OK;
    });
}

inline int new_threadpool(int n_threads, ggml_threadpool ** threadpool, char * message, size_t size) noexcept {
    const DefaultFloatEnvironment environment;  // of its threads
    return guarded(message, size, [&] {
        ggml_threadpool_params params = ggml_threadpool_params_default(n_threads);
        params.poll = 0;  // sleep between computes; an idle model uses no processor time
        *threadpool = ggml_threadpool_new(&params);
        return *threadpool ? OK : NO_MEMORY;
    });
}

inline int quantize(const char * source, const char * destination, const llama_model_quantize_params * params,
                    char * message, size_t size) noexcept {
    const DefaultFloatEnvironment environment;
    return guarded(message, size,
                   [&] { return llama_model_quantize(source, destination, params) == 0 ? OK : EXCEPTION; });
}

inline void clear_batch(llama_batch_ext * batch) noexcept { llama_batch_ext_clear(batch); }

inline int add_token(llama_batch_ext * batch, int32_t sequence, int32_t id, int32_t position, char * message,
                     size_t size) noexcept {
    return guarded(message, size, [&] {
        const int32_t index = llama_batch_ext_add_token(batch, sequence, id);
        if (index < 0 || !llama_batch_ext_set_pos(batch, index, &position) ||
            !llama_batch_ext_set_output_embd(batch, index, true)) {
            snprintf(message, size, "token %d of sequence %d does not fit the batch", id, sequence);
            return INVALID;
        }
        return OK;
    });
}

inline int process(llama_context * context, llama_process_type type, llama_batch_ext * batch, char * message,
                   size_t size) noexcept {
    const DefaultFloatEnvironment environment;
    return guarded(message, size, [&]() -> int { return llama_process(context, type, batch); });
}

// Computations of the context stop once another thread sets *flag; null for never.
inline void set_abort_flag(llama_context * context, int32_t * flag) noexcept {
    auto requested = [](void * data) { return __atomic_load_n(static_cast<int32_t *>(data), __ATOMIC_RELAXED) != 0; };
    llama_set_abort_callback(context, flag ? +requested : nullptr, flag);
}

}  // namespace embellama
