// SPDX-License-Identifier: Apache-2.0
// Every item of every job once, whatever the callers do meanwhile: cancel, give up, stop the queue. Built
// with the thread sanitizer by tests/sanitize.sh.
#include "../../embellama/runtime/job_queue.hpp"

#include <chrono>
#include <cstdio>
#include <memory>
#include <random>
#include <thread>
#include <vector>

using namespace embellama;

namespace {

constexpr int64_t MAX_TOKENS = 100;
constexpr int64_t MAX_TEXTS = 8;
constexpr double LONG = 60;  // seconds; nothing here takes one

bool passed = true;

void check(bool holds, const char * what) {
    if (!holds) {
        printf("job queue: %s\n", what);
        passed = false;
    }
}

// What an owner of a queue has: the queue, and what its workers saw.
struct Owner {
    explicit Owner(int32_t n_threads) : queue(n_threads, MAX_TOKENS, MAX_TEXTS) {}
    JobQueue queue;
    std::atomic<int> n_merged{0};
    std::atomic<bool> limits_hold{true};
    std::atomic<int> microseconds{0};  // that an item takes
};

struct Texts : Job {
    Texts(Owner & owner, std::mt19937 & generator, int32_t n, bool merges) : times(n) {
        for (int32_t i = 0; i < n; i++) {
            tokens.push_back(static_cast<int32_t>(generator() % 60 + 1));
            texts.push_back(static_cast<int32_t>(generator() % 4 + 1));
        }
        run = &Texts::run_claims;
        this->owner = &owner;
        n_items = n;
        item_tokens = tokens.data();
        item_texts = texts.data();
        merge_key = merges ? &owner : nullptr;
    }

    static void run_claims(void * owner_pointer, int32_t worker, bool, const std::vector<Claim> & claims) {
        Owner & owner = *static_cast<Owner *>(owner_pointer);
        int64_t n_tokens = 0, n_texts = 0;
        for (const Claim & claim : claims) {
            n_tokens += static_cast<Texts *>(claim.job)->tokens[claim.item];
            n_texts += claim.n_texts;
        }
        if (claims.size() > 1) {
            owner.n_merged++;
            if (n_tokens > MAX_TOKENS || n_texts > MAX_TEXTS) {
                owner.limits_hold = false;
            }
        }
        owner.queue.detach(worker);
        if (owner.microseconds > 0 && !owner.queue.abort_flag(worker).is_set()) {
            std::this_thread::sleep_for(std::chrono::microseconds(owner.microseconds));
        }
        owner.queue.attach(worker);
        // A job that was cancelled meanwhile may be gone: only its claim says so.
        for (const Claim & claim : claims) {
            if (auto * job = static_cast<Texts *>(claim.job)) {
                job->times[claim.item]++;
                job->texts_done += claim.n_texts;
            }
        }
    }

    bool each_once() const {
        int64_t n_texts = 0;
        for (const int32_t n : texts) {
            n_texts += n;
        }
        for (const int times_done : times) {
            if (times_done != 1) {
                return false;
            }
        }
        return texts_done == n_texts;
    }

    std::vector<int32_t> tokens, texts;
    // How often each item was done; written by the thread that took it, read after the job is finished.
    std::vector<int> times;
};

void many_callers(int32_t n_threads, bool merges) {
    Owner owner(n_threads);
    std::vector<std::thread> callers;
    std::vector<char> results(6);
    for (size_t i = 0; i < results.size(); i++) {
        callers.emplace_back([&, i] {
            std::mt19937 generator(static_cast<unsigned>(i));
            results[i] = true;
            for (int round = 0; round < 100; round++) {
                Texts job(owner, generator, static_cast<int32_t>(generator() % 20), merges);
                owner.queue.submit(job);
                results[i] &= owner.queue.wait(job, LONG) && job.each_once();
            }
        });
    }
    for (std::thread & caller : callers) {
        caller.join();
    }
    for (const char result : results) {
        check(result, "an item was done twice or not at all");
    }
    check(owner.limits_hold, "a micro-batch of several jobs passed a limit");
    check(merges || owner.n_merged == 0, "jobs that do not merge shared a micro-batch");
}

// Jobs wait while the one worker is busy, and the next micro-batch takes items of several.
void waiting_jobs_merge() {
    Owner owner(1);
    owner.microseconds = 20000;
    std::mt19937 generator(1);
    std::vector<std::unique_ptr<Texts>> jobs;
    for (int i = 0; i < 6; i++) {
        jobs.push_back(std::make_unique<Texts>(owner, generator, 1, true));
        jobs.back()->tokens[0] = 10;
        jobs.back()->texts[0] = 1;
        owner.queue.submit(*jobs.back());
    }
    for (const auto & job : jobs) {
        check(owner.queue.wait(*job, LONG) && job->each_once(), "a merged job is not complete");
    }
    check(owner.n_merged > 0, "jobs that waited did not share a micro-batch");
}

// Callers that give up free their jobs at once, while a worker is detached from them.
void cancelled_jobs(int32_t n_threads) {
    Owner owner(n_threads);
    owner.microseconds = 300;
    std::vector<std::thread> callers;
    for (unsigned i = 0; i < 4; i++) {
        callers.emplace_back([&owner, i] {
            std::mt19937 generator(i);
            for (int round = 0; round < 100; round++) {
                const auto job = std::make_unique<Texts>(owner, generator, 5, i % 2 == 0);
                owner.queue.submit(*job);
                std::this_thread::sleep_for(std::chrono::microseconds(generator() % 1000));
                owner.queue.cancel(*job);
                check(owner.queue.wait(*job, LONG), "a cancelled job does not end");
            }
        });
    }
    for (std::thread & caller : callers) {
        caller.join();
    }
    // The queue works on.
    std::mt19937 generator(1);
    Texts job(owner, generator, 5, true);
    owner.queue.submit(job);
    check(owner.queue.wait(job, LONG) && job.each_once(), "no job is done after others were cancelled");
}

void a_stopped_queue() {
    Owner owner(2);
    owner.microseconds = 1000;
    std::mt19937 generator(1);
    Texts job(owner, generator, 200, true);
    owner.queue.submit(job);
    owner.queue.stop();
    check(owner.queue.wait(job, 0) && job.cancelled, "stop() leaves a job open");
    Texts late(owner, generator, 3, true);
    owner.queue.submit(late);
    check(owner.queue.wait(late, 0) && late.cancelled, "a stopped queue takes a job");
}

void no_items() {
    Owner owner(2);
    std::mt19937 generator(1);
    Texts job(owner, generator, 0, true);
    owner.queue.submit(job);
    check(owner.queue.wait(job, 0), "a job of no items is not finished");
}

}  // namespace

int main() {
    for (const int32_t n_threads : {1, 2, 8}) {
        many_callers(n_threads, true);
        many_callers(n_threads, false);
        cancelled_jobs(n_threads);
    }
    waiting_jobs_merge();
    a_stopped_queue();
    no_items();
    puts(passed ? "job queue: done" : "job queue: failed");
    return !passed;
}
