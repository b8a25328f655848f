// SPDX-License-Identifier: Apache-2.0
#include "micro_batches.hpp"

#include <algorithm>

namespace embellama {

namespace {

// Below this many tokens a micro-batch costs more in overhead than another worker saves.
constexpr int64_t LEAST_BALANCED_TOKENS = 32;

int64_t divide_up(int64_t n, int64_t divisor) { return n / divisor + (n % divisor != 0); }

// The texts by falling length. One number a text sorts faster than indices that point to lengths.
std::vector<int32_t> longest_first(const std::vector<int64_t> & lengths) {
    std::vector<uint64_t> keys(lengths.size());
    for (size_t text = 0; text < lengths.size(); text++) {
        const int64_t shortness = INT32_MAX - std::clamp<int64_t>(lengths[text], 0, INT32_MAX);
        keys[text] = static_cast<uint64_t>(shortness) << 32 | text;
    }
    std::sort(keys.begin(), keys.end());
    std::vector<int32_t> order(lengths.size());
    std::transform(keys.begin(), keys.end(), order.begin(), [](uint64_t key) { return static_cast<int32_t>(key); });
    return order;
}

}  // namespace

MicroBatches plan_micro_batches(const std::vector<int64_t> & lengths, int64_t max_tokens, int64_t max_texts,
                                int64_t n_workers) {
    MicroBatches plan{longest_first(lengths), {0}};
    int64_t total = 0;
    for (const int64_t length : lengths) {
        total += length;
    }
    // As many rounds as the budget asks for, and in each round the same number of tokens for each worker.
    const int64_t rounds = std::max<int64_t>(divide_up(divide_up(total, max_tokens), n_workers), 1);
    const int64_t balanced = divide_up(divide_up(total, rounds), n_workers);
    const int64_t budget = std::min(max_tokens, std::max(balanced, LEAST_BALANCED_TOKENS));
    int64_t tokens = 0;
    for (size_t i = 0; i < plan.order.size(); i++) {
        const int64_t length = lengths[plan.order[i]];
        const int64_t texts = static_cast<int64_t>(i) - plan.bounds.back();
        if (texts > 0 && (tokens + length > budget || texts == max_texts)) {
            plan.bounds.push_back(static_cast<int32_t>(i));
            tokens = 0;
        }
        tokens += length;
    }
    if (!plan.order.empty()) {
        plan.bounds.push_back(static_cast<int32_t>(plan.order.size()));
    }
    return plan;
}

}  // namespace embellama
