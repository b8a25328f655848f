// SPDX-License-Identifier: Apache-2.0
#include "aborts.hpp"

#include <cstdio>
#include <cstring>
#include <exception>
#include <new>
#include <stdexcept>
#include <string>

#include "exceptions.hpp"
#include "ggml-cpu.h"
#include "ggml.h"
#include "llama_log.hpp"
#include "thread_memory.hpp"

namespace embellama {
namespace {

EMBELLAMA_THREAD_LOCAL bool throws = false;

// ggml_malloc() and ggml_calloc() log what they could not have and abort with "fatal error";
// ggml_init() and ggml-alloc.c assert that their memory is there.
bool is_lack_of_memory(const char * message) {
    const std::string errors = take_errors();
    return errors.find("failed to allocate") != std::string::npos || errors == "bad_alloc" ||
           strstr(message, "!= NULL");
}

void on_abort(const char * message) {
    if (!throws) {
        fprintf(stderr, "embellama: llama.cpp ends the process: %s\n", message);
        return;
    }
    if (is_lack_of_memory(message)) {
        throw std::bad_alloc();
    }
    // From the file's own name on, without the folder it was built in.
    const char * name = strstr(message, "llama.cpp/");
    throw std::runtime_error(name ? name : message);
}

// On each of the threads that compute a graph together (failing-threads.patch).
ggml_status call_guarded(void (*work)(void *), void * data, char * message, size_t size) {
    const AbortsThrow guard;
    try {
        work(data);
        return GGML_STATUS_SUCCESS;
    } catch (...) {
        return describe_exception(message, size) ? GGML_STATUS_ALLOC_FAILED : GGML_STATUS_FAILED;
    }
}

}  // namespace

void install_abort_callback() {
    ggml_set_abort_callback(on_abort);
    ggml_cpu_set_call_guard(call_guarded);
}

AbortsThrow::AbortsThrow() : before(throws) {
    // There more likely is some now than when something has failed.
    touch_thread_memory();
    throws = true;
}

AbortsThrow::~AbortsThrow() { throws = before; }

}  // namespace embellama
