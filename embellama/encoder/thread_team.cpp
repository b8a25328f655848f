// SPDX-License-Identifier: Apache-2.0
#include "thread_team.hpp"

#include <system_error>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace embellama::encoder {

namespace {

// Some 30 to 80 microseconds: longer than a step of one text takes, far shorter than a time slice.
constexpr int SPINS = 2000;

void pause() {
#if defined(__x86_64__)
    _mm_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

}  // namespace

void Signal::raise() {
    count.fetch_add(1, std::memory_order_seq_cst);
    // Either this sees the sleeper's count, or the sleeper sees the new value before it sleeps.
    if (sleepers.load(std::memory_order_seq_cst) > 0) {
        { const std::lock_guard<std::mutex> lock(mutex); }
        condition.notify_all();
    }
}

void Signal::wait_beyond(unsigned seen) {
    for (int i = 0; i < SPINS; i++) {
        if (value() != seen) {
            return;
        }
        pause();
    }
    std::unique_lock<std::mutex> lock(mutex);
    sleepers.fetch_add(1, std::memory_order_seq_cst);
    condition.wait(lock, [&] { return count.load(std::memory_order_seq_cst) != seen; });
    sleepers.fetch_sub(1, std::memory_order_relaxed);
}

ThreadTeam::ThreadTeam(int n_threads) : n_asked(n_threads) {
    threads.reserve(n_threads - 1);
    try {
        for (int thread = 1; thread < n_threads; thread++) {
            threads.emplace_back(&ThreadTeam::serve, this, thread);
        }
    } catch (const std::system_error &) {
        // A process may have as many threads as its limits say; those that came suffice.
    }
}

ThreadTeam::~ThreadTeam() {
    stopping = true;
    begin.raise();
    for (std::thread & thread : threads) {
        thread.join();
    }
}

void ThreadTeam::serve(int thread) {
    for (unsigned seen = 0;; seen++) {
        begin.wait_beyond(seen);
        if (stopping) {
            return;
        }
        work(data, thread);
        meet();
    }
}

void ThreadTeam::run(Work new_work, void * new_data) {
    work = new_work;
    data = new_data;
    if (!threads.empty()) {
        begin.raise();
    }
    work(data, 0);
    meet();
}

void ThreadTeam::meet() {
    if (threads.empty()) {
        return;
    }
    const unsigned seen = met.value();
    if (arrived.fetch_add(1, std::memory_order_acq_rel) + 1 == size()) {
        arrived.store(0, std::memory_order_relaxed);
        met.raise();
    } else {
        met.wait_beyond(seen);
    }
}

}  // namespace embellama::encoder
