// SPDX-License-Identifier: Apache-2.0
// Threads that compute one graph together, in step.
#pragma once

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

namespace embellama::encoder {

// A counter that threads wait on: a while by spinning, then asleep, so that threads that are
// more than the cores there are do not keep each other from running.
class Signal {
public:
    unsigned value() const { return count.load(std::memory_order_acquire); }
    void raise();
    void wait_beyond(unsigned seen);

private:
    std::atomic<unsigned> count{0};
    std::atomic<int> sleepers{0};
    std::mutex mutex;
    std::condition_variable condition;
};

class ThreadTeam {
public:
    // The calling thread is a member too; starts fewer where the system refuses more.
    explicit ThreadTeam(int n_threads);
    ~ThreadTeam();
    ThreadTeam(const ThreadTeam &) = delete;
    ThreadTeam & operator=(const ThreadTeam &) = delete;

    const int n_asked;
    int size() const { return static_cast<int>(threads.size()) + 1; }

    // Calls work(data, thread) on all threads, from 0 (the caller) on, and returns when all have.
    using Work = void (*)(void * data, int thread);
    void run(Work work, void * data);

    // Within work: waits until every thread has come here.
    void meet();

private:
    void serve(int thread);

    std::vector<std::thread> threads;
    Signal begin;
    Signal met;
    std::atomic<int> arrived{0};
    Work work = nullptr;
    void * data = nullptr;
    bool stopping = false;
};

}  // namespace embellama::encoder
