// SPDX-License-Identifier: Apache-2.0
#include "llama_log.hpp"

#include <atomic>
#include <deque>
#include <mutex>

#include "llama.h"
#include "thread_memory.hpp"

namespace embellama {
namespace {

// Python may not fetch lines for a long time, so only this many lines are kept; older ones are
// dropped.
constexpr size_t MAX_LINES = 4096;
// A compute thread may log an error for each call, and nobody fetches them.
constexpr size_t MAX_ERROR_BYTES = 4096;

struct Line {
    int level;
    std::string text;
};

std::atomic<int> threshold{GGML_LOG_LEVEL_WARN};
std::mutex mutex;
std::deque<Line> & lines() {
    // Never destroyed: llama.cpp may still log while static destructors run.
    static auto * instance = new std::deque<Line>;
    return *instance;
}
// A pointer, because a thread-local string has a destructor, and registering that ends the process
// if memory is short. take_errors() frees the string.
EMBELLAMA_THREAD_LOCAL std::string * errors = nullptr;
// Whether a line could not be stored for lack of memory; the line was then most likely about that.
EMBELLAMA_THREAD_LOCAL bool lost_error = false;
EMBELLAMA_THREAD_LOCAL bool only_errors = false;
EMBELLAMA_THREAD_LOCAL int last_level = GGML_LOG_LEVEL_NONE;

void on_log(ggml_log_level level, const char * text, void *) {
    const bool continues = level == GGML_LOG_LEVEL_CONT;
    if (!continues) {
        last_level = level;
    }
    try {
        if (last_level == GGML_LOG_LEVEL_ERROR) {
            if (!errors) {
                errors = new std::string;
            }
            if (errors->size() > MAX_ERROR_BYTES) {
                errors->clear();
            }
            *errors += text;
        }
        if (last_level < threshold.load(std::memory_order_relaxed) ||
            (only_errors && last_level != GGML_LOG_LEVEL_ERROR)) {
            return;
        }
        const std::lock_guard<std::mutex> lock(mutex);
        auto & kept = lines();
        if (continues && !kept.empty()) {
            kept.back().text += text;
            return;
        }
        if (kept.size() == MAX_LINES) {
            kept.pop_front();
        }
        kept.push_back({last_level, text});
    } catch (const std::bad_alloc &) {
        lost_error |= last_level == GGML_LOG_LEVEL_ERROR;
    }
}

}  // namespace

void install_log() { llama_log_set(on_log, nullptr); }

void set_log_level(int level) { threshold.store(level, std::memory_order_relaxed); }

OnlyErrors::OnlyErrors() : outer(only_errors) { only_errors = true; }

OnlyErrors::~OnlyErrors() { only_errors = outer; }

bool take_log_line(int & level, std::string & line) {
    const std::lock_guard<std::mutex> lock(mutex);
    auto & kept = lines();
    if (kept.empty()) {
        return false;
    }
    level = kept.front().level;
    line = std::move(kept.front().text);
    kept.pop_front();
    return true;
}

std::string take_errors() {
    std::string taken;
    if (errors) {
        taken.swap(*errors);
        delete errors;
        errors = nullptr;
    }
    if (lost_error) {
        taken = "bad_alloc";  // short enough to need no memory
        lost_error = false;
    }
    return taken;
}

void lock_log() { mutex.lock(); }

void unlock_log() { mutex.unlock(); }

}  // namespace embellama
