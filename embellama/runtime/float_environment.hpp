// SPDX-License-Identifier: Apache-2.0
// A new thread inherits the floating-point environment of the thread that starts it: the rounding
// mode, whether denormals count as zero, and which exceptions trap. Another library may have
// changed this environment. It must not change our vectors, and a trap must not end the process
// with SIGFPE.
#pragma once

#include <cfenv>

namespace embellama {

// Call this on each thread of ours when it begins.
inline void use_default_float_environment() { std::fesetenv(FE_DFL_ENV); }

// Sets the default environment on a caller's thread; the destructor restores the former one.
class DefaultFloatEnvironment {
public:
    DefaultFloatEnvironment() {
        std::fegetenv(&before);
        use_default_float_environment();
    }
    ~DefaultFloatEnvironment() { std::fesetenv(&before); }
    DefaultFloatEnvironment(const DefaultFloatEnvironment &) = delete;
    DefaultFloatEnvironment & operator=(const DefaultFloatEnvironment &) = delete;

private:
    std::fenv_t before;
};

}  // namespace embellama
