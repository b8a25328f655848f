# SPDX-License-Identifier: Apache-2.0
# cython: boundscheck=False, wraparound=False
"""The threads that compute: each tokenizes texts or runs micro-batches, never with the GIL."""

import atexit
import os
import time
import weakref

import numpy as np

from embellama.errors import (
    EmbeddingGenerationError,
    InvalidInputError,
    ModelLoadError,
    OperationTimeoutError,
    ResourceLimitError,
    TokenizationError,
)
from embellama.kernels import NORMS, POOLINGS

from cpython.exc cimport PyErr_CheckSignals
from libc.math cimport INFINITY
from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcpy, memset
from libcpp cimport bool as cpp_bool

from embellama cimport core, kernels
from embellama.libllama.handles cimport llama_vocab

from embellama.job_queue cimport Claim, Job, JobQueue

# How often a waiting caller looks for signals, its timeout and progress.
cdef double WAIT_SECONDS = 0.05
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
    int32_t micro_batch_tokens
    int32_t n_sequences
    int64_t n_dims
    # Per worker: n_sequences pointers and lengths, and one vector.
    const int32_t **ids
    int32_t *lengths
    float *vectors


cdef struct TokenizeRequest:
    const llama_vocab *vocabulary
    const char **texts
    const int64_t *n_bytes
    int32_t n_texts
    bint add_special
    bint parse_special
    int32_t limit       # tokens to keep of each text; 0 keeps all
    int32_t n_suffix    # of them the last, which are kept whatever is cut
    int32_t final_id    # appended where the vocabulary does not; -1 for none
    int32_t **chunks    # ids of CHUNK_TEXTS texts, one after the other
    int64_t *chunk_sizes
    int32_t *counts     # tokens of each text, or a negative Status
    uint8_t *truncated
    char[core.MESSAGE_SIZE] message


cdef struct EmbedRequest:
    const int32_t *ids
    const int64_t *offsets
    const int32_t *order     # texts in the order of the plan
    const int32_t *bounds    # micro-batch i holds order[bounds[i]] .. order[bounds[i + 1] - 1]
    float *out
    int64_t n_out            # values per row of out
    bint per_token           # a row per token instead of one per text
    bint ranks
    kernels.Pooling pooling
    kernels.Norm norm
    double p
    int8_t *failures         # a Failure per text
    int status               # of the first micro-batch that could not be computed
    char[core.MESSAGE_SIZE] message


cdef void run_tokenize(
    void *owner, int32_t worker, cpp_bool alone, const Claim *claims, int32_t n_claims
) noexcept nogil:
    cdef TokenizeRequest *request = <TokenizeRequest *>claims[0].job.request
    cdef int32_t chunk = claims[0].item
    cdef int32_t first = chunk * CHUNK_TEXTS
    cdef int32_t last = min(first + CHUNK_TEXTS, request.n_texts)
    cdef int32_t text, n_ids
    cdef int64_t used = 0
    cdef int64_t capacity = 0
    cdef int32_t *ids = NULL
    cdef int32_t *larger
    cdef int status
    for text in range(first, last):
        capacity += request.n_bytes[text] + 16
    ids = <int32_t *>malloc(capacity * sizeof(int32_t))
    text = first
    while text < last:
        if ids == NULL:
            request.counts[text] = core.NO_MEMORY
            text += 1
            continue
        n_ids = 0
        status = core.tokenize_utf8(
            request.vocabulary, request.texts[text], request.n_bytes[text], ids + used,
            <int32_t>min(capacity - used, <int64_t>2147483647), request.add_special,
            request.parse_special, &n_ids, request.message,
        )
        # One place more than the tokens, for the final id.
        if status == 0 and (n_ids < 0 or used + n_ids + 1 > capacity):
            capacity += (-n_ids if n_ids < 0 else n_ids) + 16
            larger = <int32_t *>realloc(ids, capacity * sizeof(int32_t))
            if larger != NULL:
                ids = larger
                continue
            status = core.NO_MEMORY
        if status != 0:
            request.counts[text] = status
        else:
            request.counts[text] = keep_tokens(request, text, ids + used, n_ids)
            used += request.counts[text]
        text += 1
    request.chunks[chunk] = ids
    request.chunk_sizes[chunk] = used
    claims[0].job.texts_done.fetch_add(last - first)


