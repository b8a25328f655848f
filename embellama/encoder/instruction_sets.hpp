// SPDX-License-Identifier: Apache-2.0
// Which kernels this processor, and its operating system, can run.
#pragma once

#include <vector>

#include "../runtime/cpu_features.hpp"
#include "kernels.hpp"

namespace embellama::encoder {

// Before any other function of this header: kernels above the limit are not used.
void set_limit(InstructionSet limit);

// Those that run here, the fastest first. Asks the kernel for AMX's tiles, as all below may.
std::vector<const Kernels *> available_kernels();

// Those that the processor claims to run, but that compute otherwise than the generic ones.
std::vector<const Kernels *> refused_kernels();

// The fastest; `exact` leaves only those that compute in float32. Null where `name` is neither
// empty nor that of kernels that run here. Tiles are asked for only where they would be chosen.
const Kernels * choose_kernels(const char * name, bool exact);

}  // namespace embellama::encoder
