// SPDX-License-Identifier: Apache-2.0
// What was caught, in a `catch (...)`. ggml is a library of its own, and where each of ours holds a
// copy of the C++ library (wheels do), a `catch` of one may not know the other's types: LLVM's
// compares their addresses. Their names are the same.
#pragma once

#include <cstddef>
#include <cstdio>
#include <cstring>
#include <exception>
#include <new>
#include <typeinfo>

#include <cxxabi.h>

namespace embellama {

inline bool is_out_of_memory() {
    const std::type_info * type = abi::__cxa_current_exception_type();
    return type && (strcmp(type->name(), typeid(std::bad_alloc).name()) == 0 ||
                    strcmp(type->name(), typeid(std::bad_array_new_length).name()) == 0);
}

// Writes a sentence, and returns whether it is that memory ran out.
inline bool describe_exception(char * message, size_t size) {
    if (is_out_of_memory()) {
        snprintf(message, size, "out of memory");
        return true;
    }
    try {
        throw;
    } catch (const std::exception & error) {
        snprintf(message, size, "%s", error.what());
    } catch (...) {
        snprintf(message, size, "unknown C++ exception");
    }
    return false;
}

}  // namespace embellama
