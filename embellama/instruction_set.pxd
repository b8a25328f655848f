# SPDX-License-Identifier: Apache-2.0
# The highest instruction set that this process may use: an InstructionSet of cpu_features.hpp.
cdef int limit() noexcept nogil
