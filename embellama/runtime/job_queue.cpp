// SPDX-License-Identifier: Apache-2.0
#include "job_queue.hpp"

#include <algorithm>
#include <chrono>
#include <exception>

#include "large_stack.hpp"

namespace embellama {

JobQueue::JobQueue(int32_t n_threads, int64_t max_tokens, int64_t max_texts)
    : workers_(n_threads),
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
    threads_.clear();
}

void JobQueue::start() {
    try {
        while (static_cast<int32_t>(threads_.size()) < n_threads()) {
            const auto index = static_cast<int32_t>(threads_.size());
            threads_.emplace_back([this, index] { serve(index); }, LARGE_STACK_BYTES);
        }
    } catch (const std::exception &) {
        // Fewer threads than asked for are slower but work.
        if (threads_.empty()) {
            throw;
        }
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
        if (threads_.empty()) {
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
            worker.abort.set();
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

void JobQueue::serve(int32_t index) {
    Worker & worker = workers_[index];
    std::unique_lock<std::mutex> lock(mutex_);
    while (true) {
        work_.wait(lock, [&] { return stopping_ || !jobs_.empty(); });
        if (jobs_.empty()) {
            return;  // stopping, and nothing is left to do
        }
        claim(worker);
        worker.abort.clear();
        const bool alone = n_busy_ == 0 && jobs_.empty();
        ++n_busy_;
        lock.unlock();

        const Job & first = *worker.claims.front().job;
        first.run(first.owner, index, alone, worker.claims);

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
