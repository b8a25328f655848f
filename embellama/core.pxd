# SPDX-License-Identifier: Apache-2.0
# The C-level API of embellama: cimport it with no header of llama.cpp at hand.
#
# Functions on pointers are `noexcept nogil`; they return a Status and leave a message in the
# State, which raise_for_status() turns into an exception once the GIL is held.
from libc.stdint cimport int32_t, int64_t

from embellama.libllama.handles cimport (
    llama_batch_ext,
    llama_context,
    llama_model,
    llama_vocab,
)

cdef enum:
    MESSAGE_SIZE = 512

cpdef enum Status:
    OK = 0
    ABORTED = 2
    INVALID = -1
    NO_MEMORY = -2
    COMPUTE_FAILED = -3
    EXCEPTION = -4
    TOO_LARGE = -5

cpdef enum ContextPooling:
    # One vector per token, to be pooled by embellama.kernels.
    TOKENS = 0
    # The scores of the model's classification head, one row per text.
    RANK = 4

cdef struct State:
    llama_model *model
    llama_context *context
    llama_batch_ext *batch
    void *threadpool
    # What is asked for when the context is opened.
    ContextPooling pooling
    int32_t n_threads
    int32_t *abort_flag
    # What the open context holds.
    int32_t n_tokens
    int32_t n_sequences
    char[MESSAGE_SIZE] message

cdef class Model:
    cdef llama_model *handle
    cdef readonly str path
    cdef object __weakref__
    cdef int check_open(self) except -1

cdef class Vocabulary:
    cdef readonly Model model
    cdef const llama_vocab *handle
    cdef readonly int32_t bos
    cdef readonly int32_t eos
    cdef readonly int32_t sep
    # How many special tokens the vocabulary puts before and after a text.
    cdef readonly int32_t n_prefix
    cdef readonly int32_t n_suffix
    # Whether tokenizing recurses once per character, which only a large stack holds.
    cdef readonly bint recurses
    # The special tokens before, between and after a pair of texts.
    cdef readonly tuple pair_frame

cdef class Context:
    cdef readonly Model model
    cdef State state

# Opens, or opens anew, so that n_tokens tokens of n_sequences texts fit; keeps what is there if
# it suffices.
cdef int reserve(State *state, int32_t n_tokens, int32_t n_sequences) noexcept nogil
cdef void release(State *state) noexcept nogil

# Computes n_sequences texts together; text i has the lengths[i] tokens that ids[i] points to.
cdef int compute(
    State *state,
    const int32_t *const *ids,
    const int32_t *lengths,
    int32_t n_sequences,
) noexcept nogil

# After compute(): the token vectors of all texts, one after the other (TOKENS), or the scores
# of one text (RANK). Valid until the next compute().
cdef const float *token_vectors(State *state) noexcept nogil
cdef const float *scores(State *state, int32_t sequence) noexcept nogil

# Writes at most `capacity` ids and sets *n_ids; where they do not fit *n_ids is minus the number
# needed.
cdef int tokenize_utf8(
    const llama_vocab *vocabulary,
    const char *text,
    int64_t n_bytes,
    int32_t *ids,
    int32_t capacity,
    bint add_special,
    bint parse_special,
    int32_t *n_ids,
    char *message,
) noexcept nogil

cdef const char *utf8_of(str text, Py_ssize_t *n_bytes) except NULL
cpdef flush_log()
cdef int raise_for_status(int status, str message, str model) except -1
