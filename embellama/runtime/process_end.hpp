// SPDX-License-Identifier: Apache-2.0
// Python's daemon threads run on while the process ends. None may be inside llama.cpp when its
// static objects are destroyed: nobody comes in once the process ends, and the end waits for those
// who are inside.
#pragma once

#include "abort_flag.hpp"

namespace embellama {

// Set once the process ends.
extern AbortFlag process_ends;

// False once the process ends; otherwise leave_llama() is due after the call.
bool enter_llama();
void leave_llama();

class InsideLlama {
public:
    InsideLlama() : entered(enter_llama()) {}
    ~InsideLlama() {
        if (entered) {
            leave_llama();
        }
    }
    InsideLlama(const InsideLlama &) = delete;
    InsideLlama & operator=(const InsideLlama &) = delete;

    const bool entered;
};

// To be called once, before static objects are destroyed.
void end_calls();

// In a forked child, where the other threads are not.
void forget_calls();

}  // namespace embellama
