// SPDX-License-Identifier: Apache-2.0
#include "thread_team.hpp"

#include <sched.h>

#include <exception>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace embellama {

namespace {

void pause() {
#if defined(__x86_64__)
    _mm_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

// Some 50 microseconds, longer than a step of one text takes and far shorter than a time slice.
constexpr int SPINS = 100;
constexpr int PAUSES_PER_SPIN = 20;

// The items from `first` to `last` - 1 of a step, in one word.
struct Open {
    uint32_t step;
    uint16_t first;
    uint16_t last;

    explicit Open(uint64_t word)
        : step(static_cast<uint32_t>(word >> 32)),
          first(static_cast<uint16_t>(word >> 16)),
          last(static_cast<uint16_t>(word)) {}
    Open(uint32_t step, int n_items) : step(step), first(0), last(static_cast<uint16_t>(n_items)) {}

    bool any() const { return first != last; }
    uint64_t word() const { return static_cast<uint64_t>(step) << 32 | static_cast<uint32_t>(first) << 16 | last; }
};

}  // namespace

template <typename Condition>
void EventCount::wait_until(Condition condition) {
    for (int spin = 0; spin < SPINS; spin++) {
        for (int i = 0; i < PAUSES_PER_SPIN; i++) {
            if (condition()) {
                return;
            }
            pause();
        }
        // The thread that is waited for may want this very core.
        sched_yield();
    }
    std::unique_lock<std::mutex> lock(mutex_);
    sleepers_.fetch_add(1);
    woken_.wait(lock, condition);
    sleepers_.fetch_sub(1);
}

void EventCount::notify() {
    // Either this sees the sleeper, or the sleeper sees the change before it sleeps.
    if (sleepers_.load() > 0) {
        {
            const std::lock_guard<std::mutex> lock(mutex_);
        }
        woken_.notify_all();
    }
}

ThreadTeam::ThreadTeam(int n_threads, Rest rest) : n_asked(n_threads), rest(rest) {
    try {
        for (int thread = 1; thread < n_threads; thread++) {
            threads_.emplace_back([this, thread] { serve(thread); });
        }
    } catch (const std::exception &) {
        // A process may have as many threads as its limits say; those that came suffice.
    }
}

ThreadTeam::~ThreadTeam() {
    stopping_ = true;
    step_begins_.notify();
    threads_.clear();
}

void ThreadTeam::serve(int thread) {
    bool rested = true;
    while (!stopping_) {
        if (take_item(thread)) {
            rested = false;
        } else {
            if (!rested && rest) {
                rest();
            }
            rested = true;
            step_begins_.wait_until([this] { return Open(open_.load()).any() || stopping_.load(); });
        }
    }
}

bool ThreadTeam::take_item(int thread) {
    uint64_t now = open_.load();
    int item;
    Open left(now);
    do {
        left = Open(now);
        if (!left.any()) {
            return false;
        }
        item = thread % 2 == 0 ? left.first++ : --left.last;
    } while (!open_.compare_exchange_weak(now, left.word()));
    const int step = static_cast<int>(left.step - first_step_);
    const int n = (*n_items_)[step];
    work_(data_, thread, step, item);
    if (n_done_.fetch_add(1) + 1 == n) {
        step_ends_.notify();
    }
    return true;
}

void ThreadTeam::run(const std::vector<int> & n_items, Work work, void * data) {
    n_items_ = &n_items;
    work_ = work;
    data_ = data;
    first_step_ = next_step_;
    for (const int n : n_items) {
        n_done_ = 0;
        open_ = Open(next_step_++, n).word();
        if (n > 1) {
            step_begins_.notify();
        }
        while (take_item(0)) {
        }
        step_ends_.wait_until([&] { return n_done_.load() == n; });
    }
}

}  // namespace embellama
