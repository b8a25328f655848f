# SPDX-License-Identifier: Apache-2.0
# cython: boundscheck=False, wraparound=False, nonecheck=True
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
    ResourceLimitError,
    TokenizationError,
)
from embellama.kernels import NORMS, POOLINGS, ROW_TYPES

from cpython.exc cimport PyErr_CheckSignals
from cpython.buffer cimport PyBUF_STRIDED, PyBuffer_Release, PyObject_GetBuffer
from libc.math cimport INFINITY
from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset
from libcpp cimport bool as cpp_bool

cimport cython

from embellama cimport core, kernels
from embellama.runtime.job_queue cimport Job, JobQueue
from embellama.jobs cimport (
    CHUNK_TEXTS,
    DONE,
    EmbedRequest,
    Pool,
    TokenizeRequest,
    run_embed,
    run_tokenize,
    tokenize_chunk,
)

cdef extern from "Python.h":
    unsigned long PyThread_get_thread_ident()

# How often a waiting caller looks for signals, its timeout and progress.
cdef double WAIT_SECONDS = 0.05
# Bytes of a text that the calling thread tokenizes itself: some ten microseconds' work, and no
# deeper stack than any thread has.
cdef enum:
    SHORT_BYTES = 4096

# By id, as a list of weak references can be had from it whatever other threads do meanwhile.
_live = weakref.WeakValueDictionary()


