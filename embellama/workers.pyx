# SPDX-License-Identifier: Apache-2.0
# cython: boundscheck=False, wraparound=False, nonecheck=True
"""The threads that compute: each tokenizes texts or runs micro-batches, never with the GIL."""

import atexit
import enum
import time
import weakref

import numpy as np

from embellama.core import failure_of, flush_log
from embellama.errors import (
    EmbeddingGenerationError,
    InvalidInputError,
    ModelLoadError,
    ResourceLimitError,
)
from embellama.kernels import NORMS, POOLINGS, ROW_TYPES
from embellama.machine.forking import renew_after_fork

from cpython.buffer cimport PyBUF_STRIDED, PyBuffer_Release, PyObject_GetBuffer
from cpython.exc cimport PyErr_CheckSignals
from cpython.pycapsule cimport PyCapsule_Import
from libc.math cimport INFINITY
from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t
from libc.string cimport memcpy
from libcpp cimport bool as cpp_bool

cimport cython

from embellama cimport core, kernels
from embellama.instruction_set cimport limit as instruction_set_limit
from embellama.native.context_state cimport ExactCopy
from embellama.native.dense_head cimport DenseHead
from embellama.native.use_count cimport begin_use, end_use
from embellama.native.worker_pool cimport (
    WORKER_POOLS,
    EmbedJob,
    Job,
    Parameters,
    TokenizeJob,
    WorkerPool,
    WorkerPools,
)
from embellama.rows cimport Norm, Pooling, RowType
from embellama.runtime.cpu_features cimport InstructionSet
from embellama.runtime.status cimport OK, Message
from embellama.utf8 cimport utf8_of

cdef extern from "Python.h":
    unsigned long PyThread_get_thread_ident()

cdef const WorkerPools *worker_pools = <const WorkerPools *>PyCapsule_Import(WORKER_POOLS, 0)

# How often a waiting caller looks for signals, its timeout and progress.
cdef double WAIT_SECONDS = 0.05
# Bytes of a text that the calling thread tokenizes itself: some ten microseconds' work, and no
# deeper stack than any thread has.
cdef enum:
    SHORT_BYTES = 4096

# Those whose threads must end before the process does. By id, as a list of weak references can be
# had from it whatever other threads do meanwhile.
_live = weakref.WeakValueDictionary()


