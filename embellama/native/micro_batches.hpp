// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

namespace embellama {

// The default budget of tokens. Measured best for MiniLM on two cores: llama.cpp computes attention over the
// whole micro-batch, so its cost grows with the square of the tokens.
constexpr int64_t MICRO_BATCH_TOKENS = 256;

// llama.cpp's LLAMA_MAX_SEQ (llama-cparams.h).
constexpr int64_t MICRO_BATCH_TEXTS = 256;

// Micro-batch i holds the texts order[bounds[i]] .. order[bounds[i + 1] - 1].
struct MicroBatches {
    std::vector<int32_t> order;
    std::vector<int32_t> bounds;
};

// Packs texts into micro-batches of at most max_tokens tokens and max_texts texts, the longest first and
// those of one length in their order; a text of more than max_tokens tokens has a micro-batch of its
// own. Few micro-batches are made smaller so that each of n_workers gets its share. Throws std::bad_alloc.
MicroBatches plan_micro_batches(const std::vector<int64_t> & lengths, int64_t max_tokens, int64_t max_texts,
                                int64_t n_workers);

}  // namespace embellama
