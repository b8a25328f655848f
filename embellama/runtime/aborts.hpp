// SPDX-License-Identifier: Apache-2.0
// What becomes of a failed assertion of ggml. ggml_abort() would end the process; it calls our
// callback first, which throws instead on threads that expect it. ggml and llama.cpp are compiled
// with -fexceptions, C files too, so the exception passes through them; what it leaves half done
// (a context, a model) is freed by whoever catches it. This is the last net: the checks before
// llama.cpp is called are meant to leave it empty.
#pragma once

namespace embellama {

// To be called once, before any model is loaded.
void install_abort_callback();

// While one exists, ggml_abort() throws on this thread: std::bad_alloc where memory was what
// failed, std::runtime_error otherwise.
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
