// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdlib>
#include <new>
#include <vector>

namespace embellama::encoder {

// Memory that is kept from one graph to the next and is as large as the largest graph needed.
// Memory that reserve() returned stays valid until recycle(), even if a later call reserves more.
class Scratch {
public:
    Scratch() = default;
    Scratch(const Scratch &) = delete;
    Scratch & operator=(const Scratch &) = delete;
    ~Scratch() {
        recycle();
        free(memory);
    }

    void * reserve(size_t n_bytes) {
        if (n_bytes > capacity) {
            void * larger = nullptr;
            outgrown.reserve(outgrown.size() + 1);
            if (posix_memalign(&larger, 64, n_bytes) != 0) {
                throw std::bad_alloc();
            }
            outgrown.push_back(memory);
            memory = larger;
            capacity = n_bytes;
        }
        return memory;
    }

    void recycle() {
        for (void * old : outgrown) {
            free(old);
        }
        outgrown.clear();
    }

private:
    void * memory = nullptr;
    size_t capacity = 0;
    std::vector<void *> outgrown;
};

}  // namespace embellama::encoder
