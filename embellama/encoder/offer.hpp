// SPDX-License-Identifier: Apache-2.0
// When llama.cpp shall see the encoder backend. Its registry is one for the whole process, and a
// device in it is given part in every model and context; so the devices show themselves only to a
// thread that loads a model, or opens a context for a model, that they are meant for.
#pragma once

#include "kernels.hpp"

struct llama_model;

namespace embellama::encoder {

// Architectures (general.architecture of a GGUF file) whose graphs the planner knows.
bool claims(const char * architecture);

// The kernels that a loaded model's weights are packed for; null for a model without such.
const Kernels * kernels_of(const llama_model * model);

class Offer {
public:
    // Until it is destroyed, on this thread; `kernels` may be null and nothing is offered then.
    // `mapped` says that weights are read from a mapping of the file.
    explicit Offer(const Kernels * kernels, bool mapped = false);
    ~Offer();
    Offer(const Offer &) = delete;
    Offer & operator=(const Offer &) = delete;

    static const Offer * current();

    const Kernels * const kernels;
    const bool mapped;

private:
    const Offer * const outer;
};

}  // namespace embellama::encoder
