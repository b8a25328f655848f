// SPDX-License-Identifier: Apache-2.0
// The one way in which embellama starts a thread.
#pragma once

#include <cstddef>
#include <functional>

#include <pthread.h>

namespace embellama {

// A thread that
// - receives no signals, which belong to Python's main thread, but for those that its own instructions
//   raise, such as SIGSEGV: faulthandler and debuggers see them;
// - has taken the memory that the C++ library keeps for each thread (thread_memory.hpp);
// - computes with the default floating-point environment (float_environment.hpp).
class Thread {
public:
    // Returns once the thread runs. `main` must not throw. Throws std::bad_alloc or std::system_error
    // where the thread can't be had. 0 bytes ask for the system's usual stack.
    explicit Thread(std::function<void()> main, size_t stack_bytes = 0);
    // Waits until `main` has returned.
    ~Thread();
    Thread(const Thread &) = delete;
    Thread & operator=(const Thread &) = delete;

private:
    pthread_t thread_;
};

}  // namespace embellama
