// SPDX-License-Identifier: Apache-2.0
#include "process_end.hpp"

#include <atomic>
#include <chrono>
#include <thread>

namespace embellama {

AbortFlag process_ends;

namespace {

std::atomic<int> n_inside{0};

}  // namespace

bool enter_llama() {
    // Either this sees the flag, or end_calls() sees the number.
    n_inside++;
    if (!process_ends.is_set()) {
        return true;
    }
    n_inside--;
    return false;
}

void leave_llama() { n_inside--; }

void end_calls() {
    process_ends.set();
    while (n_inside > 0) {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
}

void forget_calls() { n_inside = 0; }

}  // namespace embellama
