# SPDX-License-Identifier: Apache-2.0
# What a worker thread runs: a chunk of texts to tokenize, a micro-batch to compute. No Python.
from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t
from libcpp cimport bool as cpp_bool

from embellama cimport core, kernels
from embellama.libllama.handles cimport llama_vocab

from embellama.runtime.job_queue cimport Claim, JobQueue

# Texts tokenized per item: enough to make the queue's cost vanish, few enough to balance.
cdef enum:
    CHUNK_TEXTS = 64

# Why a text has no vector.
cpdef enum Failure:
    DONE = 0
    NOT_FINITE = 1
    NOT_COMPUTED = 2


cdef struct Pool:
    # One per worker, and one with all threads for a micro-batch that has the machine to itself.
    core.State *states
    core.State alone
    JobQueue *queue
    int32_t n_workers
    int32_t n_sequences
    int64_t n_dims
    # Per worker: the tokens at hand, n_sequences pointers to them and lengths, and one vector.
    int32_t **tokens
    int64_t *token_capacities
    const int32_t **ids
    int32_t *lengths
    float *vectors


cdef struct TokenizeRequest:
    const llama_vocab *vocabulary
    const char **texts
    const int64_t *n_bytes  # negative for a text without UTF-8 form
    int32_t n_texts
    bint add_special
    bint parse_special
    bint recurses       # see core.Vocabulary
    int32_t limit       # tokens to keep of each text; 0 keeps all
    int32_t n_suffix    # of them the last, which are kept whatever is cut
    int32_t final_id    # appended where the vocabulary does not; -1 for none
    int32_t **chunks    # ids of CHUNK_TEXTS texts, one after the other; the caller frees them
    int64_t *chunk_sizes
    int32_t *counts     # tokens of each text, or a negative Status
    char **reasons      # what the tokenizer said of a text it failed on, or NULL; as the chunks
    uint8_t *truncated


# Where vectors go, and as what.
cdef struct Rows:
    char *out
    int64_t stride           # bytes from one row to the next
    const int64_t *places    # the row of each text; NULL where text i has row i
    int64_t n_dims           # dimensions kept of each vector
    bint per_token           # a row per token instead of one per text, in float32
    kernels.RowType row_type
    const float *starts      # of the int8 and uint8 types with ranges
    const float *steps


cdef struct EmbedRequest:
    const int32_t *ids
    const int64_t *offsets
    const int32_t *order     # texts in the order of the plan
    const int32_t *bounds    # micro-batch i holds order[bounds[i]] .. order[bounds[i + 1] - 1]
    Rows rows
    bint ranks
    kernels.Pooling pooling
    kernels.Norm norm
    double p
    int8_t *failures         # a Failure per text
    # Of the first micro-batch that could not be computed; only the worker that set `failed`
    # writes the others.
    int32_t failed
    int status
    char[core.MESSAGE_SIZE] message


# Tokenizes the texts of a chunk, on a worker of the queue or, with NULL, on any thread. False if
# the claim's job was cancelled meanwhile: the request may be gone then.
cdef bint tokenize_chunk(
    TokenizeRequest *request, int32_t chunk, JobQueue *queue, int32_t worker, const Claim *claim
) noexcept nogil

# For Job.run, with a TokenizeRequest or an EmbedRequest as its request.
cdef void run_tokenize(
    void *owner, int32_t worker, cpp_bool alone, const Claim *claims, int32_t n_claims
) noexcept nogil
cdef void run_embed(
    void *owner, int32_t worker, cpp_bool alone, const Claim *claims, int32_t n_claims
) noexcept nogil
