// SPDX-License-Identifier: Apache-2.0
// llama.cpp's log, kept until a thread that holds the GIL hands it to Python's logging. The
// callback runs on compute threads and must never take the GIL.
#pragma once

#include <string>

namespace embellama {

void install_log();

// Lines below this ggml_log_level are dropped at once (1 debug, 2 info, 3 warn, 4 error).
void set_log_level(int level);

// While an object exists, only errors are kept of what this thread logs.
class OnlyErrors {
public:
    OnlyErrors();
    ~OnlyErrors();
    OnlyErrors(const OnlyErrors &) = delete;
    OnlyErrors & operator=(const OnlyErrors &) = delete;

private:
    const bool outer;
};

// Removes and returns the oldest line; false if there is none.
bool take_log_line(int & level, std::string & line);

// The errors that llama.cpp logged on this thread since the last call. Long text is cut at its
// beginning; the result is "bad_alloc" if a line could not be stored for lack of memory.
std::string take_errors();

// For fork(): between these two calls no line is added or removed.
void lock_log();
void unlock_log();

}  // namespace embellama
