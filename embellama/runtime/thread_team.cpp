// SPDX-License-Identifier: Apache-2.0
#include "thread_team.hpp"

#include <sched.h>

#include <system_error>

#include "thread_memory.hpp"

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
void Bell::wait_until(Condition condition) {
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
    std::unique_lock<std::mutex> lock(mutex);
    sleepers.fetch_add(1);
    woken.wait(lock, condition);
    sleepers.fetch_sub(1);
}

void Bell::ring() {
    // Either this sees the sleeper, or the sleeper sees the change before it sleeps.
    if (sleepers.load() > 0) {
        {
            const std::lock_guard<std::mutex> lock(mutex);
        }
        woken.notify_all();
    }
}

ThreadTeam::ThreadTeam(int n_threads) : n_asked(n_threads) {
    threads.reserve(n_threads - 1);
    try {
        for (int thread = 1; thread < n_threads; thread++) {
            void * const memory = reserve_thread_memory();
            std::atomic<bool> begun{false};
            if (!memory) {
                break;
            }
            try {
                threads.emplace_back([this, thread, memory, &begun] {
                    release_thread_memory(memory);
                    touch_thread_memory();
                    begun = true;
                    serve(thread);
                });
            } catch (...) {
                release_thread_memory(memory);
                throw;
            }
            while (!begun) {
                sched_yield();
            }
        }
    } catch (const std::system_error &) {
        // A process may have as many threads as its limits say; those that came suffice.
    }
}

ThreadTeam::~ThreadTeam() {
    stopping = true;
    step_begins.ring();
    for (std::thread & thread : threads) {
        thread.join();
    }
}

void ThreadTeam::serve(int thread) {
    while (!stopping) {
        if (!take_item(thread)) {
            step_begins.wait_until([this] { return Open(open.load()).any() || stopping.load(); });
        }
    }
}

bool ThreadTeam::take_item(int thread) {
    uint64_t now = open.load();
    int item;
    Open left(now);
    do {
        left = Open(now);
        if (!left.any()) {
            return false;
        }
        item = thread % 2 == 0 ? left.first++ : --left.last;
    } while (!open.compare_exchange_weak(now, left.word()));
    const int step = static_cast<int>(left.step - first_step);
    const int n = (*n_items)[step];
    work(data, thread, step, item);
    if (n_done.fetch_add(1) + 1 == n) {
        step_ends.ring();
    }
    return true;
}

void ThreadTeam::run(const std::vector<int> & new_items, Work new_work, void * new_data) {
    n_items = &new_items;
    work = new_work;
    data = new_data;
    first_step = next_step;
    for (const int n : new_items) {
        n_done = 0;
        open = Open(next_step++, n).word();
        if (n > 1) {
            step_begins.ring();
        }
        while (take_item(0)) {
        }
        step_ends.wait_until([&] { return n_done.load() == n; });
    }
}

}  // namespace embellama
