// SPDX-License-Identifier: Apache-2.0
#include "thread.hpp"

#include <sched.h>

#include <atomic>
#include <csignal>
#include <new>
#include <system_error>
#include <utility>

#include "float_environment.hpp"
#include "thread_memory.hpp"

namespace embellama {

namespace {

struct Start {
    std::function<void()> main;
    void * memory;
    std::atomic<bool> begun{false};
};

void * run(void * argument) {
    auto & start = *static_cast<Start *>(argument);
    release_thread_memory(start.memory);
    touch_thread_memory();
    use_default_float_environment();
    const std::function<void()> main = std::move(start.main);
    start.begun = true;  // the starter leaves, and `start` with it
    main();
    return nullptr;
}

sigset_t signals_of_others() {
    sigset_t signals;
    sigfillset(&signals);
    for (const int own : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT}) {
        sigdelset(&signals, own);
    }
    return signals;
}

}  // namespace

Thread::Thread(std::function<void()> main, size_t stack_bytes) {
    Start start{std::move(main), reserve_thread_memory()};
    if (!start.memory) {
        throw std::bad_alloc();
    }
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    if (stack_bytes > 0) {
        pthread_attr_setstacksize(&attributes, stack_bytes);
    }
    // A thread starts with its starter's mask.
    const sigset_t blocked = signals_of_others();
    sigset_t before;
    pthread_sigmask(SIG_SETMASK, &blocked, &before);
    const int error = pthread_create(&thread_, &attributes, run, &start);
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    pthread_attr_destroy(&attributes);
    if (error != 0) {
        release_thread_memory(start.memory);
        throw std::system_error(error, std::generic_category(), "can't start a thread");
    }
    while (!start.begun) {
        sched_yield();
    }
}

Thread::~Thread() { pthread_join(thread_, nullptr); }

}  // namespace embellama
