// SPDX-License-Identifier: Apache-2.0
// Failed assertions of ggml become exceptions. ggml_abort() ends the process, but first calls our
// callback, which throws on threads that expect it. ggml and llama.cpp are compiled with
// -fexceptions, C files too, so the exception passes through them. The code that catches it frees
// the half-finished object (a context, a model). This is the last net: the checks before llama.cpp
// is called should make it unnecessary.
#pragma once

namespace embellama {

// Call this once, before any model is loaded.
void install_abort_callback();

// While an object exists, ggml_abort() throws on this thread: std::bad_alloc if an allocation
// failed, otherwise std::runtime_error.
class AbortsThrow {
public:
    AbortsThrow();
    ~AbortsThrow();
    AbortsThrow(const AbortsThrow &) = delete;
    AbortsThrow & operator=(const AbortsThrow &) = delete;

private:
    const bool before;
};

}  // namespace embellama
