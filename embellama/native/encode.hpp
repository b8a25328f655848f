// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "../rows.hpp"
#include "../runtime/abort_flag.hpp"
#include "../runtime/status.hpp"
#include "context_state.hpp"

namespace embellama {

struct EncodeParameters {
    const int32_t * ids;
    const int64_t * offsets;  // text i has ids[offsets[i]] .. ids[offsets[i + 1] - 1]
    int64_t n_texts;
    Pooling pooling;
    Norm norm;
    double p;
    float * out;  // a row for each text, or with Pooling::NONE for each token, in the texts' order
};

// Computes texts in micro-batches on the calling thread. Sets `not_finite` to a text whose vector holds a
// NaN or an infinity, or to -1.
Status encode(ContextState & state, const VectorLoops & loops, const EncodeParameters & parameters,
              const AbortFlag & abort, int64_t & not_finite, Message & message) noexcept;

}  // namespace embellama
