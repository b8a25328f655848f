// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdio>
#include <exception>
#include <new>

namespace embellama {

// In a `catch (...)`: writes what was caught as a sentence, and returns whether it is that memory
// ran out.
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
