// SPDX-License-Identifier: Apache-2.0
// Which kernels this processor, and its operating system, can run.
#pragma once

#include <vector>

#include "kernels.hpp"

namespace embellama::encoder {

// Those that run here, the fastest first.
const std::vector<const Kernels *> & available_kernels();

// Those that the processor claims to run, but that compute otherwise than the generic ones.
const std::vector<const Kernels *> & refused_kernels();

// The fastest; `exact` leaves only those that compute in float32. Null where `name` is neither
// empty nor that of kernels that run here.
const Kernels * choose_kernels(const char * name, bool exact);

}  // namespace embellama::encoder
