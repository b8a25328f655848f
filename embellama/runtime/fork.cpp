// SPDX-License-Identifier: Apache-2.0
#include "fork.hpp"

#include <pthread.h>

#include "llama_log.hpp"
#include "process_end.hpp"

// Declared in ggml-threading.h, which is not a public header.
extern "C" void ggml_critical_section_start(void);
extern "C" void ggml_critical_section_end(void);

namespace embellama {

std::mutex context_creation;

namespace {

// Locks the mutexes in the same order as a thread that creates a context.
void before_fork() {
    context_creation.lock();
    ggml_critical_section_start();
    lock_log();
}

void after_fork() {
    unlock_log();
    ggml_critical_section_end();
    context_creation.unlock();
}

void after_fork_in_child() {
    after_fork();
    forget_calls();
}

}  // namespace

void install_fork_handlers() { pthread_atfork(before_fork, after_fork, after_fork_in_child); }

}  // namespace embellama
