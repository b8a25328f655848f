# SPDX-License-Identifier: Apache-2.0
# The most that this process may use: an InstructionSet of cpu_features.hpp.
cdef int limit() noexcept nogil
