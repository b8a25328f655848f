// SPDX-License-Identifier: Apache-2.0
// Every item once, each step after the one before, whatever the numbers of threads and cores. Built
// with the thread sanitizer by tests/sanitize.sh.
#include "../../embellama/runtime/thread_team.hpp"

#include <cstdio>
#include <random>
#include <thread>
#include <vector>

using namespace embellama;

namespace {

struct Record {
    std::vector<int> n_items;
    // Per step and item how often it was done; written by the thread that took it.
    std::vector<std::vector<int>> times;
    std::atomic<bool> in_order{true};
};

void work(void * data, int, int step, int item) {
    Record & record = *static_cast<Record *>(data);
    record.times[step][item]++;
    // All of the step before is done, and visible here.
    for (const int times : step > 0 ? record.times[step - 1] : std::vector<int>()) {
        if (times != 1) {
            record.in_order = false;
        }
    }
}

bool run(ThreadTeam & team, int n_steps, std::mt19937 & generator) {
    Record record;
    for (int step = 0; step < n_steps; step++) {
        record.n_items.push_back(static_cast<int>(generator() % 9));
        record.times.emplace_back(record.n_items.back());
    }
    team.run(record.n_items, work, &record);
    bool once = record.in_order;
    for (const auto & step : record.times) {
        for (const int times : step) {
            once &= times == 1;
        }
    }
    return once;
}

}  // namespace

int main() {
    std::mt19937 generator(1);
    bool passed = true;
    for (const int n_threads : {1, 2, 3, 8}) {
        ThreadTeam team(n_threads);
        for (int round = 0; round < 200; round++) {
            passed &= run(team, static_cast<int>(generator() % 40), generator);
        }
    }
    // Teams that end while their threads are still on their way, and after they fell asleep.
    for (int round = 0; round < 50; round++) {
        ThreadTeam team(3);
        if (round % 2) {
            passed &= run(team, 2, generator);
        }
    }
    // Teams beside each other, on more threads than there are cores.
    std::vector<std::thread> callers;
    std::vector<char> results(4);
    for (size_t i = 0; i < results.size(); i++) {
        callers.emplace_back([&results, i] {
            std::mt19937 own(static_cast<unsigned>(i));
            ThreadTeam team(4);
            results[i] = true;
            for (int round = 0; round < 50; round++) {
                results[i] &= run(team, 40, own);
            }
        });
    }
    for (std::thread & caller : callers) {
        caller.join();
    }
    for (const char result : results) {
        passed &= result;
    }
    puts(passed ? "thread team: done" : "thread team: failed");
    return !passed;
}
