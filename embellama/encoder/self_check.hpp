// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels.hpp"

namespace embellama::encoder {

// Whether two tables of kernels agree on a product and an attention of odd sizes. This takes some
// hundred microseconds. An emulator, or a processor on which this code was never tested, may claim
// instructions but compute them differently from the manufacturer's manual.
bool agree(const Kernels & kernels, const Kernels & others);

}  // namespace embellama::encoder
