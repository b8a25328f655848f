// SPDX-License-Identifier: Apache-2.0
#include "job_queue.hpp"

#include <sched.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <system_error>

#include "float_environment.hpp"
#include "large_stack.hpp"
#include "thread_memory.hpp"

namespace embellama {
JobQueue::JobQueue(int32_t n_threads, int64_t max_tokens, int64_t max_texts, void (*begin)())
    : workers_(n_threads),
      begin_(begin),
      max_tokens_(max_tokens),
      max_texts_(max_texts) {
    for (auto & worker : workers_) {
        worker.claims.reserve(max_texts + 1);  // serve() must not throw
    }
}

JobQueue::~JobQueue() {
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        stopping_ = true;
    }
    join();
}

void JobQueue::stop() {
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        stopping_ = true;
        cancel_all();
    }
    join();
}

void JobQueue::join() {
    work_.notify_all();
    for (int32_t i = 0; i < n_started_; ++i) {
        pthread_join(workers_[i].thread, nullptr);
    }
    n_started_ = 0;
}

void JobQueue::start() {
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, LARGE_STACK_BYTES);
    // Signals belong to Python's main thread; a worker starts with all of them blocked.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = 0;
    while (n_started_ < n_threads() && error == 0) {
        Worker & worker = workers_[n_started_];
        worker.queue = this;
        worker.index = n_started_;
        auto main = [](void * argument) -> void * {
            auto * self = static_cast<Worker *>(argument);
            release_thread_memory(self->memory);
            self->queue->begin_();
            self->begun = true;
            use_default_float_environment();
            self->queue->serve(*self);
            return nullptr;
        };
        worker.memory = reserve_thread_memory();
        error = worker.memory ? pthread_create(&worker.thread, &attributes, main, &worker) : ENOMEM;
        if (error != 0) {
            release_thread_memory(worker.memory);
            break;
        }
        ++n_started_;
        while (!worker.begun) {
            sched_yield();
        }
    }
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    pthread_attr_destroy(&attributes);
    // Fewer threads than asked for are slower but work.
    if (n_started_ == 0) {
        throw std::system_error(error, std::generic_category(), "can't start a worker thread");
    }
}

void JobQueue::submit(Job & job) {
    if (job.n_items == 0) {
        return;
    }
    int32_t n_items;
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        if (stopping_) {
            job.cancelled = true;
            return;
        }
        if (n_started_ == 0) {
            start();
        }
        jobs_.push_back(&job);
        n_items = job.n_items;
    }
    if (n_items == 1) {
        work_.notify_one();
    } else {
        work_.notify_all();
    }
}

bool JobQueue::wait(Job & job, double seconds) {
    std::unique_lock<std::mutex> lock(mutex_);
    return job.finished.wait_for(lock, std::chrono::duration<double>(seconds), [&] { return finished(job); });
}

void JobQueue::cancel(Job & job) {
    const std::lock_guard<std::mutex> lock(mutex_);
    job.cancelled = true;
    stop_cancelled();
}

void JobQueue::cancel_all() {
    for (Job * job : jobs_) {
        job->cancelled = true;
    }
    for (auto & worker : workers_) {
        for (auto & claim : worker.claims) {
            if (claim.job) {
                claim.job->cancelled = true;
            }
        }
    }
    stop_cancelled();
}

void JobQueue::stop_cancelled() {
    for (Job * job : jobs_) {
        if (job->cancelled && job->running == 0) {
            job->finished.notify_all();
        }
    }
    jobs_.remove_if([](Job * job) { return job->cancelled; });
    for (auto & worker : workers_) {
        // A micro-batch shared with another caller's texts runs to its end.
        const auto & claims = worker.claims;
        const auto stops = [](auto & claim) { return !claim.job || claim.job->cancelled; };
        if (!claims.empty() && std::all_of(claims.begin(), claims.end(), stops)) {
            __atomic_store_n(&worker.abort, 1, __ATOMIC_RELAXED);
        }
        if (worker.detached) {
            drop_cancelled(worker);
        }
    }
}

// Takes the next item of the first job, then fills the micro-batch with items of other jobs.
void JobQueue::claim(Worker & worker) {
    int64_t tokens = 0;
    int64_t texts = 0;
    // One turn each: the job served goes to the end, so callers share the threads fairly.
    for (size_t turns = jobs_.size(); turns > 0; --turns) {
        Job * job = jobs_.front();
        const int32_t item = job->next;
        if (!worker.claims.empty()) {
            const Job * first = worker.claims.front().job;
            const bool fits = first->merge_key != nullptr && job->merge_key == first->merge_key &&
                              tokens + job->item_tokens[item] <= max_tokens_ &&
                              texts + job->item_texts[item] <= max_texts_;
            if (!fits) {
                jobs_.splice(jobs_.end(), jobs_, jobs_.begin());
                continue;
            }
        }
        if (job->merge_key != nullptr) {
            tokens += job->item_tokens[item];
            texts += job->item_texts[item];
        }
        worker.claims.push_back({job, item, job->item_texts ? job->item_texts[item] : 0});
        ++job->next;
        ++job->running;
        if (job->next < job->n_items) {
            jobs_.splice(jobs_.end(), jobs_, jobs_.begin());
        } else {
            jobs_.pop_front();
        }
        if (job->merge_key == nullptr || tokens >= max_tokens_) {
            break;
        }
    }
}

void JobQueue::serve(Worker & worker) {
    std::unique_lock<std::mutex> lock(mutex_);
    while (true) {
        work_.wait(lock, [&] { return stopping_ || !jobs_.empty(); });
        if (jobs_.empty()) {
            return;  // stopping, and nothing is left to do
        }
        claim(worker);
        __atomic_store_n(&worker.abort, 0, __ATOMIC_RELAXED);
        const bool alone = n_busy_ == 0 && jobs_.empty();
        ++n_busy_;
        lock.unlock();

        const Job & first = *worker.claims.front().job;
        first.run(first.owner, worker.index, alone, worker.claims.data(), static_cast<int32_t>(worker.claims.size()));

        lock.lock();
        --n_busy_;
        for (const Claim & claim : worker.claims) {
            if (claim.job) {
                --claim.job->running;
                if (finished(*claim.job)) {
                    claim.job->finished.notify_all();
                }
            }
        }
        worker.claims.clear();
    }
}

}  // namespace embellama
