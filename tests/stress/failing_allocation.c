// SPDX-License-Identifier: Apache-2.0
// To be preloaded (glibc): allocations that fail, one of them or all from one on.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>

static atomic_long seen;
static atomic_long first = -1;
static atomic_long after_last;

void fail_allocations(long from, long count) {
    seen = 0;
    after_last = count < 0 ? __LONG_MAX__ : from + count;
    first = from;
}

// How many there were meanwhile, those that failed with them.
long stop_failing(void) {
    first = -1;
    return seen;
}

// What the loader allocates for a thread ends the process where it fails. A thread that begins takes
// it from memory set aside for it (thread_memory.hpp), of which there is nothing to see here.
static int is_loader(void *caller) {
    Dl_info info;
    return dladdr(caller, &info) && info.dli_fname && strstr(info.dli_fname, "/ld-");
}

static int fails(void *caller) {
    if (first < 0 || is_loader(caller)) {
        return 0;
    }
    const long number = atomic_fetch_add(&seen, 1);
    if (number < first || number >= after_last) {
        return 0;
    }
    errno = ENOMEM;
    return 1;
}

#define FAILS fails(__builtin_return_address(0))

void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);
void *__libc_memalign(size_t, size_t);

void *malloc(size_t size) { return FAILS ? NULL : __libc_malloc(size); }
void *calloc(size_t count, size_t size) { return FAILS ? NULL : __libc_calloc(count, size); }
void *realloc(void *memory, size_t size) {
    return size > 0 && FAILS ? NULL : __libc_realloc(memory, size);
}
void *memalign(size_t alignment, size_t size) {
    return FAILS ? NULL : __libc_memalign(alignment, size);
}
void *aligned_alloc(size_t alignment, size_t size) {
    return FAILS ? NULL : __libc_memalign(alignment, size);
}
int posix_memalign(void **memory, size_t alignment, size_t size) {
    if (FAILS) {
        return ENOMEM;
    }
    *memory = __libc_memalign(alignment, size);
    return *memory ? 0 : ENOMEM;
}

typedef void *(*Map)(void *, size_t, int, int, int, off_t);

void *mmap(void *address, size_t size, int protection, int flags, int file, off_t offset) {
    static Map map;
    if (!map) {
        map = (Map)dlsym(RTLD_NEXT, "mmap");
    }
    return FAILS ? MAP_FAILED : map(address, size, protection, flags, file, offset);
}
void *mmap64(void *address, size_t size, int protection, int flags, int file, off_t offset) {
    return mmap(address, size, protection, flags, file, offset);
}
