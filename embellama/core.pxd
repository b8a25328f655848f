# SPDX-License-Identifier: Apache-2.0
# What other Cython modules may cimport; docs/cython-api says what may change, and when. It needs
# no header of llama.cpp and no link.
from libc.stdint cimport int32_t, int64_t

from embellama.kernels cimport Norm, Pooling
from embellama.libllama.handles cimport (
    llama_batch_ext,
    llama_context,
    llama_model,
    llama_vocab,
)

cdef extern from *:
    """
    #define EMBELLAMA_API_VERSION 1
    """
    enum:
        # Raised when a function below, or one of embellama.kernels, changes its meaning or its
        # signature, or a class its layout. `#if` in a consumer's C code can compare it.
        EMBELLAMA_API_VERSION

cdef int installed_api_version() noexcept nogil


cdef inline int check_api_version() except -1:
    """Raise ImportError if the installed embellama is not the one compiled against."""
    if installed_api_version() != EMBELLAMA_API_VERSION:
        raise ImportError(
            f"this module was built against version {EMBELLAMA_API_VERSION} of embellama's Cython "
            f"API, and version {installed_api_version()} is installed: build it again"
        )
    return 0


# The weights and the vocabulary's handle may be read by any number of threads.
cdef class Model:
    cdef llama_model *handle
    cdef readonly str path
    # What has to be closed before the weights are freed.
    cdef object contexts
    cdef object __weakref__
    # Threads that compute or tokenize with it now.
    cdef int32_t calls
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

# Computes for one thread at a time; a second one gets RuntimeError.
cdef class Context:
    cdef readonly Model model
    cdef State *state
    cdef int32_t busy
    cdef object __weakref__

# Writes the ids of a text of n_bytes UTF-8 bytes and returns their number; where that is above
# `capacity` it has written none of them. Any number of threads may share a Vocabulary.
# Raises InvalidInputError for a text too large for llama.cpp, TokenizationError if the
# tokenizer fails, ModelLoadError if the model is closed.
cdef int64_t tokenize(
    Vocabulary vocabulary,
    const char *utf8,
    int64_t n_bytes,
    int32_t *ids,
    int64_t capacity,
    bint add_special,
    bint parse_special,
) except -1 nogil

# Computes n_texts texts, in micro-batches of texts of like length: text i has the tokens
# ids[offsets[i]] .. ids[offsets[i + 1] - 1], from 1 to model.n_context of them. Writes
# model.n_dimensions floats per text to `out`, in the texts' order; with POOL_NONE that many per
# token, text i's from row offsets[i] - offsets[0] on. `p` is for NORM_P.
# Raises InvalidInputError, whose index says which text has no, too many or unknown tokens, before
# it computes anything; EmbeddingGenerationError or ResourceLimitError if the computation fails;
# RuntimeError if another thread uses the context; ModelLoadError if the model is closed.
cdef int encode(
    Context context,
    const int32_t *ids,
    const int64_t *offsets,
    int64_t n_texts,
    Pooling pooling,
    Norm norm,
    double p,
    float *out,
) except -1 nogil


# What follows serves embellama's own modules and may change with any release.

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

# Functions on a State are `noexcept nogil`; they return a Status and leave a message in the State,
# which raise_for_status() turns into an exception once the GIL is held.

# Opens, or opens anew, so that n_tokens tokens of n_sequences texts fit; keeps what is there if
# it suffices.
cdef int reserve(State *state, int32_t n_tokens, int32_t n_sequences) noexcept nogil
cdef void release(State *state) noexcept nogil
# Forgets what is open, without freeing it: in a forked child, where its threads are not.
cdef void abandon(State *state) noexcept nogil

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
# needed. With `recurses` (see Vocabulary) the calling thread has a stack of 64 MiB. Returns ABORTED
# soon after another thread has set *abort_flag, which may be NULL.
cdef int tokenize_utf8(
    const llama_vocab *vocabulary,
    const char *text,
    int64_t n_bytes,
    int32_t *ids,
    int32_t capacity,
    bint add_special,
    bint parse_special,
    bint recurses,
    const int32_t *abort_flag,
    int32_t *n_ids,
    char *message,
) noexcept nogil

# Between the two the model is not closed; the first raises if it is.
cdef int hold_open(Model model) except -1 nogil
cdef void let_go(Model model) noexcept nogil

# Takes what core keeps for each thread; a thread that calls it as it begins can't fail to later.
cdef void touch_thread_memory() noexcept nogil

cdef const char *utf8_of(str text, Py_ssize_t *n_bytes) except NULL
cpdef flush_log()
# Around calls of llama.cpp on threads that are not ours; false once the process ends.
cdef bint enter_llama() noexcept nogil
cdef void leave_llama() noexcept nogil
# Before the process ends: lets no thread into llama.cpp any more and waits for those inside.
cdef void end_calls() noexcept nogil
cdef bint process_is_ending() noexcept
cdef int raise_for_status(int status, str message, str model) except -1
