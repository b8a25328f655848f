// SPDX-License-Identifier: Apache-2.0
// What the C++ library and this module keep for each thread is allocated when the thread first needs
// it, and the process ends where it can't be had ("cannot allocate memory for thread-local data:
// ABORT"). So a thread takes it as soon as it begins, from address space that its starter set aside.
#pragma once

#include <cstddef>

#include <sys/mman.h>

namespace embellama {

// A variable of each thread that is there from the thread's start. Not by -ftls-model, which would say
// the same of the C++ library's own, and that library may be there already, placed otherwise.
#define EMBELLAMA_THREAD_LOCAL __attribute__((tls_model("initial-exec"))) thread_local

constexpr size_t THREAD_MEMORY_BYTES = 1 << 20;

// Null where there is none: then start no thread.
inline void * reserve_thread_memory() {
    void * memory = mmap(nullptr, THREAD_MEMORY_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return memory == MAP_FAILED ? nullptr : memory;
}

inline void release_thread_memory(void * memory) {
    if (memory) {
        munmap(memory, THREAD_MEMORY_BYTES);
    }
}

// On any thread, before something fails; a new thread calls it once its memory is released, while
// its starter waits.
void touch_thread_memory();

}  // namespace embellama
