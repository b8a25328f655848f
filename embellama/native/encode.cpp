// SPDX-License-Identifier: Apache-2.0
#include "encode.hpp"

#include <algorithm>
#include <exception>
#include <vector>

#include "../runtime/exceptions.hpp"
#include "dense_head.hpp"
#include "micro_batches.hpp"

namespace embellama {

namespace {

// Writes the row or rows of one text; false where they hold a NaN or an infinity.
bool write(const VectorLoops & loops, const DenseHead & head, const EncodeParameters & parameters, int64_t text,
           const float * vectors, int32_t n_tokens, float * scratch) {
    if (parameters.pooling != Pooling::NONE) {
        float * const row = parameters.out + text * head.n_out();
        head.pool_text(loops, parameters.pooling, vectors, n_tokens, scratch, row);
        return normalize(loops, parameters.norm, parameters.p, row, head.n_out());
    }
    const int64_t n_dims = head.n_in();
    float * row = parameters.out + (parameters.offsets[text] - parameters.offsets[0]) * n_dims;
    std::copy_n(vectors, n_tokens * n_dims, row);
    bool finite = true;
    for (int32_t token = 0; token < n_tokens; token++, row += n_dims) {
        finite &= normalize(loops, parameters.norm, parameters.p, row, n_dims);
    }
    return finite;
}

}  // namespace

Status encode(ContextState & state, const VectorLoops & loops, const EncodeParameters & parameters,
              const AbortFlag & abort, int64_t & not_finite, Message & message) noexcept {
    not_finite = -1;
    try {
        std::vector<int64_t> all_lengths(parameters.n_texts);
        for (int64_t text = 0; text < parameters.n_texts; text++) {
            all_lengths[text] = parameters.offsets[text + 1] - parameters.offsets[text];
        }
        const MicroBatches plan = plan_micro_batches(all_lengths, MICRO_BATCH_TOKENS, MICRO_BATCH_TEXTS, 1);
        std::vector<const int32_t *> ids;
        std::vector<int32_t> lengths;
        const DenseHead & head = state.head();
        std::vector<float> scratch(head.scratch_size());
        for (size_t i = 0; i + 1 < plan.bounds.size(); i++) {
            ids.clear();
            lengths.clear();
            int64_t n_tokens = 0;
            for (int32_t place = plan.bounds[i]; place < plan.bounds[i + 1]; place++) {
                const int32_t text = plan.order[place];
                ids.push_back(parameters.ids + parameters.offsets[text]);
                lengths.push_back(static_cast<int32_t>(all_lengths[text]));
                n_tokens += all_lengths[text];
            }
            Status status = state.reserve(static_cast<int32_t>(std::max(n_tokens, MICRO_BATCH_TOKENS)),
                                          static_cast<int32_t>(MICRO_BATCH_TEXTS));
            if (status == OK) {
                status = state.compute(ids.data(), lengths.data(), static_cast<int32_t>(ids.size()), abort);
            }
            const float * vectors = status == OK ? state.token_vectors() : nullptr;
            if (!vectors) {
                message = state.message();
                return status == OK ? COMPUTE_FAILED : status;
            }
            for (int32_t place = plan.bounds[i]; place < plan.bounds[i + 1]; place++) {
                const int32_t text = plan.order[place];
                const int32_t length = lengths[place - plan.bounds[i]];
                if (!write(loops, head, parameters, text, vectors, length, scratch.data()) && not_finite < 0) {
                    not_finite = text;
                }
                vectors += length * head.n_in();
            }
        }
        return OK;
    } catch (const std::exception &) {
        return describe_exception(message.text, Message::SIZE) ? NO_MEMORY : EXCEPTION;
    }
}

}  // namespace embellama
