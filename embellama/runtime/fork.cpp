// SPDX-License-Identifier: Apache-2.0
#include "fork.hpp"

#include <pthread.h>

#include "llama_log.hpp"
#include "process_end.hpp"

// Of ggml-threading.h, which is no public header.
extern "C" void ggml_critical_section_start(void);
extern "C" void ggml_critical_section_end(void);

namespace embellama {

std::mutex context_creation;

namespace {

// In the order in which a thread that creates a context comes to them.
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
