# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3, boundscheck=False, wraparound=False
"""Nearest neighbours: tokenize, embed and score without the GIL, on every core."""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from cpython.unicode cimport PyUnicode_AsUTF8AndSize
from libc.stdint cimport int32_t, int64_t
from libc.stdlib cimport free, realloc

from embellama cimport core, kernels

cdef extern from *:
    """
    #if EMBELLAMA_API_VERSION != 2
    #error "this module was written for version 2 of embellama's Cython API"
    #endif
    """

core.check_api_version()


cdef class Texts:
    """Pointers to the UTF-8 that str objects keep, and the token ids made of it."""

    cdef tuple owners
    cdef size_t[::1] utf8
    cdef int64_t[::1] n_bytes
    cdef int64_t[::1] offsets
    cdef int32_t *ids
    cdef int64_t capacity

    def __init__(self, texts):
        cdef Py_ssize_t n_bytes = 0
        self.owners = tuple(texts)
        n_texts = len(self.owners)
        self.utf8 = np.empty(n_texts, dtype=np.uintp)
        self.n_bytes = np.empty(n_texts, dtype=np.int64)
        self.offsets = np.zeros(n_texts + 1, dtype=np.int64)
        for i, text in enumerate(self.owners):
            self.utf8[i] = <size_t>PyUnicode_AsUTF8AndSize(text, &n_bytes)
            self.n_bytes[i] = n_bytes

    def __dealloc__(self):
        free(self.ids)

    cdef int tokenize(self, core.Vocabulary vocabulary) except -1 nogil:
        cdef int64_t text = 0
        cdef int64_t used, n_ids
        while text < self.n_bytes.shape[0]:
            used = self.offsets[text]
            n_ids = core.tokenize(
                vocabulary, <const char *>self.utf8[text], self.n_bytes[text],
                self.ids + used, self.capacity - used, True, True,
            )
            if n_ids > self.capacity - used:
                self.grow(used + n_ids)
                continue
            self.offsets[text + 1] = used + n_ids
            text += 1
        return 0

    cdef int grow(self, int64_t needed) except -1 nogil:
        cdef int64_t capacity = 2 * needed
        cdef int32_t *ids = <int32_t *>realloc(self.ids, capacity * sizeof(int32_t))
        if ids == NULL:
            with gil:
                raise MemoryError()
        self.ids = ids
        self.capacity = capacity
        return 0


def embed(core.Model model not None, core.Context context not None, texts):
    """Return a unit vector per text, shape (N, D), computed by one thread."""
    cdef core.Vocabulary vocabulary = core.Vocabulary(model)
    cdef Texts tokens = Texts(texts)
    cdef int64_t n_texts = len(tokens.owners)
    vectors = np.empty((n_texts, model.n_dimensions), dtype=np.float32)
    if n_texts == 0:
        return vectors
    cdef float[:, ::1] out = vectors
    with nogil:
        tokens.tokenize(vocabulary)
        core.encode(
            context, tokens.ids, &tokens.offsets[0], n_texts,
            kernels.POOL_MEAN, kernels.NORM_L2, 0, &out[0, 0],
        )
    return vectors


def embed_on_threads(core.Model model not None, texts, int n_threads):
    """Embed on several threads, each with a Context of its own and a share of the texts."""
    texts = list(texts)
    shares = [texts[i::n_threads] for i in range(n_threads)]
    contexts = [core.Context(model) for _ in shares]
    vectors = np.empty((len(texts), model.n_dimensions), dtype=np.float32)
    with ThreadPoolExecutor(n_threads) as threads:
        parts = threads.map(embed, [model] * n_threads, contexts, shares)
        for i, part in enumerate(parts):
            vectors[i::n_threads] = part
    return vectors


def nearest(const float[:, ::1] corpus not None, const float[:, ::1] queries not None):
    """Return, for each query, the corpus row with the largest dot product, and that product."""
    if corpus.shape[0] == 0 or corpus.shape[1] != queries.shape[1]:
        raise ValueError("the corpus is empty, or its vectors have another length")
    indices = np.zeros(queries.shape[0], dtype=np.int64)
    scores = np.full(queries.shape[0], -np.inf, dtype=np.float32)
    cdef int64_t[::1] index = indices
    cdef float[::1] best = scores
    cdef int64_t query, row, i
    cdef float score
    with nogil:
        for query in range(queries.shape[0]):
            for row in range(corpus.shape[0]):
                score = 0
                for i in range(corpus.shape[1]):
                    score += queries[query, i] * corpus[row, i]
                if score > best[query]:
                    best[query] = score
                    index[query] = row
    return indices, scores


def main(core.Model model not None, corpus, queries):
    """Print the nearest text of the corpus for each query."""
    n_threads = len(os.sched_getaffinity(0))
    corpus_vectors = embed_on_threads(model, corpus, n_threads)
    query_vectors = embed(model, core.Context(model), queries)
    for query, index, score in zip(queries, *nearest(corpus_vectors, query_vectors)):
        print(f"{score:.3f}  {query}  ->  {corpus[index]}")
