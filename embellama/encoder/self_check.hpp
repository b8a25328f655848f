// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels.hpp"

namespace embellama::encoder {

// Whether kernels compute what others do: a product and an attention of odd sizes, some hundred
// microseconds. An emulator, or a processor that nobody here has had, may claim instructions that it
// computes otherwise than its maker's manual says.
bool agree(const Kernels & kernels, const Kernels & others);

}  // namespace embellama::encoder