cdef int32_t keep_tokens(
    TokenizeRequest *request, int32_t text, int32_t *ids, int32_t n_ids
) noexcept nogil:
    cdef int32_t n_suffix = request.n_suffix
    cdef int32_t i
    if request.final_id >= 0 and (n_ids == 0 or ids[n_ids - 1] != request.final_id):
        ids[n_ids] = request.final_id
        n_ids += 1
    if request.final_id >= 0:
        n_suffix = max(n_suffix, 1)
    if request.limit == 0 or n_ids <= request.limit:
        return n_ids
    request.truncated[text] = 1
    n_suffix = min(n_suffix, request.limit)
    for i in range(n_suffix):
        ids[request.limit - n_suffix + i] = ids[n_ids - n_suffix + i]
    return request.limit


cdef void run_embed(
    void *owner, int32_t worker, cpp_bool alone, const Claim *claims, int32_t n_claims
) noexcept nogil:
    cdef Pool *pool = <Pool *>owner
    cdef core.State *state = &pool.states[worker]
    cdef const int32_t **ids = pool.ids + <int64_t>worker * pool.n_sequences
    cdef int32_t *lengths = pool.lengths + <int64_t>worker * pool.n_sequences
    cdef float *vector = pool.vectors + worker * pool.n_dims
    cdef EmbedRequest *request
    cdef const float *rows
    cdef int32_t claim, i, text
    cdef int32_t n_texts = 0
    cdef int64_t n_tokens = 0
    cdef int status
    if alone and pool.alone.n_threads > 1:
        state = &pool.alone
    state.abort_flag = pool.queue.abort_flag(worker)
    for claim in range(n_claims):
        request = <EmbedRequest *>claims[claim].job.request
        for i in range(
            request.bounds[claims[claim].item], request.bounds[claims[claim].item + 1]
        ):
            text = request.order[i]
            ids[n_texts] = request.ids + request.offsets[text]
            lengths[n_texts] = <int32_t>(request.offsets[text + 1] - request.offsets[text])
            n_tokens += lengths[n_texts]
            n_texts += 1
    status = core.reserve(state, room_for(pool, n_tokens), pool.n_sequences)
    if status == core.OK:
        status = core.compute(state, ids, lengths, n_texts)
    rows = NULL
    if status == core.OK and state.pooling == core.TOKENS:
        rows = core.token_vectors(state)
        if rows == NULL:
            status = core.COMPUTE_FAILED
    n_texts = 0
    for claim in range(n_claims):
        request = <EmbedRequest *>claims[claim].job.request
        if status != core.OK:
            request.status = status
            memcpy(request.message, state.message, core.MESSAGE_SIZE)
        for i in range(
            request.bounds[claims[claim].item], request.bounds[claims[claim].item + 1]
        ):
            text = request.order[i]
            if status != core.OK:
                request.failures[text] = NOT_COMPUTED
            elif request.ranks:
                request.failures[text] = write_scores(request, text, core.scores(state, n_texts))
            else:
                request.failures[text] = write_vectors(
                    pool, request, text, rows, lengths[n_texts], vector
                )
                rows += lengths[n_texts] * pool.n_dims
            n_texts += 1
        claims[claim].job.texts_done.fetch_add(
            request.bounds[claims[claim].item + 1] - request.bounds[claims[claim].item]
        )


cdef int32_t room_for(Pool *pool, int64_t n_tokens) noexcept nogil:
    # Doubling, so that a run of ever longer texts does not open a context for each.
    cdef int64_t room = pool.micro_batch_tokens
    while room < n_tokens:
        room *= 2
    return <int32_t>min(room, <int64_t>2147483647)


cdef Failure write_scores(
    EmbedRequest *request, int32_t text, const float *scores
) noexcept nogil:
    cdef float *out = request.out + text * request.n_out
    if scores == NULL:
        return NOT_COMPUTED
    memcpy(out, scores, request.n_out * sizeof(float))
    return DONE if kernels.normalize(kernels.NORM_NONE, 0, out, request.n_out) else NOT_FINITE


cdef Failure write_vectors(
    Pool *pool, EmbedRequest *request, int32_t text, const float *rows, int32_t n_rows,
    float *vector,
) noexcept nogil:
    cdef float *out
    cdef int32_t row
    cdef bint finite = True
    if request.per_token:
        out = request.out + request.offsets[text] * request.n_out
        for row in range(n_rows):
            memcpy(out, rows + row * pool.n_dims, request.n_out * sizeof(float))
            finite &= kernels.normalize(request.norm, request.p, out, request.n_out)
            out += request.n_out
    else:
        out = request.out + text * request.n_out
        if request.n_out == pool.n_dims:
            vector = out
        kernels.pool(request.pooling, rows, n_rows, pool.n_dims, vector)
        if vector != out:
            memcpy(out, vector, request.n_out * sizeof(float))
        finite = kernels.normalize(request.norm, request.p, out, request.n_out)
    return DONE if finite else NOT_FINITE


