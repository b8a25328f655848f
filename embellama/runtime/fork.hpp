// SPDX-License-Identifier: Apache-2.0
// Mutexes that one thread may hold while another forks. In the child nobody would ever unlock
// them, so fork() waits until they are free.
#pragma once

#include <mutex>

namespace embellama {

extern std::mutex context_creation;

// To be called once.
void install_fork_handlers();

}  // namespace embellama
