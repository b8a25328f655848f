// SPDX-License-Identifier: Apache-2.0
// The encoder backend as ggml knows it.
#pragma once

namespace embellama::encoder {

// Enters the backend into ggml's registry. Call it once, before any model is loaded.
void register_backend();

}  // namespace embellama::encoder
