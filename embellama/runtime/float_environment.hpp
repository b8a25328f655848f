// SPDX-License-Identifier: Apache-2.0
// A new thread begins with the floating-point environment of its starter: its rounding, whether
// denormals count as zero, and which exceptions trap. Another library may have changed it, and
// vectors shall not depend on that, nor SIGFPE end the process.
#pragma once

#include <cfenv>

namespace embellama {

// On a thread of ours, when it begins.
inline void use_default_float_environment() { std::fesetenv(FE_DFL_ENV); }

// On a caller's thread: the default while one exists, then what was before.
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
