# SPDX-License-Identifier: Apache-2.0
# cython: boundscheck=False, wraparound=False
"""What a worker thread runs: a chunk of texts to tokenize, a micro-batch to compute. No Python."""

from libc.stdlib cimport abs, free, malloc, realloc
from libc.string cimport memcpy, strdup

from embellama.runtime.job_queue cimport first_to_set, is_set


cdef enum:
    LEAST_ROOM = 256
    # Texts above take some milliseconds to tokenize.
    LONG_BYTES = 16384


# One text of a chunk, and the tokens of those before it: all the worker's own but for the text.
cdef struct Tokenizing:
    const llama_vocab *vocabulary
    bint add_special
    bint parse_special
    bint recurses
    const int32_t *abort_flag
    const char *text
    int64_t n_bytes
    int32_t *ids
    int64_t used
    int64_t capacity
    int32_t n_ids
    int status
    char[core.MESSAGE_SIZE] message


cdef void run_tokenize(
    void *owner, int32_t worker, cpp_bool alone, const Claim *claims, int32_t n_claims
) noexcept nogil:
    cdef TokenizeRequest *request = <TokenizeRequest *>claims[0].job.request
    cdef int32_t n_texts = min(
        CHUNK_TEXTS, request.n_texts - claims[0].item * CHUNK_TEXTS
    )
    if tokenize_chunk(request, claims[0].item, (<Pool *>owner).queue, worker, claims):
        claims[0].job.texts_done.fetch_add(n_texts)


cdef bint tokenize_chunk(
    TokenizeRequest *request, int32_t chunk, JobQueue *queue, int32_t worker, const Claim *claim
) noexcept nogil:
    cdef int32_t first = chunk * CHUNK_TEXTS
    cdef int32_t last = min(first + CHUNK_TEXTS, request.n_texts)
    cdef int32_t text
    cdef Tokenizing now
    now.vocabulary = request.vocabulary
    now.add_special = request.add_special
    now.parse_special = request.parse_special
    now.recurses = request.recurses
    now.abort_flag = NULL
    if queue != NULL:
        now.abort_flag = queue.abort_flag(worker)
    now.used = 0
    now.capacity = 0
    for text in range(first, last):
        now.capacity += max(request.n_bytes[text], <int64_t>0) + 16
    now.ids = <int32_t *>malloc(now.capacity * sizeof(int32_t))
    for text in range(first, last):
        if now.abort_flag != NULL and is_set(now.abort_flag[0]):
            break
        now.text = request.texts[text]
        now.n_bytes = request.n_bytes[text]
        now.message[0] = 0
        if now.ids == NULL:
            now.status = core.NO_MEMORY
        elif now.n_bytes < 0:
            now.status = core.INVALID
        elif queue == NULL or now.n_bytes <= LONG_BYTES:
            tokenize_text(&now)
        else:
            tokenize_detached(&now, queue, worker)
            if claim.job == NULL:
                free(now.ids)
                return False
        if now.status == core.OK:
            request.counts[text] = keep_tokens(request, text, now.ids + now.used, now.n_ids)
            now.used += request.counts[text]
        elif now.status != core.ABORTED:
            request.counts[text] = now.status
            if request.reasons != NULL and now.message[0] != 0:
                request.reasons[text] = strdup(now.message)
    request.chunks[chunk] = now.ids
    request.chunk_sizes[chunk] = now.used
    return True


cdef void tokenize_detached(Tokenizing *now, JobQueue *queue, int32_t worker) noexcept nogil:
    """Tokenize a copy, so that a caller that gives up does not wait for it."""
    cdef char *copy = <char *>malloc(now.n_bytes)
    if copy == NULL:
        now.status = core.NO_MEMORY
        return
    memcpy(copy, now.text, now.n_bytes)
    now.text = copy
    queue.detach(worker)
    tokenize_text(now)
    free(copy)
    queue.attach(worker)


