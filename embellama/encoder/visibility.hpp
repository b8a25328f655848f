// SPDX-License-Identifier: Apache-2.0
// When llama.cpp sees the encoder backend. ggml has one registry of devices for the whole process,
// and llama.cpp uses each device in it for every model and context. Therefore the encoder's devices
// are visible only to a thread that loads a model for the encoder, or opens a context for one.
#pragma once

#include "kernels.hpp"

struct llama_model;

namespace embellama::encoder {

// Whether the planner knows the graphs of an architecture (general.architecture of a GGUF file).
bool supports(const char * architecture);

// The kernels for which a loaded model's weights are packed; null for a model without packed
// weights.
const Kernels * kernels_of(const llama_model * model);

class EncoderVisibility {
public:
    // The devices are visible to this thread until the object is destroyed. `kernels` may be null: the
    // devices are hidden then. `mapped` says that weights are read from a mapping of the file.
    explicit EncoderVisibility(const Kernels * kernels, bool mapped = false);
    ~EncoderVisibility();
    EncoderVisibility(const EncoderVisibility &) = delete;
    EncoderVisibility & operator=(const EncoderVisibility &) = delete;

    static const EncoderVisibility * current();

    const Kernels * const kernels;
    const bool mapped;

private:
    const EncoderVisibility * const outer;
};

}  // namespace embellama::encoder
