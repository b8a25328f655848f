# SPDX-License-Identifier: Apache-2.0
# llama.cpp's opaque structs without its headers, so that code which cimports embellama.core
# compiles with nothing but Cython.
cdef extern from *:
    """
    struct llama_model;
    struct llama_context;
    struct llama_vocab;
    struct llama_batch_ext;
    """
    cdef struct llama_model:
        pass
    cdef struct llama_context:
        pass
    cdef struct llama_vocab:
        pass
    cdef struct llama_batch_ext:
        pass
