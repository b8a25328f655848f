// SPDX-License-Identifier: Apache-2.0
// A thread may hold one of these mutexes while another thread forks. No thread of the child could
// unlock it, so fork() waits until the mutexes are free.
#pragma once

#include <mutex>

namespace embellama {

extern std::mutex context_creation;

// Call this once.
void install_fork_handlers();

}  // namespace embellama