@cython.no_gc_clear  # as core.Context
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
    cdef int32_t max_tokens
    # Threads inside a call, by their ids.
    cdef list callers
    cdef bint closed
    cdef bint freeing
    cdef object __weakref__

    def __cinit__(self):
        memset(&self.pool, 0, sizeof(Pool))
        self.closed = True
        self.callers = []

    def __init__(
        self, core.Model model not None, str name not None, *, int n_threads,
        int micro_batch_tokens, int n_sequences, bint ranks=False,
    ):
        self.model = model
        self.name = name
        self.vocabulary = core.Vocabulary(model)
        self.pool.n_workers = n_threads
        self.pool.n_sequences = n_sequences
        self.pool.n_dims = model.n_dimensions
        self.pool.alone.pooling = core.RANK if ranks else core.TOKENS
        self.pool.alone.n_threads = n_threads
        self.max_tokens = micro_batch_tokens
        self.open()
        self.closed = False
        model.contexts.add(self)
        _live[id(self)] = self

    cdef int open(self) except -1:
        cdef Pool *pool = &self.pool
        cdef int32_t worker
        cdef int64_t slots = <int64_t>pool.n_workers * pool.n_sequences
        pool.states = <core.State *>calloc(pool.n_workers, sizeof(core.State))
        pool.tokens = <int32_t **>calloc(pool.n_workers, sizeof(int32_t *))
        pool.token_capacities = <int64_t *>calloc(pool.n_workers, sizeof(int64_t))
        pool.ids = <const int32_t **>malloc(slots * sizeof(int32_t *))
        pool.lengths = <int32_t *>malloc(slots * sizeof(int32_t))
        pool.vectors = <float *>malloc(pool.n_workers * pool.n_dims * sizeof(float))
        if not (
            pool.states and pool.tokens and pool.token_capacities and pool.ids and pool.lengths
            and pool.vectors
        ):
            self.free_pool()
            raise ResourceLimitError(f"{self.name}: not enough memory for the workers")
        for worker in range(pool.n_workers):
            pool.states[worker].model = self.model.handle
            pool.states[worker].pooling = pool.alone.pooling
            pool.states[worker].n_threads = 1
        pool.alone.model = self.model.handle
        try:
            pool.queue = new JobQueue(
                pool.n_workers, self.max_tokens, pool.n_sequences, core.touch_thread_memory
            )
        except (MemoryError, RuntimeError) as error:
            self.free_pool()
            raise ResourceLimitError(f"{self.name}: workers can't be started: {error}") from None
        return 0

    @property
    def micro_batch_tokens(self):
        """Tokens a micro-batch may hold; may be set at any time."""
        return self.max_tokens

    @micro_batch_tokens.setter
    def micro_batch_tokens(self, int32_t n_tokens):
        self.max_tokens = n_tokens
        if self.pool.queue != NULL:
            self.pool.queue.set_max_tokens(n_tokens)

    def close(self):
        """Stop the threads and free their contexts, after the calls under way have ended.

        Inside such a call, from a signal handler or a progress function, it returns at once, and
        they are freed when that has ended.
        """
        # No new caller comes in after this, and one listed below still holds the pool.
        self.closed = True
        if PyThread_get_thread_ident() in self.callers:
            return
        # Nor does another thread free it: the process may end inside an unload().
        while self.callers or self.freeing:
            time.sleep(0.001)
        self.free_pool()

    cdef int enter(self) except -1:
        """Have close() wait for this thread, until leave()."""
        if self.closed:
            raise ModelLoadError(f"{self.name}: the model is unloaded; load() it again")
        if core.process_is_ending():
            raise EmbeddingGenerationError(f"{self.name}: the process is ending")
        core.hold_open(self.model)
        try:
            if self.pool.queue == NULL:  # the first call in a forked child
                self.open()
            self.callers.append(PyThread_get_thread_ident())
        except BaseException:
            core.let_go(self.model)
            raise
        return 0

    cdef int leave(self, const JobQueue *queue) except -1:
        # In a child forked meanwhile, by a signal handler or progress function, nobody is inside.
        if self.pool.queue == queue:
            self.callers.remove(PyThread_get_thread_ident())
            core.let_go(self.model)
            # close() left it to this call, or waits and finds nothing to free.
            if self.closed and not self.callers and not self.freeing:
                if not core.process_is_ending():
                    self.free_pool()
        return 0

    cdef void free_pool(self):
        cdef Pool *pool = &self.pool
        cdef int32_t worker
        self.freeing = True
        if pool.queue != NULL:
            # Its threads look at pool.queue until they end.
            with nogil:
                del pool.queue
        pool.queue = NULL
        if pool.states != NULL:
            for worker in range(pool.n_workers):
                core.release(&pool.states[worker])
        core.release(&pool.alone)
        if pool.tokens != NULL:
            for worker in range(pool.n_workers):
                free(pool.tokens[worker])
        free(pool.states)
        free(pool.tokens)
        free(pool.token_capacities)
        free(pool.ids)
        free(pool.lengths)
        free(pool.vectors)
        pool.states = NULL
        pool.tokens = NULL
        pool.token_capacities = NULL
        pool.ids = NULL
        pool.lengths = NULL
        pool.vectors = NULL
        self.freeing = False

    def __dealloc__(self):
        self.free_pool()

    def stop(self):
        """Drop what is not computed and end the threads.

        Unlike :meth:`close` it does not wait for callers, which may be inside a progress function
        that never returns.
        """
        self.closed = True
        while self.freeing:
            time.sleep(0.001)
        if self.pool.queue != NULL:
            self.freeing = True
            with nogil:
                self.pool.queue.stop()
            self.freeing = False

    def reopen_after_fork(self):
        """Start over in a child process, where the parent's threads do not exist.

        What they held is left alone: a mutex may have been locked when the process forked. The
        first call there opens the pool anew.
        """
        core.abandon(&self.pool.alone)
        self.pool.states = NULL
        self.pool.tokens = NULL
        self.pool.queue = NULL
        self.callers = []
        self.freeing = False

    cdef int run(self, Job *job, deadline, progress, int64_t n_texts) except -1:
        """Submit a job and wait for it, looking out for signals, the deadline and progress."""
        cdef cpp_bool finished = False
        cdef double seconds
        cdef double end = INFINITY
        self.enter()
        cdef JobQueue *queue = self.pool.queue
        try:
            job.owner = &self.pool
            try:
                with nogil:
                    self.pool.queue.submit(job[0])
            except RuntimeError as error:
                raise ResourceLimitError(f"{self.name}: {error}") from None
            try:
                while not finished:
                    if deadline is not None:
                        end = deadline.end  # which cancel() changes
                    seconds = min(WAIT_SECONDS, max(0.0, end - time.monotonic()))
                    with nogil:
                        finished = self.pool.queue.wait(job[0], seconds)
                    PyErr_CheckSignals()
                    if progress is not None:
                        progress(<int64_t>job.texts_done.load(), n_texts)
                    if self.pool.queue != queue:
                        raise EmbeddingGenerationError(
                            f"{self.name}: a signal handler or progress function forked: the "
                            "texts are computed in the parent process"
                        )
                    if not finished and deadline is not None:
                        deadline.check(self.name)
            finally:
                # In a child forked above, where no thread works on the job, the queue is another.
                if not finished and self.pool.queue == queue:
                    with nogil:
                        self.pool.queue.cancel(job[0])
                        while not self.pool.queue.wait(job[0], 1.0):
                            pass
            if job.cancelled:
                raise EmbeddingGenerationError(f"{self.name}: the process is ending")
        finally:
            self.leave(queue)
            core.flush_log()
        return 0

    def tokenize(
        self, tuple texts not None, call, *, bint add_special=True, bint parse_special=True,
        int32_t limit=0, int32_t final_id=-1,
    ):
        """Tokenize texts on all workers.

        Parameters
        ----------
        texts : tuple of str
        call : embellama.embedding.call.Call
            When to give up.
        add_special, parse_special : bool, optional
            See :meth:`embellama.core.Vocabulary.tokenize`.
        limit : int, optional
            Cut texts to this many tokens, their final special tokens kept; 0, the default,
            cuts nothing.
        final_id : int, optional
            A token every text shall end with; -1, the default, for none.

        Returns
        -------
        ids : numpy.ndarray of int32
            The tokens of all texts, one after the other.
        offsets : numpy.ndarray of int64, shape (N + 1,)
            Text i has ``ids[offsets[i]:offsets[i + 1]]``.
        truncated : numpy.ndarray of bool, shape (N,)
        refused : dict of int to (type, str)
            What to raise for the texts that can't be tokenized, and so have no tokens.
        """
        deadline = call.deadline
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
        reasons = np.zeros(max(n_texts, 1), dtype=np.uintp)
        cdef size_t[::1] reason_view = reasons
        refused = {}
        for i in range(n_texts):
            try:
                pointer_view[i] = <size_t>core.utf8_of(texts[i], &n_bytes)
            except InvalidInputError as error:
                refused[i] = (InvalidInputError, str(error))
                n_bytes = -1
            size_view[i] = n_bytes
        cdef TokenizeRequest request
        self.prepare_tokenizing(&request, add_special, parse_special, limit, final_id)
        request.texts = <const char **>&pointer_view[0]
        request.n_bytes = &size_view[0]
        request.n_texts = n_texts
        request.chunks = <int32_t **>&chunk_view[0]
        request.chunk_sizes = &chunk_size_view[0]
        request.counts = &count_view[0]
        request.truncated = &truncated_view[0]
        request.reasons = <char **>&reason_view[0]
        cdef Job job
        cdef int32_t[::1] id_view
        try:
            job.run = run_tokenize
            job.request = &request
            job.n_items = n_chunks
            self.run(&job, deadline, None, n_texts)
            for position in np.flatnonzero(counts < 0).tolist():
                i = position
                if i not in refused:
                    refused[i] = why_refused(count_view[i], <const char *>reason_view[i])
            np.cumsum(counts.clip(min=0), out=offsets[1:])
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
            return ids, offsets, truncated.view(np.bool_), refused
        finally:
            for i in range(n_chunks):
                free(<void *>chunk_view[i])
            for position in np.flatnonzero(reasons).tolist():
                free(<void *>reason_view[<int32_t>position])

    cdef void prepare_tokenizing(
        self, TokenizeRequest *request, bint add_special, bint parse_special, int32_t limit,
        int32_t final_id,
    ) noexcept:
        memset(request, 0, sizeof(TokenizeRequest))
        request.vocabulary = self.vocabulary.handle
        request.add_special = add_special
        request.parse_special = parse_special
        request.recurses = self.vocabulary.recurses
        request.limit = limit
        request.n_suffix = self.vocabulary.n_suffix if add_special else 0
        request.final_id = final_id

    def embed(
        self, const int32_t[::1] ids, const int64_t[::1] offsets, const int32_t[::1] order,
        const int32_t[::1] bounds, rows not None, call not None, *, str pooling="mean",
        str norm="l2", double p=2.0,
    ):
        """Compute the vectors of tokenized texts.

        Parameters
        ----------
        ids, offsets : numpy.ndarray
            As :meth:`tokenize` returns them.
        order, bounds : numpy.ndarray of int32
            As :func:`embellama.batch.plan` returns them.
        rows : embellama.embedding.rows.Rows
            Where the vectors go, and as what.
        call : embellama.embedding.call.Call
            When to give up, and what is called with the progress, every 50 ms and at the end.
        pooling, norm, p
            See :mod:`embellama.kernels`; `norm` ``"p"`` uses `p`.

        Returns
        -------
        failures : numpy.ndarray of int8, shape (N,)
            A Failure per text.
        reason : Exception or None
            Why texts were NOT_COMPUTED.
        """
        out, dtype, deadline, progress = rows.array, rows.dtype, call.deadline, call.progress
        cdef int64_t n_dims = rows.n_dims
        cdef bint per_token = rows.per_token
        cdef float[:, ::1] levels = rows.levels
        cdef const int64_t[::1] places = rows.row_of_text
        cdef int64_t n_texts = offsets.shape[0] - 1
        if places.shape[0] != n_texts or (per_token and len(out) < offsets[n_texts]):
            raise ValueError(f"{self.name}: the rows are those of other texts")
        failures = np.zeros(max(n_texts, 1), dtype=np.int8)
        cdef int8_t[::1] failure_view = failures
        reason = None
        if n_texts == 0 or n_dims == 0:
            return failures[:n_texts], reason
        ranks = self.pool.alone.pooling == core.RANK
        if n_dims > (self.model.n_scores if ranks else self.pool.n_dims):
            raise ValueError(f"{self.name}: it has no {n_dims} dimensions")
        cdef int32_t n_items = <int32_t>bounds.shape[0] - 1
        cdef int32_t[::1] token_view = np.empty(n_items, dtype=np.int32)
        cdef int32_t[::1] text_view = np.empty(n_items, dtype=np.int32)
        cdef int32_t item, i
        cdef int64_t n_tokens
        # In a loop of ours: where numpy gets no memory to convert an int32 index, it crashes.
        for item in range(n_items):
            n_tokens = 0
            for i in range(bounds[item], bounds[item + 1]):
                n_tokens += offsets[order[i] + 1] - offsets[order[i]]
            token_view[item] = <int32_t>min(n_tokens, <int64_t>2147483647)
            text_view[item] = bounds[item + 1] - bounds[item]
        cdef EmbedRequest request
        cdef Py_buffer buffer
        cdef Job job
        self.prepare_embedding(&request, pooling, norm, p)
        request.ids = &ids[0]
        request.offsets = &offsets[0]
        request.order = &order[0]
        request.bounds = &bounds[0]
        request.failures = &failure_view[0]
        request.rows.n_dims = n_dims
        request.rows.per_token = per_token
        request.rows.row_type = ROW_TYPES[dtype]
        if levels is not None:
            request.rows.starts = &levels[0, 0]
            request.rows.steps = &levels[1, 0]
        if places is not None:
            request.rows.places = &places[0]
        job.n_items = n_items
        job.item_tokens = &token_view[0]
        job.item_texts = &text_view[0]
        PyObject_GetBuffer(out, &buffer, PyBUF_STRIDED)
        try:
            request.rows.out = <char *>buffer.buf
            request.rows.stride = buffer.strides[0]
            self.run_embedding(&job, &request, deadline, progress, n_texts)
        finally:
            PyBuffer_Release(&buffer)
        if request.status != core.OK:
            try:
                core.raise_for_status(
                    request.status, request.message.decode("utf-8", "replace"), self.name
                )
            except (EmbeddingGenerationError, InvalidInputError, ResourceLimitError) as error:
                reason = error
        return failures[:n_texts], reason

    def embed_short(
        self, str text not None, *, int64_t n_dims, int32_t longest, str pooling="mean",
        str norm="l2", double p=2.0, bint parse_special=True, int32_t limit=0,
        int32_t final_id=-1,
    ):
        """Compute the vector of a short text with one hand-over between threads.

        Parameters
        ----------
        text : str
        n_dims : int
            Dimensions to keep.
        longest : int
            Tokens a text may have.
        pooling, norm, p, parse_special, limit, final_id
            As for :meth:`tokenize` and :meth:`embed`.

        Returns
        -------
        numpy.ndarray of float32, shape (n_dims,), or None
            None where the text is not short, or has no vector: :meth:`tokenize` and
            :meth:`embed` then say why.
        """
        cdef Py_ssize_t n_bytes = 0
        cdef const char *utf8 = core.utf8_of(text, &n_bytes)
        # A tokenizer of regular expressions recurses, which only a worker's stack is made for.
        if n_bytes > SHORT_BYTES or self.vocabulary.recurses:
            return None
        cdef TokenizeRequest tokenizing
        cdef EmbedRequest request
        cdef Job job
        cdef int32_t *ids = NULL
        cdef int32_t count = 0
        cdef int64_t n_text_bytes = n_bytes
        cdef int64_t n_ids = 0
        cdef uint8_t truncated = 0
        cdef int8_t failure = DONE
        cdef int64_t[2] offsets
        cdef int32_t[2] bounds
        cdef int32_t one = 1
        self.prepare_tokenizing(&tokenizing, True, parse_special, limit, final_id)
        tokenizing.texts = &utf8
        tokenizing.n_bytes = &n_text_bytes
        tokenizing.n_texts = 1
        tokenizing.chunks = &ids
        tokenizing.chunk_sizes = &n_ids
        tokenizing.counts = &count
        tokenizing.truncated = &truncated
        vector = np.empty(n_dims, dtype=np.float32)
        cdef float[::1] view = vector
        self.enter()
        cdef JobQueue *queue = self.pool.queue
        try:
            with nogil:
                if core.enter_llama():
                    tokenize_chunk(&tokenizing, 0, NULL, 0, NULL)
                    core.leave_llama()
            if not 1 <= count <= longest:
                return None
            offsets[0] = bounds[0] = 0
            offsets[1] = count
            bounds[1] = 1
            self.prepare_embedding(&request, pooling, norm, p)
            request.ids = ids
            request.offsets = offsets
            request.order = bounds
            request.bounds = bounds
            request.failures = &failure
            request.rows.out = <char *>&view[0]
            request.rows.n_dims = n_dims
            request.rows.row_type = kernels.ROW_FLOAT32
            job.n_items = 1
            job.item_tokens = &count
            job.item_texts = &one
            self.run_embedding(&job, &request, None, None, 1)
        finally:
            free(ids)
            self.leave(queue)
        return vector if failure == DONE else None

    cdef int prepare_embedding(
        self, EmbedRequest *request, str pooling, str norm, double p
    ) except -1:
        memset(request, 0, sizeof(EmbedRequest))
        request.ranks = self.pool.alone.pooling == core.RANK
        if not request.ranks:
            request.pooling = POOLINGS.get(pooling, kernels.POOL_NONE)
        request.norm = kernels.NORM_P if norm == "p" else NORMS[norm]
        request.p = p
        return 0

    cdef int run_embedding(
        self, Job *job, EmbedRequest *request, deadline, progress, int64_t n_texts
    ) except -1:
        job.run = run_embed
        job.request = request
        # Any two micro-batches of the same workers may be computed together.
        job.merge_key = &self.pool
        return self.run(job, deadline, progress, n_texts)


cdef tuple why_refused(int status, const char *reason):
    if status == core.TOO_LARGE:
        return InvalidInputError, "more than 2**31 bytes: split it"
    if status == core.NO_MEMORY:
        return ResourceLimitError, "not enough memory to tokenize it: split it"
    message = "" if reason == NULL else reason.decode("utf-8", "replace")
    return TokenizationError, f"the tokenizer failed: {message}"


def _live_workers():
    return [workers for workers in (ref() for ref in _live.valuerefs()) if workers is not None]


def _reopen_all():
    for workers in _live_workers():
        workers.reopen_after_fork()


def _stop_all():
    # A thread that computes while the process tears down static objects would crash it.
    with nogil:
        core.end_calls()
    for workers in _live_workers():
        workers.stop()


atexit.register(_stop_all)
os.register_at_fork(after_in_child=_reopen_all)
