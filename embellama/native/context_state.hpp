// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>

#include "../runtime/abort_flag.hpp"
#include "../runtime/status.hpp"

struct ggml_threadpool;
struct llama_batch_ext;
struct llama_context;
struct llama_model;

namespace embellama {

namespace encoder {
class DoubtfulRows;
}

class DenseHead;
class ExactCopy;

// A llama_context with its batch and its threads, opened when it is first used and opened anew when more
// has to fit. One thread uses it at a time.
class ContextState {
public:
    struct Parameters {
        llama_model * model = nullptr;
        const DenseHead * head = nullptr;   // of the model
        const ExactCopy * exact = nullptr;  // of the model; null for a model that needs none
        int32_t n_threads = 1;
        bool ranks = false;      // compute the scores of the classification head, not token vectors
        bool half_keys = false;  // keep keys and values of a causal model in float16, not float32
    };

    explicit ContextState(const Parameters & parameters) : parameters_(parameters) {}
    ~ContextState() { release(); }
    ContextState(const ContextState &) = delete;
    ContextState & operator=(const ContextState &) = delete;

    const DenseHead & head() const { return *parameters_.head; }
    int32_t n_threads() const { return parameters_.n_threads; }
    bool ranks() const { return parameters_.ranks; }
    // Tokens that fit into what is open.
    int32_t n_tokens() const { return n_tokens_; }

    // Makes room for n_tokens tokens of n_sequences texts, and keeps what is open if it suffices.
    Status reserve(int32_t n_tokens, int32_t n_sequences) noexcept;
    void release() noexcept;
    // Forgets what is open without freeing it: in a forked child, where its threads do not exist.
    void abandon() noexcept;

    // Computes n_sequences texts together, for which there is room; text i has the lengths[i] tokens that
    // ids[i] points to. Stops early once `abort` is set. Texts that bfloat16 would falsify are computed
    // again with the exact copy.
    Status compute(const int32_t * const * ids, const int32_t * lengths, int32_t n_sequences,
                   const AbortFlag & abort) noexcept;

    // After compute(), until the next one: the token vectors of all texts, one after the other, or the
    // scores of one text. Null where llama.cpp has none.
    const float * token_vectors() const noexcept;
    const float * scores(int32_t sequence) const noexcept;

    // Why the last call failed.
    const Message & message() const { return message_; }

private:
    Status compute_all(const int32_t * const * ids, const int32_t * lengths, int32_t n_sequences,
                       const AbortFlag & abort) noexcept;
    Status compute_exactly(const int32_t * const * ids, const int32_t * lengths, int32_t n_sequences,
                           const encoder::DoubtfulRows & doubtful, const AbortFlag & abort) noexcept;

    const Parameters parameters_;
    llama_context * context_ = nullptr;
    llama_batch_ext * batch_ = nullptr;
    ggml_threadpool * threadpool_ = nullptr;
    std::unique_ptr<ContextState> exact_;  // of the exact copy, opened with the first text that needs it
    int32_t n_tokens_ = 0;
    int32_t n_sequences_ = 0;
    Message message_;
};

}  // namespace embellama
