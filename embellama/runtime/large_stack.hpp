// SPDX-License-Identifier: Apache-2.0
// Stacks for tokenizers that run on std::regex (unicode.cpp), which recurses for every character
// of a match: some 300 bytes each. The usual 8 MiB overflow at 30,000 letters without a break.
#pragma once

#include <cstddef>
#include <cstdint>

namespace embellama {

// The pages are only reserved.
constexpr size_t LARGE_STACK_BYTES = 64 << 20;

// The longest run without white space, or of white space, that such a stack surely holds.
constexpr int64_t LONGEST_RUN = 50000;

// The most characters in a row that are all ASCII white space, or none of them.
inline int64_t longest_run(const char * text, int64_t n_bytes) {
    int64_t longest = 0, run = 0;
    bool was_space = false;
    for (int64_t i = 0; i < n_bytes; i++) {
        const unsigned char byte = text[i];
        const bool is_space = byte == ' ' || (byte >= '\t' && byte <= '\r');
        if (is_space != was_space) {
            run = 0;
            was_space = is_space;
        }
        run += (byte & 0xc0) != 0x80;  // one for each character of UTF-8
        longest = run > longest ? run : longest;
    }
    return longest;
}

}  // namespace embellama
