// SPDX-License-Identifier: Apache-2.0
// Which kernels can run on this processor and operating system.
#pragma once

#include <vector>

#include "../runtime/cpu_features.hpp"
#include "kernels.hpp"

namespace embellama::encoder {

// Kernels above the limit are not used. Call this before any other function of this header.
void set_limit(InstructionSet limit);

// The kernels that run here, the fastest first. This function asks the operating system for AMX's
// tiles, and those below may do so.
std::vector<const Kernels *> available_kernels();

// The kernels that the processor claims to run, but whose results differ from those of the generic
// kernels.
std::vector<const Kernels *> refused_kernels();

// The kernels called `name`, or the fastest if `name` is empty; with `exact` the fastest that
// compute in float32. Null if no kernels of that name run here. Asks the operating system for AMX's
// tiles only if the AMX kernels would be chosen.
const Kernels * choose_kernels(const char * name, bool exact);

}  // namespace embellama::encoder
