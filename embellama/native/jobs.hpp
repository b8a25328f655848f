// SPDX-License-Identifier: Apache-2.0
// What a caller asks of the worker threads (worker_pool.hpp). A job's pointers are the caller's: they are
// read and written until the job is finished.
#pragma once

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "../rows.hpp"
#include "../runtime/job_queue.hpp"
#include "../runtime/status.hpp"
#include "tokenizer.hpp"

namespace embellama {

// Texts tokenized per item: enough to make the queue's cost vanish, few enough to balance.
constexpr int32_t CHUNK_TEXTS = 64;

// Token ids, one text's after the other's. Not a std::vector, which would write to all of the room that
// long texts might need and seldom do.
class TokenBuffer {
public:
    TokenBuffer() = default;
    TokenBuffer(TokenBuffer && other) noexcept { swap(other); }
    TokenBuffer & operator=(TokenBuffer && other) noexcept {
        swap(other);
        return *this;
    }
    ~TokenBuffer() { free(data_); }

    int32_t * data() const { return data_; }
    int64_t size() const { return size_; }
    void set_size(int64_t size) { size_ = size; }

    // Where the next text's ids go, and for how many there is room.
    int32_t * end() const { return data_ + size_; }
    int64_t room() const { return capacity_ - size_; }
    // Throws std::bad_alloc.
    void make_room(int64_t n) {
        if (n > room()) {
            auto * larger = static_cast<int32_t *>(realloc(data_, (size_ + n) * sizeof(int32_t)));
            if (!larger) {
                throw std::bad_alloc();
            }
            data_ = larger;
            capacity_ = size_ + n;
        }
    }

private:
    void swap(TokenBuffer & other) {
        std::swap(data_, other.data_);
        std::swap(size_, other.size_);
        std::swap(capacity_, other.capacity_);
    }

    int32_t * data_ = nullptr;
    int64_t size_ = 0;
    int64_t capacity_ = 0;
};

struct TokenizeJob : Job {
    Tokenizer tokenizer;
    const char * const * texts = nullptr;
    const int64_t * n_bytes = nullptr;  // negative for a text without UTF-8 form
    int32_t n_texts = 0;
    int32_t limit = 0;      // tokens to keep of each text; 0 keeps all
    int32_t n_suffix = 0;   // how many special tokens at the end are kept whatever is cut
    int32_t final_id = -1;  // appended where the vocabulary does not; -1 for none

    // The results.
    int32_t * counts = nullptr;  // tokens of each text, or a negative Status
    uint8_t * truncated = nullptr;
    struct Chunk {
        TokenBuffer ids;                                       // of CHUNK_TEXTS texts
        std::vector<std::pair<int32_t, std::string>> reasons;  // what the tokenizer said of a text it failed on
    };
    std::vector<Chunk> chunks;
};

// Why a text has no vector.
enum class Failure : int8_t { NONE = 0, NOT_FINITE = 1, NOT_COMPUTED = 2 };

// Where vectors go, and as what.
struct Rows {
    char * out = nullptr;
    int64_t stride = 0;                     // bytes from one row to the next
    const int64_t * row_of_text = nullptr;  // a text's row, or with per_token its first one
    int64_t n_dims = 0;                     // dimensions kept of each vector
    bool per_token = false;                 // a row per token instead of one per text, in float32
    RowType type = RowType::FLOAT32;
    const float * starts = nullptr;  // of the types INT8 and UINT8 with ranges
    const float * steps = nullptr;
};

struct EmbedJob : Job {
    const int32_t * ids = nullptr;
    const int64_t * offsets = nullptr;  // text i has ids[offsets[i]] .. ids[offsets[i + 1] - 1]
    const int32_t * order = nullptr;    // see MicroBatches
    const int32_t * bounds = nullptr;
    Rows rows;
    Pooling pooling = Pooling::MEAN;
    Norm norm = Norm::L2;
    double p = 2;

    // The results.
    int8_t * failures = nullptr;  // a Failure per text
    // Of the first micro-batch that could not be computed; the worker that sets `failed` writes the others.
    std::atomic<bool> failed{false};
    Status status = OK;
    Message message;
};

}  // namespace embellama
