# SPDX-License-Identifier: Apache-2.0
# cython: boundscheck=False, wraparound=False
"""What a worker thread runs: a chunk of texts to tokenize, a micro-batch to compute. No Python."""

from libc.stdlib cimport malloc, realloc
from libc.string cimport memcpy, strdup

from embellama.job_queue cimport first_to_set, is_set


cdef enum:
    LEAST_ROOM = 256


cdef void run_tokenize(
    void *owner, int32_t worker, cpp_bool alone, const Claim *claims, int32_t n_claims
) noexcept nogil:
    cdef TokenizeRequest *request = <TokenizeRequest *>claims[0].job.request
    cdef int32_t first = claims[0].item * CHUNK_TEXTS
    tokenize_chunk(request, claims[0].item, (<Pool *>owner).queue.abort_flag(worker))
    claims[0].job.texts_done.fetch_add(min(CHUNK_TEXTS, request.n_texts - first))


cdef void tokenize_chunk(
    TokenizeRequest *request, int32_t chunk, const int32_t *abort_flag
) noexcept nogil:
    cdef int32_t first = chunk * CHUNK_TEXTS
    cdef int32_t last = min(first + CHUNK_TEXTS, request.n_texts)
    cdef int32_t text, n_ids
    cdef int64_t used = 0
    cdef int64_t capacity = 0
    cdef int32_t *ids = NULL
    cdef int32_t *larger
    cdef char[core.MESSAGE_SIZE] message
    cdef int status
    for text in range(first, last):
        capacity += max(request.n_bytes[text], <int64_t>0) + 16
    ids = <int32_t *>malloc(capacity * sizeof(int32_t))
    text = first
    while text < last:
        if abort_flag != NULL and is_set(abort_flag[0]):
            break
        if ids == NULL or request.n_bytes[text] < 0:
            request.counts[text] = core.NO_MEMORY if ids == NULL else core.INVALID
            text += 1
            continue
        n_ids = 0
        message[0] = 0
        status = core.tokenize_utf8(
            request.vocabulary, request.texts[text], request.n_bytes[text], ids + used,
            <int32_t>min(capacity - used, <int64_t>2147483647), request.add_special,
            request.parse_special, request.recurses, &n_ids, message,
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
            if request.reasons != NULL and message[0] != 0:
                request.reasons[text] = strdup(message)
        else:
            request.counts[text] = keep_tokens(request, text, ids + used, n_ids)
            used += request.counts[text]
        text += 1
    request.chunks[chunk] = ids
    request.chunk_sizes[chunk] = used


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
    if status != core.OK and state == &pool.alone:
        # The system refuses that many threads, or the memory for them: one thread does it too.
        pool.alone.n_threads = 1
        state = &pool.states[worker]
        state.abort_flag = pool.queue.abort_flag(worker)
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
        if status != core.OK and first_to_set(request.failed):
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
    if n_texts == 1 or status != core.OK:
        return
    for claim in range(n_claims):
        request = <EmbedRequest *>claims[claim].job.request
        for i in range(
            request.bounds[claims[claim].item], request.bounds[claims[claim].item + 1]
        ):
            if request.failures[request.order[i]] == NOT_FINITE:
                embed_alone(pool, state, request, request.order[i], vector)


cdef void embed_alone(
    Pool *pool, core.State *state, EmbedRequest *request, int32_t text, float *vector
) noexcept nogil:
    # Where attention is a product and a softmax (T5), one text's NaN is in its neighbours' sums.
    cdef const int32_t *ids = request.ids + request.offsets[text]
    cdef int32_t length = <int32_t>(request.offsets[text + 1] - request.offsets[text])
    cdef const float *rows
    # A computation that failed has released the context.
    if core.reserve(state, room_for(pool, length), pool.n_sequences) != core.OK:
        return
    if core.compute(state, &ids, &length, 1) != core.OK:
        return
    if request.ranks:
        request.failures[text] = write_scores(request, text, core.scores(state, 0))
        return
    rows = core.token_vectors(state)
    if rows != NULL:
        request.failures[text] = write_vectors(pool, request, text, rows, length, vector)


cdef int32_t room_for(Pool *pool, int64_t n_tokens) noexcept nogil:
    # For what has come, not for what the budget allows: that may be any number. Doubling, so that
    # a run of ever longer texts does not open a context for each.
    cdef int64_t room = min(pool.queue.max_tokens(), <int64_t>LEAST_ROOM)
    while room < n_tokens:
        room *= 2
    return <int32_t>min(room, <int64_t>2147483647)


cdef Failure write_scores(
    EmbedRequest *request, int32_t text, const float *scores
) noexcept nogil:
    cdef Rows *rows = &request.rows
    cdef float *out = <float *>(rows.out + text * rows.stride)
    if scores == NULL:
        return NOT_COMPUTED
    memcpy(out, scores, rows.n_dims * sizeof(float))
    return DONE if kernels.normalize(kernels.NORM_NONE, 0, out, rows.n_dims) else NOT_FINITE


cdef Failure write_vectors(
    Pool *pool, EmbedRequest *request, int32_t text, const float *vectors, int32_t n_vectors,
    float *vector,
) noexcept nogil:
    cdef Rows *rows = &request.rows
    cdef char *out
    cdef int32_t token
    cdef bint finite = True
    if rows.per_token:
        out = rows.out + request.offsets[text] * rows.stride
        for token in range(n_vectors):
            memcpy(out, vectors + token * pool.n_dims, rows.n_dims * sizeof(float))
            finite &= kernels.normalize(request.norm, request.p, <float *>out, rows.n_dims)
            out += rows.stride
        return DONE if finite else NOT_FINITE
    out = rows.out + (text if rows.places == NULL else rows.places[text]) * rows.stride
    if rows.row_type == kernels.ROW_FLOAT32 and rows.n_dims == pool.n_dims:
        vector = <float *>out
    kernels.pool(request.pooling, vectors, n_vectors, pool.n_dims, vector)
    if not kernels.normalize(request.norm, request.p, vector, rows.n_dims):
        return NOT_FINITE
    kernels.write_row(rows.row_type, vector, rows.n_dims, rows.starts, rows.steps, out)
    return DONE