_live = weakref.WeakSet()


cdef class Workers:
    """Threads that share one model, each with a context of its own.

    Parameters
    ----------
    model : embellama.core.Model
    name : str
        What messages call the model.
    n_threads : int
        Processor cores to use.
    micro_batch_tokens : int
        Tokens a micro-batch may hold; a longer text goes alone.
    n_sequences : int
        Texts a micro-batch may hold, from 1 to 256.
    ranks : bool, optional
        Compute the scores of the classification head instead of vectors (default False).
    """

    cdef readonly core.Model model
    cdef readonly core.Vocabulary vocabulary
    cdef readonly str name
    cdef Pool pool
    cdef int n_callers
    cdef bint closed
    cdef object __weakref__

    def __cinit__(self):
        memset(&self.pool, 0, sizeof(Pool))

    def __init__(
        self, core.Model model not None, str name not None, *, int n_threads,
        int micro_batch_tokens, int n_sequences, bint ranks=False,
    ):
        self.model = model
        self.name = name
        self.vocabulary = core.Vocabulary(model)
        self.pool.n_workers = n_threads
        self.pool.micro_batch_tokens = micro_batch_tokens
        self.pool.n_sequences = min(n_sequences, micro_batch_tokens)
        self.pool.n_dims = model.n_dimensions
        self.pool.alone.pooling = core.RANK if ranks else core.TOKENS
        self.pool.alone.n_threads = n_threads
        self.open()
        _live.add(self)

    cdef int open(self) except -1:
        cdef Pool *pool = &self.pool
        cdef int32_t worker
        cdef int64_t slots = <int64_t>pool.n_workers * pool.n_sequences
        pool.states = <core.State *>calloc(pool.n_workers, sizeof(core.State))
        pool.ids = <const int32_t **>malloc(slots * sizeof(int32_t *))
        pool.lengths = <int32_t *>malloc(slots * sizeof(int32_t))
        pool.vectors = <float *>malloc(pool.n_workers * pool.n_dims * sizeof(float))
        if not (pool.states and pool.ids and pool.lengths and pool.vectors):
            raise ResourceLimitError(f"{self.name}: not enough memory for the workers")
        for worker in range(pool.n_workers):
            pool.states[worker].model = self.model.handle
            pool.states[worker].pooling = pool.alone.pooling
            pool.states[worker].n_threads = 1
        pool.alone.model = self.model.handle
        pool.queue = new JobQueue(pool.n_workers, pool.micro_batch_tokens, pool.n_sequences)
        return 0

    @property
    def n_threads(self):
        """Micro-batches computed at a time."""
        return self.pool.n_workers

    def close(self):
        """Stop the threads and free their contexts, after the calls under way have ended."""
        # No new caller comes in after this, and one counted below still holds the pool.
        self.closed = True
        while self.n_callers > 0:
            time.sleep(0.001)
        self.free_pool()

    cdef void free_pool(self):
        cdef Pool *pool = &self.pool
        cdef int32_t worker
        if pool.queue != NULL:
            with nogil:
                del pool.queue
        pool.queue = NULL
        if pool.states != NULL:
            for worker in range(pool.n_workers):
                core.release(&pool.states[worker])
        core.release(&pool.alone)
        free(pool.states)
        free(pool.ids)
        free(pool.lengths)
        free(pool.vectors)
        pool.states = NULL
        pool.ids = NULL
        pool.lengths = NULL
        pool.vectors = NULL

    def __dealloc__(self):
        self.free_pool()

    def stop(self):
        """Drop what is not computed yet, then close."""
        self.closed = True
        if self.pool.queue != NULL:
            self.pool.queue.cancel_all()
        self.close()

    def reopen_after_fork(self):
        """Start over in a child process, where the parent's threads do not exist.

        What they held is left alone: a mutex may have been locked when the process forked.
        """
        self.pool.alone.context = NULL
        self.pool.alone.batch = NULL
        self.pool.alone.threadpool = NULL
        self.pool.alone.n_tokens = self.pool.alone.n_sequences = 0
        self.pool.queue = NULL
        self.n_callers = 0
        if not self.closed:
            self.open()

    cdef int run(self, Job *job, deadline, progress, int64_t n_texts) except -1:
        """Submit a job and wait for it, looking out for signals, the deadline and progress."""
        cdef cpp_bool finished = False
        cdef double seconds
        cdef double end = INFINITY if deadline is None else deadline.end
        if self.closed:
            raise ModelLoadError(f"{self.name}: the model is unloaded; load() it again")
        self.n_callers += 1
        try:
            job.owner = &self.pool
            try:
                with nogil:
                    self.pool.queue.submit(job[0])
            except RuntimeError as error:
                raise ResourceLimitError(f"{self.name}: {error}") from None
            try:
                while not finished:
                    seconds = min(WAIT_SECONDS, max(0.0, end - time.monotonic()))
                    with nogil:
                        finished = self.pool.queue.wait(job[0], seconds)
                    PyErr_CheckSignals()
                    if progress is not None:
                        progress(<int64_t>job.texts_done.load(), n_texts)
                    if not finished and time.monotonic() >= end:
                        raise OperationTimeoutError(
                            f"{self.name}: not finished within {deadline.seconds:g} seconds: "
                            "give it more time or fewer texts"
                        )
            finally:
                if not finished:
                    with nogil:
                        self.pool.queue.cancel(job[0])
                        while not self.pool.queue.wait(job[0], 1.0):
                            pass
            if job.cancelled:
                raise EmbeddingGenerationError(f"{self.name}: the process is ending")
        finally:
            self.n_callers -= 1
            core.flush_log()
        return 0

    def tokenize(
        self, tuple texts not None, *, bint add_special=True, bint parse_special=True,
        int32_t limit=0, int32_t final_id=-1, deadline=None,
    ):
        """Tokenize texts on all workers.

        Parameters
        ----------
        texts : tuple of str
        add_special, parse_special : bool, optional
            See :meth:`embellama.core.Vocabulary.tokenize`.
        limit : int, optional
            Cut texts to this many tokens, their final special tokens kept; 0, the default,
            cuts nothing.
        final_id : int, optional
            A token every text shall end with; -1, the default, for none.
        deadline : Deadline, optional
            When to give up.

        Returns
        -------
        ids : numpy.ndarray of int32
            The tokens of all texts, one after the other.
        offsets : numpy.ndarray of int64, shape (N + 1,)
            Text i has ``ids[offsets[i]:offsets[i + 1]]``.
        truncated : numpy.ndarray of bool, shape (N,)

        Raises
        ------
        InvalidInputError
            If a text holds lone surrogates or is too long for llama.cpp.
        TokenizationError
            If the tokenizer fails.
        """
        cdef int32_t n_texts = <int32_t>len(texts)
        cdef int32_t n_chunks = (n_texts + CHUNK_TEXTS - 1) // CHUNK_TEXTS
        cdef int32_t i
        cdef int64_t total
        cdef Py_ssize_t n_bytes = 0
        counts = np.zeros(n_texts, dtype=np.int32)
        truncated = np.zeros(n_texts, dtype=np.uint8)
        pointers = np.empty(max(n_texts, 1), dtype=np.uintp)
        sizes = np.empty(max(n_texts, 1), dtype=np.int64)
        offsets = np.zeros(n_texts + 1, dtype=np.int64)
        chunk_pointers = np.zeros(max(n_chunks, 1), dtype=np.uintp)
        chunk_sizes = np.zeros(max(n_chunks, 1), dtype=np.int64)
        cdef size_t[::1] pointer_view = pointers
        cdef int64_t[::1] size_view = sizes
        cdef int64_t[::1] chunk_size_view = chunk_sizes
        cdef size_t[::1] chunk_view = chunk_pointers
        cdef int32_t[::1] count_view = counts if n_texts else np.zeros(1, np.int32)
        cdef uint8_t[::1] truncated_view = truncated if n_texts else np.zeros(1, np.uint8)
        for i in range(n_texts):
            try:
                pointer_view[i] = <size_t>core.utf8_of(texts[i], &n_bytes)
            except InvalidInputError as error:
                raise InvalidInputError(
                    f"{self.name}: text {i}: {error}", index=i
                ) from None
            size_view[i] = n_bytes
        cdef TokenizeRequest request
        memset(&request, 0, sizeof(request))
        request.vocabulary = self.vocabulary.handle
        request.texts = <const char **>&pointer_view[0]
        request.n_bytes = &size_view[0]
        request.n_texts = n_texts
        request.add_special = add_special
        request.parse_special = parse_special
        request.limit = limit
        request.n_suffix = self.vocabulary.n_suffix if add_special else 0
        request.final_id = final_id
        request.chunks = <int32_t **>&chunk_view[0]
        request.chunk_sizes = &chunk_size_view[0]
        request.counts = &count_view[0]
        request.truncated = &truncated_view[0]
        cdef Job *job = new Job()
        cdef int32_t[::1] id_view
        try:
            job.run = run_tokenize
            job.request = &request
            job.n_items = n_chunks
            self.run(job, deadline, None, n_texts)
            for i in range(n_texts):
                if count_view[i] < 0:
                    self.raise_for_text(i, count_view[i], request.message)
            np.cumsum(counts, out=offsets[1:])
            ids = np.empty(offsets[n_texts], dtype=np.int32)
            if len(ids):
                id_view = ids
                total = 0
                for i in range(n_chunks):
                    memcpy(
                        &id_view[0] + total, <void *>chunk_view[i],
                        chunk_size_view[i] * sizeof(int32_t),
                    )
                    total += chunk_size_view[i]
            return ids, offsets, truncated.view(np.bool_)
        finally:
            del job
            for i in range(n_chunks):
                free(<void *>chunk_view[i])

    cdef int raise_for_text(self, int32_t index, int status, const char *message) except -1:
        reason = message.decode("utf-8", "replace")
        if status == core.TOO_LARGE:
            raise InvalidInputError(
                f"{self.name}: text {index} has more than 2**31 bytes; split it", index=index
            )
        if status == core.NO_MEMORY:
            raise ResourceLimitError(
                f"{self.name}: not enough memory to tokenize text {index}"
            )
        raise TokenizationError(
            f"{self.name}: the tokenizer failed on text {index}: {reason}", index=index
        )

    def embed(
        self, const int32_t[::1] ids, const int64_t[::1] offsets, const int32_t[::1] order,
        const int32_t[::1] bounds, float[:, ::1] out, *, str pooling="mean", str norm="l2",
        double p=2.0, bint per_token=False, deadline=None, progress=None,
    ):
        """Compute the vectors of tokenized texts.

        Parameters
        ----------
        ids, offsets : numpy.ndarray
            As :meth:`tokenize` returns them.
        order, bounds : numpy.ndarray of int32
            As :func:`embellama.batch.plan` returns them.
        out : numpy.ndarray of float32
            A row per text, or per token with `per_token`; fewer columns than the model has
            dimensions cut the vectors before they are normalised.
        pooling, norm, p
            See :mod:`embellama.kernels`; `norm` ``"p"`` uses `p`.
        per_token : bool, optional
            Write every token's vector instead of pooling (default False).
        deadline : Deadline, optional
            When to give up.
        progress : callable, optional
            Called as ``progress(done, total)``, in texts, every 50 ms and at the end.

        Returns
        -------
        failures : numpy.ndarray of int8, shape (N,)
            A Failure per text.
        reason : Exception or None
            Why texts were NOT_COMPUTED.
        """
        cdef int64_t n_texts = offsets.shape[0] - 1
        failures = np.zeros(max(n_texts, 1), dtype=np.int8)
        cdef int8_t[::1] failure_view = failures
        reason = None
        if n_texts == 0 or out.shape[1] == 0:
            return failures[:n_texts], reason
        item_tokens = np.diff(
            np.concatenate([[0], np.cumsum(np.diff(np.asarray(offsets))[np.asarray(order)])])[
                np.asarray(bounds)
            ]
        ).clip(max=2**31 - 1).astype(np.int32)
        item_texts = np.diff(np.asarray(bounds)).astype(np.int32)
        cdef int32_t[::1] token_view = item_tokens
        cdef int32_t[::1] text_view = item_texts
        cdef EmbedRequest request
        memset(&request, 0, sizeof(request))
        request.ids = &ids[0]
        request.offsets = &offsets[0]
        request.order = &order[0]
        request.bounds = &bounds[0]
        request.out = &out[0, 0]
        request.n_out = out.shape[1]
        request.per_token = per_token
        request.ranks = self.pool.alone.pooling == core.RANK
        if not per_token and not request.ranks:
            request.pooling = POOLINGS[pooling]
        request.norm = kernels.NORM_P if norm == "p" else NORMS[norm]
        request.p = p
        request.failures = &failure_view[0]
        cdef Job *job = new Job()
        try:
            job.run = run_embed
            job.request = &request
            job.n_items = <int32_t>text_view.shape[0]
            job.item_tokens = &token_view[0]
            job.item_texts = &text_view[0]
            job.merge_key = &self.pool
            self.run(job, deadline, progress, n_texts)
        finally:
            del job
        if request.status != core.OK:
            try:
                core.raise_for_status(
                    request.status, request.message.decode("utf-8", "replace"), self.name
                )
            except (EmbeddingGenerationError, InvalidInputError, ResourceLimitError) as error:
                reason = error
        return failures[:n_texts], reason


def _reopen_all():
    for workers in list(_live):
        workers.reopen_after_fork()


def _stop_all():
    # A thread that computes while the process tears down static objects would crash it.
    for workers in list(_live):
        workers.stop()


atexit.register(_stop_all)
os.register_at_fork(after_in_child=_reopen_all)
