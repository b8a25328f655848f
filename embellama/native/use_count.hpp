// SPDX-License-Identifier: Apache-2.0
// How many threads use something that another thread may want to close. The count is a plain integer
// because core.pxd shows it in a class whose layout other projects compile against.
#pragma once

#include <cstdint>

namespace embellama {

// Added to the count so that no use may begin. There can't be that many threads.
constexpr int32_t CLOSED = -1'000'000'000;

inline bool is_closed(const int32_t & count) { return __atomic_load_n(&count, __ATOMIC_ACQUIRE) < 0; }

inline void end_use(int32_t & count) { __atomic_fetch_sub(&count, 1, __ATOMIC_RELEASE); }

// False once it is closed; otherwise end_use() is due.
inline bool begin_use(int32_t & count) {
    if (__atomic_fetch_add(&count, 1, __ATOMIC_ACQUIRE) >= 0) {
        return true;
    }
    end_use(count);
    return false;
}

inline void reopen(int32_t & count) { __atomic_fetch_sub(&count, CLOSED, __ATOMIC_RELEASE); }

// False, and nothing is changed, while it is in use.
inline bool close_unused(int32_t & count) {
    if (__atomic_fetch_add(&count, CLOSED, __ATOMIC_ACQUIRE) <= 0) {
        return true;
    }
    reopen(count);
    return false;
}

// The same for an object that one thread may use at a time.
inline bool take(int32_t & busy) { return __atomic_exchange_n(&busy, 1, __ATOMIC_ACQUIRE) == 0; }
inline void give_back(int32_t & busy) { __atomic_store_n(&busy, 0, __ATOMIC_RELEASE); }

}  // namespace embellama
