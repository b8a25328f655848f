// SPDX-License-Identifier: Apache-2.0
#include "context_state.hpp"

#include <algorithm>
#include <cstring>
#include <exception>
#include <vector>

#include "dense_head.hpp"
#include "exact_copy.hpp"
#include "guarded.hpp"

namespace embellama {

namespace {

// llama.cpp computes llama-embed (llama-nemotron) with a causal mask where the file does not say otherwise,
// and no converter says so. The models were trained without one.
bool attends_both_ways(const llama_model * model) {
    char value[16];
    return llama_model_meta_val_str(model, "general.architecture", value, sizeof(value)) > 0 &&
           strcmp(value, "llama-embed") == 0 &&
           llama_model_meta_val_str(model, "llama-embed.attention.causal", value, sizeof(value)) < 0;
}

}  // namespace

Status ContextState::reserve(int32_t n_tokens, int32_t n_sequences) noexcept {
    message_ = {};
    if (n_tokens <= n_tokens_ && n_sequences <= n_sequences_) {
        return OK;
    }
    n_tokens = std::max(n_tokens, n_tokens_);
    n_sequences = std::max(n_sequences, n_sequences_);
    release();
    llama_model * const model = parameters_.model;
    const int32_t n_threads = parameters_.n_threads;
    llama_context_params params = llama_context_default_params();
    // The whole micro-batch is one ubatch; more sequences than tokens would abort.
    params.n_ctx = params.n_batch = params.n_ubatch = std::max(n_tokens, n_sequences);
    params.n_seq_max = n_sequences;
    params.n_threads = params.n_threads_batch = n_threads;
    params.pooling_type = parameters_.ranks ? LLAMA_POOLING_TYPE_RANK : LLAMA_POOLING_TYPE_NONE;
    // llama.cpp's default is float16. Its rounding moved vectors by 1e-3, and made a text's vector depend
    // on the other texts of its micro-batch.
    params.type_k = params.type_v = parameters_.half_keys ? GGML_TYPE_F16 : GGML_TYPE_F32;
    params.embeddings = true;
    params.kv_unified = true;
    params.no_perf = true;
    Status status = new_context(model, params, context_, message_);
    if (status == OK) {
        status = new_batch(context_, batch_, message_);
    }
    if (status == OK) {
        status = new_threadpool(n_threads, threadpool_, message_);
    }
    if (status == OK) {
        status = guarded(message_, [&] {
            if (attends_both_ways(model)) {
                llama_set_causal_attn(context_, false);
            }
            return OK;
        });
    }
    if (status != OK) {
        release();
        return status;
    }
    llama_attach_threadpool(context_, threadpool_, threadpool_);
    n_tokens_ = n_tokens;
    n_sequences_ = n_sequences;
    return OK;
}

void ContextState::release() noexcept {
    if (batch_) {
        llama_batch_ext_free(batch_);
    }
    if (context_) {
        llama_free(context_);
    }
    if (threadpool_) {
        ggml_threadpool_free(threadpool_);
    }
    if (exact_) {
        exact_->release();
    }
    abandon();
}

void ContextState::abandon() noexcept {
    if (exact_) {
        exact_->abandon();
    }
    batch_ = nullptr;
    context_ = nullptr;
    threadpool_ = nullptr;
    n_tokens_ = n_sequences_ = 0;
}

Status ContextState::compute(const int32_t * const * ids, const int32_t * lengths, int32_t n_sequences,
                             const AbortFlag & abort) noexcept {
    message_ = {};
    if (!parameters_.exact) {
        return compute_all(ids, lengths, n_sequences, abort);
    }
    const encoder::DoubtfulRows doubtful(&parameters_.exact->neurons());
    const Status status = compute_all(ids, lengths, n_sequences, abort);
    return status == OK ? compute_exactly(ids, lengths, n_sequences, doubtful, abort) : status;
}

Status ContextState::compute_all(const int32_t * const * ids, const int32_t * lengths, int32_t n_sequences,
                                 const AbortFlag & abort) noexcept {
    int64_t n_tokens = 0;
    for (int32_t sequence = 0; sequence < n_sequences; sequence++) {
        n_tokens += lengths[sequence];
    }
    // llama_encode asserts the first, and llama-batch.cpp does not check the second.
    if (n_tokens > n_tokens_ || n_sequences > n_sequences_) {
        return TOO_LARGE;
    }
    set_abort_flag(context_, abort);
    llama_batch_ext_clear(batch_);
    for (int32_t sequence = 0; sequence < n_sequences; sequence++) {
        for (int32_t position = 0; position < lengths[sequence]; position++) {
            const Status status = add_token(batch_, sequence, ids[sequence][position], position, message_);
            if (status != OK) {
                return status;
            }
        }
    }
    llama_process_type type = LLAMA_PROCESS_TYPE_ENCODE;
    llama_memory_t memory = llama_get_memory(context_);
    if (memory && !llama_model_has_encoder(parameters_.model)) {
        llama_memory_clear(memory, false);
        type = LLAMA_PROCESS_TYPE_DECODE;
    }
    const Status status = process(context_, type, batch_, message_);
    if (status == EXCEPTION || status == NO_MEMORY) {
        // The exception left what was under way where it stood.
        release();
    }
    return status;
}

// Computes the doubtful texts with the exact copy, and puts the results in place of the others.
Status ContextState::compute_exactly(const int32_t * const * ids, const int32_t * lengths, int32_t n_sequences,
                                     const encoder::DoubtfulRows & doubtful, const AbortFlag & abort) noexcept {
    try {
        struct Place {
            int32_t sequence;
            int64_t first_token;
        };
        std::vector<Place> places;
        std::vector<const int32_t *> exact_ids;
        std::vector<int32_t> exact_lengths;
        int64_t token = 0, n_tokens = 0;
        for (int32_t sequence = 0; sequence < n_sequences; sequence++) {
            if (doubtful.any(token, token + lengths[sequence])) {
                places.push_back({sequence, token});
                exact_ids.push_back(ids[sequence]);
                exact_lengths.push_back(lengths[sequence]);
                n_tokens += lengths[sequence];
            }
            token += lengths[sequence];
        }
        if (places.empty()) {
            return OK;
        }
        if (!exact_) {
            Parameters parameters = parameters_;
            parameters.model = parameters_.exact->model();
            parameters.exact = nullptr;
            exact_ = std::make_unique<ContextState>(parameters);
        }
        const auto n_texts = static_cast<int32_t>(places.size());
        Status status = exact_->reserve(static_cast<int32_t>(n_tokens), n_texts);
        if (status == OK) {
            status = exact_->compute(exact_ids.data(), exact_lengths.data(), n_texts, abort);
        }
        if (status != OK) {
            message_ = exact_->message();
            return status;
        }
        const int64_t n_dims = head().n_in();
        const float * vectors = ranks() ? nullptr : exact_->token_vectors();
        for (int32_t text = 0; text < n_texts; text++) {
            const auto & [sequence, first_token] = places[text];
            if (ranks()) {
                std::copy_n(exact_->scores(text), llama_model_n_cls_out(parameters_.model),
                            llama_get_embeddings_seq(context_, sequence));
            } else {
                float * const replaced = llama_get_embeddings(context_) + first_token * n_dims;
                std::copy_n(vectors, exact_lengths[text] * n_dims, replaced);
                vectors += exact_lengths[text] * n_dims;
            }
        }
        return OK;
    } catch (const std::exception &) {
        return describe_exception(message_.text, Message::SIZE) ? NO_MEMORY : EXCEPTION;
    }
}

const float * ContextState::token_vectors() const noexcept { return llama_get_embeddings(context_); }

const float * ContextState::scores(int32_t sequence) const noexcept {
    return llama_get_embeddings_seq(context_, sequence);
}

}  // namespace embellama
