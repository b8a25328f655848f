// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdio>
#include <exception>
#include <new>

namespace embellama {

// Call this in a `catch (...)`. It writes the caught exception as a sentence, and returns whether
// the cause is a lack of memory.
inline bool describe_exception(char * message, size_t size) {
    try {
        throw;
    } catch (const std::bad_alloc &) {
        snprintf(message, size, "out of memory");
        return true;
    } catch (const std::exception & error) {
        snprintf(message, size, "%s", error.what());
    } catch (...) {
        snprintf(message, size, "unknown C++ exception");
    }
    return false;
}

}  // namespace embellama