class Failure(enum.IntEnum):
    """Why a text has no vector; as in native/jobs.hpp."""

    NONE = 0
    NOT_FINITE = 1
    NOT_COMPUTED = 2


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
    half_keys : bool, optional
        Keep keys and values of a causal model in float16 (default False: in float32).
    layer_norm_before_cut : bool, optional
        Apply a layer norm to a vector of which not all dimensions are kept (default False).
    """

    cdef readonly core.Model model
    cdef readonly core.Vocabulary vocabulary
    cdef readonly str name
    cdef WorkerPool *pool
    cdef Parameters parameters
    # Threads inside a call, by their ids.
    cdef list callers
    # Whether the tokenizer wants texts in another Unicode form than some may have.
    cdef bint normalizes
    cdef bint closed
    cdef bint freeing
    cdef object __weakref__

    def __cinit__(self):
        self.pool = NULL
        self.closed = True
        self.callers = []

    def __init__(
        self, core.Model model not None, str name not None, *, int n_threads,
        int micro_batch_tokens, int n_sequences, bint ranks=False, bint half_keys=False,
        bint layer_norm_before_cut=False,
    ):
        self.model = model
        self.name = name
        self.vocabulary = core.Vocabulary(model)
        self.normalizes = self.vocabulary.normalized("e\u0301") != "e\u0301"
        self.parameters.context.model = model.handle
        self.parameters.context.head = <const DenseHead *>model.head
        self.parameters.context.exact = <const ExactCopy *>model.exact
        self.parameters.context.ranks = ranks
        self.parameters.context.half_keys = half_keys
        self.parameters.n_workers = n_threads
        self.parameters.max_tokens = micro_batch_tokens
        self.parameters.max_texts = n_sequences
        self.parameters.layer_norm_before_cut = layer_norm_before_cut
        self.parameters.instruction_set = <InstructionSet>instruction_set_limit()
        self.open()
        self.closed = False
        model.dependents.add(self)
        _live[id(self)] = self
        renew_after_fork(self)

    cdef int open(self) except -1:
        cdef Message message
        self.pool = worker_pools.open(self.parameters, message)
        if self.pool == NULL:
            raise ResourceLimitError(
                f"{self.name}: workers can't be started: {(<bytes>message.text).decode()}"
            )
        return 0

    @property
    def micro_batch_tokens(self):
        """Tokens a micro-batch may hold; may be set at any time."""
        return self.parameters.max_tokens

    @micro_batch_tokens.setter
    def micro_batch_tokens(self, int32_t n_tokens):
        self.parameters.max_tokens = n_tokens
        if self.pool != NULL:
            self.pool.set_max_tokens(n_tokens)

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
        if worker_pools.process_is_ending():
            raise EmbeddingGenerationError(f"{self.name}: the process is ending")
        if not begin_use(self.model.calls):
            raise ModelLoadError(f"{self.model.path}: the model is closed")
        try:
            if self.pool == NULL:  # the first call in a forked child
                self.open()
            self.callers.append(PyThread_get_thread_ident())
        except BaseException:
            end_use(self.model.calls)
            raise
        return 0

    cdef int leave(self, const WorkerPool *pool) except -1:
        # In a child forked meanwhile, by a signal handler or progress function, nobody is inside.
        if self.pool == pool:
            self.callers.remove(PyThread_get_thread_ident())
            end_use(self.model.calls)
            # close() left it to this call, or waits and finds nothing to free.
            if self.closed and not self.callers and not self.freeing:
                if not worker_pools.process_is_ending():
                    self.free_pool()
        return 0

    cdef void free_pool(self):
        self.freeing = True
        # The pool's threads look at it until they end.
        with nogil:
            del self.pool
        self.pool = NULL
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
        if self.pool != NULL:
            self.freeing = True
            with nogil:
                self.pool.stop()
            self.freeing = False

    def _renew_after_fork(self):
        """Start over in a child process, where the parent's threads do not exist.

        The pool is left alone, not freed: a mutex may have been locked when the process forked. The
        first call there opens another.
        """
        self.pool = NULL
        self.callers = []
        self.freeing = False

    cdef int wait(self, Job &job, deadline, progress, int64_t n_texts) except -1:
        """Wait for a submitted job, looking out for signals, the deadline and progress."""
        cdef cpp_bool finished = False
        cdef double seconds
        cdef double end = INFINITY
        cdef const WorkerPool *pool = self.pool
        try:
            while not finished:
                if deadline is not None:
                    end = deadline.end  # which cancel() changes
                seconds = min(WAIT_SECONDS, max(0.0, end - time.monotonic()))
                with nogil:
                    finished = self.pool.wait(job, seconds)
                PyErr_CheckSignals()
                if progress is not None:
                    progress(<int64_t>job.texts_done.load(), n_texts)
                if self.pool != pool:
                    raise EmbeddingGenerationError(
                        f"{self.name}: a signal handler or progress function forked: the "
                        "texts are computed in the parent process"
                    )
                if not finished and deadline is not None:
                    deadline.check(self.name)
        finally:
            # In a child forked above no thread works on the job, and the pool is another.
            if not finished and self.pool == pool:
                with nogil:
                    self.pool.cancel(job)
                    while not self.pool.wait(job, 1.0):
                        pass
        if job.cancelled:
            raise EmbeddingGenerationError(f"{self.name}: the process is ending")
        return 0

    cdef int run(
        self, TokenizeJob *tokenizing, EmbedJob *embedding, deadline, progress, int64_t n_texts
    ) except -1:
        """Do one of the two jobs; the other is NULL."""
        cdef Job *job = <Job *>tokenizing if tokenizing != NULL else <Job *>embedding
        cdef Message message
        cdef int status
        self.enter()
        cdef const WorkerPool *pool = self.pool
        try:
            with nogil:
                if tokenizing != NULL:
                    status = self.pool.submit(tokenizing[0], message)
                else:
                    status = self.pool.submit(embedding[0], message)
            if status != OK:
                raise self.error_of(status, message)
            self.wait(job[0], deadline, progress, n_texts)
        finally:
            self.leave(pool)
            flush_log()
        return 0

    cdef object error_of(self, int status, const Message &message):
        kind, reason = failure_of(status, (<bytes>message.text).decode("utf-8", "replace"))
        return kind(f"{self.name}: {reason}")

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
        cdef int32_t n_texts = <int32_t>len(texts)
        cdef int32_t i
        cdef Py_ssize_t n_bytes = 0
        counts = np.zeros(n_texts, dtype=np.int32)
        truncated = np.zeros(n_texts, dtype=np.uint8)
        pointers = np.empty(max(n_texts, 1), dtype=np.uintp)
        sizes = np.empty(max(n_texts, 1), dtype=np.int64)
        offsets = np.zeros(n_texts + 1, dtype=np.int64)
        cdef size_t[::1] pointer_view = pointers
        cdef int64_t[::1] size_view = sizes
        cdef int32_t[::1] count_view = counts if n_texts else np.zeros(1, np.int32)
        cdef uint8_t[::1] truncated_view = truncated if n_texts else np.zeros(1, np.uint8)
        refused = {}
        if self.normalizes:
            texts = tuple([self.vocabulary.normalized(text) for text in texts])
        for i in range(n_texts):
            try:
                pointer_view[i] = <size_t>utf8_of(texts[i], &n_bytes)
            except InvalidInputError as error:
                refused[i] = (InvalidInputError, str(error))
                n_bytes = -1
            size_view[i] = n_bytes
        cdef TokenizeJob job
        self.prepare_tokenizing(job, add_special, parse_special, limit, final_id)
        job.texts = <const char *const *>&pointer_view[0]
        job.n_bytes = &size_view[0]
        job.n_texts = n_texts
        job.counts = &count_view[0]
        job.truncated = &truncated_view[0]
        self.run(&job, NULL, call.deadline, None, n_texts)
        reasons = reasons_of(job)
        for position in np.flatnonzero(counts < 0).tolist():
            i = position
            if i not in refused:
                refused[i] = failure_of(count_view[i], reasons.get(i, ""))
        np.cumsum(counts.clip(min=0), out=offsets[1:])
        return all_ids(job, offsets[n_texts]), offsets, truncated.view(np.bool_), refused

    cdef void prepare_tokenizing(
        self, TokenizeJob &job, bint add_special, bint parse_special, int32_t limit,
        int32_t final_id,
    ) noexcept:
        job.tokenizer.vocabulary = self.vocabulary.handle
        job.tokenizer.add_special = add_special
        job.tokenizer.parse_special = parse_special
        job.tokenizer.recurses = self.vocabulary.recurses
        job.limit = limit
        job.n_suffix = self.vocabulary.n_suffix if add_special else 0
        job.final_id = final_id

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
        cdef int64_t n_dims = rows.n_dims
        cdef float[:, ::1] levels = rows.levels
        cdef const int64_t[::1] row_of_text = rows.row_of_text
        cdef int64_t n_texts = offsets.shape[0] - 1
        if row_of_text.shape[0] != n_texts or (
            rows.per_token and len(rows.array) < offsets[n_texts]
        ):
            raise ValueError(f"{self.name}: the rows are those of other texts")
        failures = np.zeros(max(n_texts, 1), dtype=np.int8)
        cdef int8_t[::1] failure_view = failures
        reason = None
        if n_texts == 0 or n_dims == 0:
            return failures[:n_texts], reason
        if self.parameters.context.ranks:
            width = self.model.n_scores
        elif rows.per_token:
            width = self.model.n_token_dimensions
        else:
            width = self.model.n_dimensions
        if n_dims > width:
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
        cdef EmbedJob job
        cdef Py_buffer buffer
        self.prepare_embedding(job, pooling, norm, p)
        job.n_items = n_items
        job.item_tokens = &token_view[0]
        job.item_texts = &text_view[0]
        job.ids = &ids[0]
        job.offsets = &offsets[0]
        job.order = &order[0]
        job.bounds = &bounds[0]
        job.failures = &failure_view[0]
        job.rows.n_dims = n_dims
        job.rows.per_token = rows.per_token
        job.rows.type = <RowType><int>ROW_TYPES[rows.dtype]
        if levels is not None:
            job.rows.starts = &levels[0, 0]
            job.rows.steps = &levels[1, 0]
        job.rows.row_of_text = &row_of_text[0]
        PyObject_GetBuffer(rows.array, &buffer, PyBUF_STRIDED)
        try:
            job.rows.out = <char *>buffer.buf
            job.rows.stride = buffer.strides[0]
            self.run(NULL, &job, call.deadline, call.progress, n_texts)
        finally:
            PyBuffer_Release(&buffer)
        if job.status != OK:
            reason = self.error_of(job.status, job.message)
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
        if self.normalizes:
            text = self.vocabulary.normalized(text)
        cdef const char *utf8 = utf8_of(text, &n_bytes)
        # A tokenizer of regular expressions recurses, which only a worker's stack is made for.
        if n_bytes > SHORT_BYTES or self.vocabulary.recurses:
            return None
        cdef TokenizeJob tokenizing
        cdef EmbedJob job
        cdef int32_t count = 0
        cdef int64_t n_text_bytes = n_bytes
        cdef uint8_t truncated = 0
        cdef int8_t failure = Failure.NONE
        cdef int64_t[2] offsets
        cdef int32_t[2] bounds
        cdef int32_t one = 1
        cdef int64_t row = 0
        self.prepare_tokenizing(tokenizing, True, parse_special, limit, final_id)
        tokenizing.texts = &utf8
        tokenizing.n_bytes = &n_text_bytes
        tokenizing.n_texts = 1
        tokenizing.counts = &count
        tokenizing.truncated = &truncated
        vector = np.empty(n_dims, dtype=np.float32)
        cdef float[::1] view = vector
        self.enter()
        cdef const WorkerPool *pool = self.pool
        try:
            with nogil:
                self.pool.tokenize_here(tokenizing)
            if not 1 <= count <= longest:
                return None
            offsets[0] = bounds[0] = 0
            offsets[1] = count
            bounds[1] = 1
            self.prepare_embedding(job, pooling, norm, p)
            job.n_items = 1
            job.item_tokens = &count
            job.item_texts = &one
            job.ids = tokenizing.chunks[0].ids.data()
            job.offsets = offsets
            job.order = bounds
            job.bounds = bounds
            job.failures = &failure
            job.rows.out = <char *>&view[0]
            job.rows.row_of_text = &row
            job.rows.n_dims = n_dims
            self.run(NULL, &job, None, None, 1)
        finally:
            self.leave(pool)
        return vector if failure == Failure.NONE else None

    cdef int prepare_embedding(self, EmbedJob &job, str pooling, str norm, double p) except -1:
        # A model that ranks, or gives a row per token, does not pool.
        job.pooling = <Pooling><int>POOLINGS.get(pooling, kernels.POOL_NONE)
        job.norm = <Norm><int>(kernels.NORM_P if norm == "p" else NORMS[norm])
        job.p = p
        return 0


cdef dict reasons_of(const TokenizeJob &job):
    """What the tokenizer said of the texts it failed on, by their positions."""
    reasons = {}
    cdef size_t i, j
    for i in range(job.chunks.size()):
        for j in range(job.chunks[i].reasons.size()):
            reasons[job.chunks[i].reasons[j].first] = (
                job.chunks[i].reasons[j].second.decode("utf-8", "replace")
            )
    return reasons


cdef object all_ids(const TokenizeJob &job, int64_t n_ids):
    """The tokens of all texts, one after the other."""
    ids = np.empty(n_ids, dtype=np.int32)
    cdef int32_t[::1] view
    cdef int64_t total = 0
    cdef size_t i
    if n_ids > 0:
        view = ids
        for i in range(job.chunks.size()):
            memcpy(
                &view[0] + total, job.chunks[i].ids.data(),
                job.chunks[i].ids.size() * sizeof(int32_t),
            )
            total += job.chunks[i].ids.size()
    return ids


def _stop_all():
    # A thread that computes while the process tears down static objects would crash it.
    with nogil:
        worker_pools.end_calls()
    for reference in _live.valuerefs():
        workers = reference()
        if workers is not None:
            workers.stop()


atexit.register(_stop_all)
