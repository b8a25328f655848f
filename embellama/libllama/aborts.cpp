// SPDX-License-Identifier: Apache-2.0
#include "aborts.hpp"

#include <cstdio>
#include <cstring>
#include <new>
#include <stdexcept>
#include <string>

#include "ggml.h"
#include "llama_log.hpp"
#include "thread_memory.hpp"

namespace embellama {
namespace {

thread_local bool throws = false;

// ggml_malloc() and ggml_calloc() log what they could not have and abort with "fatal error";
// ggml_init() and ggml-alloc.c assert that their memory is there.
bool is_lack_of_memory(const char * message) {
    return take_errors().find("failed to allocate") != std::string::npos || strstr(message, "!= NULL");
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

}  // namespace

void install_abort_callback() { ggml_set_abort_callback(on_abort); }

AbortsThrow::AbortsThrow(bool yes) : before(throws) {
    // There more likely is some now than when something has failed.
    touch_thread_memory();
    throws = yes;
}

AbortsThrow::~AbortsThrow() { throws = before; }

}  // namespace embellama
