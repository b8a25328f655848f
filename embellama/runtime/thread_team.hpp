// SPDX-License-Identifier: Apache-2.0
// Threads that compute one graph together, a step at a time.
//
// A step is a number of items that any thread may take. It is finished when all items are, not
// when all threads have come: a thread that the system does not let run holds nobody up, and the
// caller alone gets everything done.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>
#include <vector>

#include "thread.hpp"

namespace embellama {

// Lets threads wait for a condition that another one makes true: a while by spinning, then asleep. An
// event count, as Dmitry Vyukov describes it.
class EventCount {
public:
    template <typename Condition>
    void wait_until(Condition condition);
    // After the change that a condition waits for, which must be to a sequentially consistent
    // atomic.
    void notify();

private:
    std::atomic<int> sleepers_{0};
    std::mutex mutex_;
    std::condition_variable woken_;
};

class ThreadTeam {
public:
    using Rest = void (*)();
    // The calling thread is a member too; starts fewer where the system refuses more. The other
    // threads call `rest` after an item if they must wait for the next one.
    explicit ThreadTeam(int n_threads, Rest rest = nullptr);
    ~ThreadTeam();
    ThreadTeam(const ThreadTeam &) = delete;
    ThreadTeam & operator=(const ThreadTeam &) = delete;

    static constexpr int MOST_ITEMS = 65535;

    const int n_asked;
    const Rest rest;
    int size() const { return static_cast<int>(threads_.size()) + 1; }

    // What is to be done for an item of a step; thread 0 is the caller.
    using Work = void (*)(void * data, int thread, int step, int item);
    // Works through steps of n_items[0], n_items[1], ... items, of at most MOST_ITEMS. Even threads
    // take them from the first on and odd ones from the last on, so that two threads stay with the
    // same rows from step to step, which are then in the cache of their core.
    void run(const std::vector<int> & n_items, Work work, void * data);

private:
    void serve(int thread);
    // Takes an item of the step under way and does it; false where none is left.
    bool take_item(int thread);

    std::deque<Thread> threads_;
    // A number for the step, and which of its items nobody has taken yet: see Open.
    std::atomic<uint64_t> open_{0};
    std::atomic<int> n_done_{0};
    std::atomic<bool> stopping_{false};
    EventCount step_begins_;
    EventCount step_ends_;
    // Read by a thread that holds an item, and so not changed meanwhile.
    const std::vector<int> * n_items_ = nullptr;
    Work work_ = nullptr;
    void * data_ = nullptr;
    uint32_t first_step_ = 0;
    uint32_t next_step_ = 0;
};

}  // namespace embellama
