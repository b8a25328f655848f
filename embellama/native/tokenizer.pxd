# SPDX-License-Identifier: Apache-2.0
from libc.stdint cimport int32_t, int64_t
from libcpp cimport bool as cpp_bool

from embellama.libllama.handles cimport llama_vocab
from embellama.runtime.status cimport Message, Status

cdef extern from "native/tokenizer.hpp" namespace "embellama" nogil:
    cdef cppclass Tokenizer:
        const llama_vocab *vocabulary
        cpp_bool add_special
        cpp_bool parse_special
        cpp_bool recurses
        Status tokenize_on_any_stack(
            const char *text, int64_t n_bytes, int32_t *ids, int32_t capacity, int32_t &n_ids,
            Message &message,
        ) noexcept