cdef void tokenize_text(Tokenizing *now) noexcept nogil:
    """Append the tokens of a text to `now.ids`, which has room for one more behind them."""
    cdef int32_t *larger
    while True:
        now.n_ids = 0
        now.status = core.tokenize_utf8(
            now.vocabulary, now.text, now.n_bytes, now.ids + now.used,
            <int32_t>min(now.capacity - now.used, <int64_t>2147483647), now.add_special,
            now.parse_special, now.recurses, now.abort_flag, &now.n_ids, now.message,
        )
        if now.status != core.OK or (now.n_ids >= 0 and now.used + now.n_ids < now.capacity):
            return
        now.capacity += abs(now.n_ids) + 16
        larger = <int32_t *>realloc(now.ids, now.capacity * sizeof(int32_t))
        if larger == NULL:
            now.status = core.NO_MEMORY
            return
        now.ids = larger


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
    cdef int32_t claim, i, first, text
    cdef int32_t n_texts = 0
    cdef int64_t n_tokens = 0
    cdef int status
    if alone and pool.alone.n_threads > 1:
        state = &pool.alone
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
    state.message[0] = 0
    status = copy_tokens(pool, worker, ids, lengths, n_texts, n_tokens)
    # A caller that gives up does not wait for what takes long.
    pool.queue.detach(worker)
    if status == core.OK:
        status = compute(pool, worker, &state, ids, lengths, n_texts, n_tokens)
    pool.queue.attach(worker)
    rows = NULL
    if status == core.OK and state.pooling == core.TOKENS:
        rows = core.token_vectors(state)
        if rows == NULL:
            status = core.COMPUTE_FAILED
    first = 0
    for claim in range(n_claims):
        request = NULL
        if claims[claim].job != NULL:
            request = <EmbedRequest *>claims[claim].job.request
            if status != core.OK and first_to_set(request.failed):
                request.status = status
                memcpy(request.message, state.message, core.MESSAGE_SIZE)
            claims[claim].job.texts_done.fetch_add(claims[claim].n_texts)
        for i in range(first, first + claims[claim].n_texts):
            if request != NULL:
                text = request.order[request.bounds[claims[claim].item] + i - first]
                request.failures[text] = NOT_COMPUTED
                if status == core.OK:
                    request.failures[text] = write_text(
                        pool, request, text, core.scores(state, i) if request.ranks else rows,
                        lengths[i], vector,
                    )
            if rows != NULL:
                rows += lengths[i] * pool.n_dims
        first += claims[claim].n_texts
    if n_texts == 1 or status != core.OK:
        return
    # Where attention is a product and a softmax (T5), one text's NaN is in its neighbours' sums.
    first = 0
    for claim in range(n_claims):
        for i in range(first, first + claims[claim].n_texts):
            if claims[claim].job == NULL:
                break
            request = <EmbedRequest *>claims[claim].job.request
            text = request.order[request.bounds[claims[claim].item] + i - first]
            if request.failures[text] != NOT_FINITE:
                continue
            pool.queue.detach(worker)
            status = compute(pool, worker, &state, &ids[i], &lengths[i], 1, lengths[i])
            pool.queue.attach(worker)
            if status == core.OK and claims[claim].job != NULL:
                request.failures[text] = write_text(
                    pool, request, text,
                    core.scores(state, 0) if request.ranks else core.token_vectors(state),
                    lengths[i], vector,
                )
        first += claims[claim].n_texts


cdef Failure write_text(
    Pool *pool, EmbedRequest *request, int32_t text, const float *computed, int32_t length,
    float *vector,
) noexcept nogil:
    """Write what was computed of a text: its scores, or the vectors of its tokens."""
    if computed == NULL:
        return NOT_COMPUTED
    if request.ranks:
        return write_scores(request, text, computed)
    return write_vectors(pool, request, text, computed, length, vector)


cdef int copy_tokens(
    Pool *pool, int32_t worker, const int32_t **ids, const int32_t *lengths, int32_t n_texts,
    int64_t n_tokens,
) noexcept nogil:
    """Point `ids` to copies that are the worker's own."""
    cdef int32_t *tokens = pool.tokens[worker]
    cdef int32_t text
    if n_tokens > pool.token_capacities[worker]:
        tokens = <int32_t *>realloc(tokens, n_tokens * sizeof(int32_t))
        if tokens == NULL:
            return core.NO_MEMORY
        pool.tokens[worker] = tokens
        pool.token_capacities[worker] = n_tokens
    for text in range(n_texts):
        memcpy(tokens, ids[text], lengths[text] * sizeof(int32_t))
        ids[text] = tokens
        tokens += lengths[text]
    return core.OK


cdef int compute(
    Pool *pool, int32_t worker, core.State **state, const int32_t **ids, const int32_t *lengths,
    int32_t n_texts, int64_t n_tokens,
) noexcept nogil:
    """Compute with *state, or with the worker's own where the system refuses that."""
    cdef int status
    state[0].abort_flag = pool.queue.abort_flag(worker)
    status = core.reserve(state[0], room_for(pool, n_tokens), pool.n_sequences)
    if status != core.OK and state[0] == &pool.alone:
        # The system refuses that many threads, or the memory for them: one thread does it too.
        pool.alone.n_threads = 1
        state[0] = &pool.states[worker]
        state[0].abort_flag = pool.queue.abort_flag(worker)
        status = core.reserve(state[0], room_for(pool, n_tokens), pool.n_sequences)
    # Opening a context takes a while, and so do the inputs of a long text.
    if status == core.OK and is_set(state[0].abort_flag[0]):
        status = core.ABORTED
    return core.compute(state[0], ids, lengths, n_texts) if status == core.OK else status


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
