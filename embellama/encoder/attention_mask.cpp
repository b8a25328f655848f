// SPDX-License-Identifier: Apache-2.0
#include "attention_mask.hpp"

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "ggml.h"

namespace embellama::encoder {

namespace {

// A mask holds 0 and minus infinity, which are compared by their bits.
template <typename Bits, Bits HIDDEN>
bool find_texts(const char * mask, size_t stride, int n, std::vector<Text> & texts) {
    const auto row_of = [&](int row) { return reinterpret_cast<const Bits *>(mask + row * stride); };
    for (int first = 0; first < n;) {
        const Bits * row = row_of(first);
        const Bits * seen_end = std::find_if(row + first, row + n, [](Bits bits) { return bits != 0; });
        const auto hidden = [](Bits bits) { return bits == HIDDEN; };
        if (seen_end == row + first || !std::all_of(row, row + first, hidden) ||
            !std::all_of(seen_end, row + n, hidden)) {
            return false;
        }
        const int end = static_cast<int>(seen_end - row);
        for (int other = first + 1; other < end; other++) {
            if (memcmp(row, row_of(other), n * sizeof(Bits)) != 0) {
                return false;
            }
        }
        texts.push_back({first, end - first});
        first = end;
    }
    return true;
}

}  // namespace

bool texts_of(const ggml_tensor * mask, int n_rows, std::vector<Text> & texts) {
    texts.clear();
    if (mask->ne[0] != n_rows || mask->ne[1] < n_rows || mask->ne[2] != 1 || mask->ne[3] != 1) {
        return false;
    }
    const char * data = static_cast<const char *>(mask->data);
    if (mask->type == GGML_TYPE_F16) {
        return find_texts<uint16_t, 0xfc00>(data, mask->nb[1], n_rows, texts);
    }
    if (mask->type == GGML_TYPE_F32) {
        return find_texts<uint32_t, 0xff800000>(data, mask->nb[1], n_rows, texts);
    }
    return false;
}

}  // namespace embellama::encoder
