// SPDX-License-Identifier: Apache-2.0
// Threads that embellama owns and the queue they serve. Knows neither llama.cpp nor Python.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <list>
#include <mutex>
#include <vector>

#include "abort_flag.hpp"
#include "thread.hpp"

namespace embellama {

struct Job;

// One item of one job.
struct Claim {
    Job * job;  // null once the job was cancelled while the worker was detached from it
    int32_t item;
    int32_t n_texts;
};

// Runs the claimed items on thread `worker`, and must not throw. `alone` says that no other thread has
// work. `owner` is the first job's.
using RunClaims = void (*)(void * owner, int32_t worker, bool alone, const std::vector<Claim> & claims);

// What one caller wants done: items that run in any order, each once, on any thread.
struct Job {
    RunClaims run = nullptr;
    void * owner = nullptr;
    int32_t n_items = 0;

    // Tokens and texts of each item. Jobs with the same `merge_key` may share a micro-batch as long
    // as the queue's limits hold; null means that an item always goes alone.
    const int32_t * item_tokens = nullptr;
    const int32_t * item_texts = nullptr;
    const void * merge_key = nullptr;

    std::atomic<int64_t> texts_done{0};

    // Guarded by the queue's mutex.
    int32_t next = 0;
    int32_t running = 0;
    bool cancelled = false;
    std::condition_variable finished;
};

class JobQueue {
public:
    JobQueue(int32_t n_threads, int64_t max_tokens, int64_t max_texts);
    ~JobQueue();

    // Throws std::system_error or std::bad_alloc where not a single thread can be started.
    void submit(Job & job);

    // True once every item is done, or was dropped by cancel(); false after `seconds`.
    bool wait(Job & job, double seconds);

    // Drops the items not begun; those under way are told to stop through their abort flag. The
    // job is finished once no worker is attached to it.
    void cancel(Job & job);

    // Drops everything and ends the threads; wait() returns true from then on.
    void stop();

    // What a worker calls around the long part of its work. In between it must not touch its
    // claims, nor what their jobs point to: whoever waits for a job leaves as soon as it is
    // cancelled, and frees it. Afterwards the claims say which jobs are still there.
    void detach(int32_t worker) {
        const std::lock_guard<std::mutex> lock(mutex_);
        workers_[worker].detached = true;
        drop_cancelled(workers_[worker]);
    }
    void attach(int32_t worker) {
        const std::lock_guard<std::mutex> lock(mutex_);
        workers_[worker].detached = false;
    }

    // Set while the items that `worker` runs should stop.
    const AbortFlag & abort_flag(int32_t worker) const { return workers_[worker].abort; }

    // Tokens of a micro-batch made of several jobs' items.
    int64_t max_tokens() const { return max_tokens_; }
    void set_max_tokens(int64_t max_tokens) { max_tokens_ = max_tokens; }

    int32_t n_threads() const { return static_cast<int32_t>(workers_.size()); }

    JobQueue(const JobQueue &) = delete;
    JobQueue & operator=(const JobQueue &) = delete;

private:
    struct Worker {
        AbortFlag abort;
        bool detached = false;
        std::vector<Claim> claims;
    };

    void start();
    void serve(int32_t index);
    void claim(Worker & worker);
    void cancel_all();
    void stop_cancelled();
    void join();

    void drop_cancelled(Worker & worker) {
        for (Claim & claim : worker.claims) {
            if (claim.job && claim.job->cancelled) {
                --claim.job->running;
                if (finished(*claim.job)) {
                    claim.job->finished.notify_all();
                }
                claim.job = nullptr;
            }
        }
    }

    static bool finished(const Job & job) { return job.running == 0 && (job.cancelled || job.next == job.n_items); }

    std::mutex mutex_;
    std::condition_variable work_;
    // Those with items not begun, the next to serve first. A list: a worker that moves one to the
    // end must need no memory for it.
    std::list<Job *> jobs_;
    std::vector<Worker> workers_;
    std::deque<Thread> threads_;
    std::atomic<int64_t> max_tokens_;
    int64_t max_texts_;
    int32_t n_busy_ = 0;
    bool stopping_ = false;
};

}  // namespace embellama
