// SPDX-License-Identifier: Apache-2.0
// llama.cpp's log, kept until a thread that holds the GIL hands it to Python's logging. The
// callback runs on compute threads and must never take the GIL.
#pragma once

#include <string>

namespace embellama {

void install_log();

// Lines below this ggml_log_level are dropped at once (1 debug, 2 info, 3 warn, 4 error).
void set_log_level(int level);

// Takes the oldest kept line; false when there is none.
bool take_log_line(int & level, std::string & line);

// What llama.cpp logged as an error on this thread since the last call; the last of it, where that
// is much, and "bad_alloc" where a line found no memory.
std::string take_errors();

// For fork(): no line is taken or added in between.
void lock_log();
void unlock_log();

}  // namespace embellama
