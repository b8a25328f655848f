// SPDX-License-Identifier: Apache-2.0
// The C++ library asks for a thread's memory for exceptions when the thread first needs it, and ends
// the process where it can't be had ("cannot allocate memory for thread-local data: ABORT"). So a
// thread takes it as soon as it begins, from address space that its starter set aside.
#pragma once

#include <cstddef>
#include <exception>

#include <sys/mman.h>

namespace embellama {

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

// On any thread, before something fails.
inline void touch_thread_memory() {
    // The function counts as pure: a call whose result nobody reads is left out.
    volatile int count = std::uncaught_exceptions();
    (void) count;
}

// To be called by the new thread, while its starter waits.
inline void take_thread_memory(void * memory) {
    release_thread_memory(memory);
    touch_thread_memory();
}

}  // namespace embellama
