// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>

namespace embellama {

// Tells a thread to stop what it does. Any thread may set it at any time.
class AbortFlag {
public:
    void set() { value_ = 1; }
    void clear() { value_ = 0; }
    bool is_set() const { return value_ != 0; }

    // For C code that reads the flag with an atomic load of 32 bits.
    const int32_t * word() const {
        static_assert(sizeof(value_) == sizeof(int32_t) && std::atomic<int32_t>::is_always_lock_free);
        return reinterpret_cast<const int32_t *>(&value_);
    }

private:
    std::atomic<int32_t> value_{0};
};

}  // namespace embellama
