// SPDX-License-Identifier: Apache-2.0
// Calls of llama.cpp that may throw, turned into a status and a message.
#pragma once

#include <cstdio>
#include <mutex>
#include <stdexcept>
#include <string>

#include "../encoder/visibility.hpp"
#include "../runtime/abort_flag.hpp"
#include "../runtime/aborts.hpp"
#include "../runtime/exceptions.hpp"
#include "../runtime/float_environment.hpp"
#include "../runtime/fork.hpp"
#include "../runtime/llama_log.hpp"
#include "../runtime/process_end.hpp"
#include "../runtime/status.hpp"
#include "ggml-cpu.h"
#include "llama.h"

namespace embellama {

template <typename Call>
Status guarded(Message & message, Call call) noexcept {
    const AbortsThrow guard;
    try {
        const Status status = call();
        if (status != OK) {
            const std::string errors = take_errors();
            if (!message.text[0]) {
                snprintf(message.text, Message::SIZE, "%s", errors.c_str());
            }
        }
        return status;
    } catch (...) {
        return describe_exception(message.text, Message::SIZE) ? NO_MEMORY : EXCEPTION;
    }
}

// `kernels` may be null: llama.cpp then computes alone. Throws what llama.cpp throws; returns null where
// llama.cpp only logged why it failed.
inline llama_model * load_model(const char * path, llama_model_params params, const encoder::Kernels * kernels) {
    const bool mapped = params.load_mode == LLAMA_LOAD_MODE_MMAP || params.load_mode == LLAMA_LOAD_MODE_MMAP_MLOCK;
    const encoder::EncoderVisibility visibility(kernels, mapped);
    const AbortsThrow guard;
    const DefaultFloatEnvironment environment;
    params.progress_callback = [](float, void *) { return !process_ends.is_set(); };
    const InsideLlama inside;
    if (!inside.entered) {
        throw std::runtime_error("the process is ending");
    }
    return llama_model_load_from_file(path, params);
}

inline Status new_context(llama_model * model, llama_context_params params, llama_context *& context,
                          Message & message) noexcept {
    const DefaultFloatEnvironment environment;
    return guarded(message, [&] {
        // Creating a context writes to state that the contexts of a model share.
        const std::lock_guard<std::mutex> lock(context_creation);
        const encoder::EncoderVisibility visibility(encoder::kernels_of(model));
        if (visibility.kernels) {
            // AUTO turns it off where a layer's weights and its attention are on different devices.
            params.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_ENABLED;
        }
        context = llama_init_from_model(model, params);
        if (context) {
            return OK;
        }
        // llama.cpp caught the exception, and only its log says what it was.
        const std::string errors = take_errors();
        snprintf(message.text, Message::SIZE, "%s", errors.c_str());
        return errors.find("GGML_ASSERT") == std::string::npos ? NO_MEMORY : EXCEPTION;
    });
}

inline Status new_batch(llama_context * context, llama_batch_ext *& batch, Message & message) noexcept {
    return guarded(message, [&] {
        batch = llama_batch_ext_init(context);
        return OK;
    });
}

inline Status new_threadpool(int n_threads, ggml_threadpool *& threadpool, Message & message) noexcept {
    const DefaultFloatEnvironment environment;  // of its threads
    return guarded(message, [&] {
        ggml_threadpool_params params = ggml_threadpool_params_default(n_threads);
        params.poll = 0;  // sleep between computes; an idle model uses no processor time
        threadpool = ggml_threadpool_new(&params);
        return threadpool ? OK : NO_MEMORY;
    });
}

inline Status quantize(const char * source, const char * destination, const llama_model_quantize_params & params,
                       Message & message) noexcept {
    const DefaultFloatEnvironment environment;
    const InsideLlama inside;
    if (!inside.entered) {
        snprintf(message.text, Message::SIZE, "the process is ending");
        return EXCEPTION;
    }
    return guarded(message, [&] { return llama_model_quantize(source, destination, &params) == 0 ? OK : EXCEPTION; });
}

inline Status add_token(llama_batch_ext * batch, int32_t sequence, int32_t id, int32_t position,
                        Message & message) noexcept {
    return guarded(message, [&] {
        const int32_t index = llama_batch_ext_add_token(batch, sequence, id);
        if (index < 0 || !llama_batch_ext_set_pos(batch, index, &position) ||
            !llama_batch_ext_set_output_embd(batch, index, true)) {
            snprintf(message.text, Message::SIZE, "token %d of sequence %d does not fit the batch", id, sequence);
            return INVALID;
        }
        return OK;
    });
}

inline Status process(llama_context * context, llama_process_type type, llama_batch_ext * batch,
                      Message & message) noexcept {
    const DefaultFloatEnvironment environment;
    // The numbers that llama_process returns are those of Status.
    return guarded(message, [&] { return static_cast<Status>(llama_process(context, type, batch)); });
}

// Computations of the context stop once the flag is set.
inline void set_abort_flag(llama_context * context, const AbortFlag & flag) noexcept {
    const auto is_set = [](void * data) { return static_cast<const AbortFlag *>(data)->is_set(); };
    llama_set_abort_callback(context, is_set, const_cast<AbortFlag *>(&flag));
}

}  // namespace embellama
