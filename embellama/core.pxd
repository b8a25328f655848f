# SPDX-License-Identifier: Apache-2.0
# What other Cython modules may cimport; docs/cython-api says what may change, and when. It needs
# no header of llama.cpp and no link.
from libc.stdint cimport int32_t, int64_t

from embellama.kernels cimport Norm, Pooling
from embellama.libllama.handles cimport llama_model, llama_vocab

cdef extern from *:
    """
    #define EMBELLAMA_API_VERSION 2
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
    cdef object dependents
    cdef object __weakref__
    # Threads that compute or tokenize with it now.
    cdef int32_t calls
    # An embellama::DenseHead.
    cdef void *head
    # An embellama::ExactCopy, or NULL for a model that needs none.
    cdef void *exact
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
    # An embellama::ContextState.
    cdef void *state
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
# model.n_dimensions floats per text to `out`, in the texts' order; with POOL_NONE
# model.n_token_dimensions floats per token, text i's from row offsets[i] - offsets[0] on. The two
# numbers differ only where a dense module after the pooling has another width. `p` is for NORM_P.
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
