// SPDX-License-Identifier: Apache-2.0
#include "worker_pool.hpp"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <deque>
#include <exception>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "../runtime/exceptions.hpp"
#include "../runtime/job_queue.hpp"
#include "../runtime/process_end.hpp"
#include "dense_head.hpp"

namespace embellama {

namespace {

// A context has room for at least so many tokens, so that it is not opened anew for each longer text.
constexpr int64_t LEAST_ROOM = 256;

// Longer texts take some milliseconds to tokenize.
constexpr int64_t LONG_BYTES = 16384;

// Ids that a text may have beyond one for each byte: the special tokens around it.
constexpr int64_t SPECIAL_IDS = 16;

// Ids that a text of so many bytes may have; a text without UTF-8 form has -1.
int64_t room_of(int64_t n_bytes) { return std::max<int64_t>(n_bytes, 0) + SPECIAL_IDS; }

// Appends final_id where it is missing, and cuts to the limit. `ids` has room for one more.
int32_t keep_tokens(const TokenizeJob & job, int32_t text, int32_t * ids, int32_t n_ids) {
    int32_t n_suffix = job.n_suffix;
    if (job.final_id >= 0) {
        if (n_ids == 0 || ids[n_ids - 1] != job.final_id) {
            ids[n_ids++] = job.final_id;
            ++n_suffix;
        }
        n_suffix = std::max(n_suffix, 1);
    }
    if (job.limit == 0 || n_ids <= job.limit) {
        return n_ids;
    }
    job.truncated[text] = 1;
    n_suffix = std::min(n_suffix, job.limit);
    std::copy_n(ids + n_ids - n_suffix, n_suffix, ids + job.limit - n_suffix);
    return job.limit;
}

// Writes the ids of a text behind those in `ids`, and leaves room for one more.
Status tokenize_text(const Tokenizer & tokenizer, const char * text, int64_t n_bytes, const AbortFlag * abort,
                     TokenBuffer & ids, int32_t & n_ids, Message & message) {
    while (true) {
        const auto capacity = static_cast<int32_t>(std::min<int64_t>(ids.room(), INT32_MAX));
        n_ids = 0;
        const Status status = tokenizer.tokenize(text, n_bytes, ids.end(), capacity, abort, n_ids, message);
        if (status != OK || (n_ids >= 0 && n_ids < ids.room())) {
            return status;
        }
        ids.make_room(std::abs(static_cast<int64_t>(n_ids)) + SPECIAL_IDS);
    }
}

char * row_of(const Rows & rows, int32_t text) { return rows.out + rows.row_of_text[text] * rows.stride; }

// What one worker has for itself.
struct Worker {
    Worker(const WorkerPool::Parameters & parameters)
        : state(parameters.context),
          ids(parameters.max_texts),
          lengths(parameters.max_texts),
          scratch(parameters.context.head->scratch_size()),
          vector(parameters.context.head->n_out()) {}

    ContextState state;
    std::vector<int32_t> tokens;  // of the micro-batch at hand
    std::vector<const int32_t *> ids;
    std::vector<int32_t> lengths;
    std::vector<float> scratch;
    std::vector<float> vector;
};

ContextState::Parameters with_threads(ContextState::Parameters parameters, int32_t n_threads) {
    parameters.n_threads = n_threads;
    return parameters;
}

class Pool final : public WorkerPool {
public:
    explicit Pool(const Parameters & parameters)
        : parameters_(parameters),
          loops_(loops_for(parameters.instruction_set)),
          all_threads_(with_threads(parameters.context, parameters.n_workers)),
          queue_(parameters.n_workers, parameters.max_tokens, parameters.max_texts) {
        for (int32_t i = 0; i < parameters.n_workers; i++) {
            workers_.emplace_back(parameters);
        }
    }
    // The threads use the rest until they end.
    ~Pool() override { queue_.stop(); }

    void set_max_tokens(int64_t max_tokens) noexcept override { queue_.set_max_tokens(max_tokens); }

    Status submit(TokenizeJob & job, Message & message) noexcept override {
        job.run = [](void * pool, int32_t worker, bool, const std::vector<Claim> & claims) {
            static_cast<Pool *>(pool)->tokenize(worker, claims.front());
        };
        job.n_items = (job.n_texts + CHUNK_TEXTS - 1) / CHUNK_TEXTS;
        if (!make_chunks(job)) {
            return NO_MEMORY;
        }
        return submit_any(job, message);
    }

    Status submit(EmbedJob & job, Message & message) noexcept override {
        job.run = [](void * pool, int32_t worker, bool alone, const std::vector<Claim> & claims) {
            static_cast<Pool *>(pool)->embed(worker, alone, claims);
        };
        // Any two micro-batches of one pool may be computed together.
        job.merge_key = this;
        return submit_any(job, message);
    }

    bool wait(Job & job, double seconds) noexcept override { return queue_.wait(job, seconds); }
    void cancel(Job & job) noexcept override { queue_.cancel(job); }
    void stop() noexcept override { queue_.stop(); }

    void tokenize_here(TokenizeJob & job) noexcept override {
        const InsideLlama inside;
        if (inside.entered && make_chunks(job)) {
            tokenize_chunk(job, 0, NO_WORKER, nullptr);
        }
    }

private:
    static constexpr int32_t NO_WORKER = -1;

    static bool make_chunks(TokenizeJob & job) noexcept {
        try {
            job.chunks.resize((job.n_texts + CHUNK_TEXTS - 1) / CHUNK_TEXTS);
            return true;
        } catch (const std::bad_alloc &) {
            return false;
        }
    }

    Status submit_any(Job & job, Message & message) noexcept {
        job.owner = this;
        try {
            queue_.submit(job);
            return OK;
        } catch (const std::exception &) {
            describe_exception(message.text, Message::SIZE);
            return NO_MEMORY;
        }
    }

    void tokenize(int32_t worker, const Claim & claim) noexcept {
        auto & job = static_cast<TokenizeJob &>(*claim.job);
        const int32_t n_texts = std::min(CHUNK_TEXTS, job.n_texts - claim.item * CHUNK_TEXTS);
        if (tokenize_chunk(job, claim.item, worker, &claim)) {
            job.texts_done += n_texts;
        }
    }

    bool tokenize_chunk(TokenizeJob & job, int32_t item, int32_t worker, const Claim * claim) noexcept;
    Status tokenize_detached(const TokenizeJob & job, int32_t text, int32_t worker, TokenBuffer & ids, int32_t & n_ids,
                             Message & message);

    void embed(int32_t worker, bool alone, const std::vector<Claim> & claims) noexcept;
    Status gather(Worker & worker, const std::vector<Claim> & claims) noexcept;
    Status compute(int32_t index, ContextState *& state, int32_t first, int32_t n_texts) noexcept;
    int32_t room_for(int64_t n_tokens) const;
    void deliver(Worker & worker, const ContextState & state, Status status,
                 const std::vector<Claim> & claims) noexcept;
    void compute_again_alone(int32_t index, ContextState * state, const std::vector<Claim> & claims) noexcept;
    Failure write_text(Worker & worker, const ContextState & state, const EmbedJob & job, int32_t text,
                       const float * computed, int32_t n_tokens) const;
    Failure write_scores(const EmbedJob & job, int32_t text, const float * scores) const;
    Failure write_vectors(Worker & worker, const DenseHead & head, const EmbedJob & job, int32_t text,
                          const float * vectors, int32_t n_vectors) const;

    const Parameters parameters_;
    const VectorLoops & loops_;
    std::deque<Worker> workers_;
    // For a micro-batch that has the machine to itself.
    ContextState all_threads_;
    // Set where the system refuses all_threads_ its threads, or the memory for them.
    std::atomic<bool> one_thread_only_{false};
    JobQueue queue_;
};

// Tokenizes the texts of a chunk, on a worker or, with NO_WORKER, on any thread. False if the claim's job
// was cancelled meanwhile: the job may not exist any more.
bool Pool::tokenize_chunk(TokenizeJob & job, int32_t item, int32_t worker, const Claim * claim) noexcept {
    const int32_t first = item * CHUNK_TEXTS;
    const int32_t last = std::min(first + CHUNK_TEXTS, job.n_texts);
    const AbortFlag * abort = worker == NO_WORKER ? nullptr : &queue_.abort_flag(worker);
    // Not the job's own, which a worker that is detached from the job must not touch.
    TokenizeJob::Chunk chunk;
    int64_t room = 0;  // for all texts that are left
    for (int32_t text = first; text < last; text++) {
        room += room_of(job.n_bytes[text]);
    }
    for (int32_t text = first; text < last; text++) {
        if (abort && abort->is_set()) {
            break;
        }
        int32_t n_ids = 0;
        Status status;
        try {
            chunk.ids.make_room(room);
            Message message;
            if (job.n_bytes[text] < 0) {
                status = INVALID;
            } else if (worker == NO_WORKER || job.n_bytes[text] <= LONG_BYTES) {
                status =
                    tokenize_text(job.tokenizer, job.texts[text], job.n_bytes[text], abort, chunk.ids, n_ids, message);
            } else {
                status = tokenize_detached(job, text, worker, chunk.ids, n_ids, message);
                if (!claim->job) {
                    return false;
                }
            }
            if (status != OK && status != ABORTED && message.text[0]) {
                chunk.reasons.emplace_back(text, message.text);
            }
        } catch (const std::bad_alloc &) {
            status = NO_MEMORY;
        }
        room -= room_of(job.n_bytes[text]);
        if (status == OK) {
            job.counts[text] = keep_tokens(job, text, chunk.ids.end(), n_ids);
            chunk.ids.set_size(chunk.ids.size() + job.counts[text]);
        } else if (status != ABORTED) {
            job.counts[text] = status;
        }
    }
    job.chunks[item] = std::move(chunk);
    return true;
}

// Tokenizes a copy of the text, so that a caller that gives up does not wait for it.
Status Pool::tokenize_detached(const TokenizeJob & job, int32_t text, int32_t worker, TokenBuffer & ids,
                               int32_t & n_ids, Message & message) {
    const std::string copy(job.texts[text], job.n_bytes[text]);
    const Tokenizer tokenizer = job.tokenizer;
    const AbortFlag & abort = queue_.abort_flag(worker);
    queue_.detach(worker);
    Status status;
    try {
        status = tokenize_text(tokenizer, copy.data(), static_cast<int64_t>(copy.size()), &abort, ids, n_ids, message);
    } catch (const std::bad_alloc &) {
        status = NO_MEMORY;
    }
    queue_.attach(worker);
    return status;
}

// Computes the texts of all claims together.
void Pool::embed(int32_t index, bool alone, const std::vector<Claim> & claims) noexcept {
    Worker & worker = workers_[index];
    ContextState * state = alone && all_threads_.n_threads() > 1 && !one_thread_only_ ? &all_threads_ : &worker.state;
    int32_t n_texts = 0;
    for (const Claim & claim : claims) {
        n_texts += claim.n_texts;
    }
    Status status = gather(worker, claims);
    // A caller that gives up does not wait for what takes long.
    queue_.detach(index);
    if (status == OK) {
        status = compute(index, state, 0, n_texts);
    }
    queue_.attach(index);
    deliver(worker, *state, status, claims);
    if (status == OK && n_texts > 1) {
        compute_again_alone(index, state, claims);
    }
}

// Points worker.ids to copies of the claims' tokens that are the worker's own.
Status Pool::gather(Worker & worker, const std::vector<Claim> & claims) noexcept {
    int32_t n_texts = 0;
    size_t n_tokens = 0;
    for (const Claim & claim : claims) {
        const auto & job = static_cast<const EmbedJob &>(*claim.job);
        for (int32_t i = job.bounds[claim.item]; i < job.bounds[claim.item + 1]; i++) {
            const int32_t text = job.order[i];
            worker.ids[n_texts] = job.ids + job.offsets[text];
            worker.lengths[n_texts] = static_cast<int32_t>(job.offsets[text + 1] - job.offsets[text]);
            n_tokens += worker.lengths[n_texts];
            n_texts++;
        }
    }
    try {
        worker.tokens.resize(n_tokens);
    } catch (const std::bad_alloc &) {
        return NO_MEMORY;
    }
    int32_t * copy = worker.tokens.data();
    for (int32_t text = 0; text < n_texts; text++) {
        const int32_t * const original = worker.ids[text];
        worker.ids[text] = copy;
        copy = std::copy_n(original, worker.lengths[text], copy);
    }
    return OK;
}

// Computes n_texts of the gathered texts with `state`, or with the worker's own where the system refuses
// that.
Status Pool::compute(int32_t index, ContextState *& state, int32_t first, int32_t n_texts) noexcept {
    Worker & worker = workers_[index];
    const AbortFlag & abort = queue_.abort_flag(index);
    int64_t n_tokens = 0;
    for (int32_t text = first; text < first + n_texts; text++) {
        n_tokens += worker.lengths[text];
    }
    Status status = state->reserve(room_for(n_tokens), parameters_.max_texts);
    if (status != OK && state == &all_threads_) {
        // The system refuses that many threads, or the memory for them: one thread does it too.
        one_thread_only_ = true;
        state = &worker.state;
        status = state->reserve(room_for(n_tokens), parameters_.max_texts);
    }
    if (status != OK) {
        return status;
    }
    // Opening a context takes a while, and so do the inputs of a long text.
    return abort.is_set() ? ABORTED : state->compute(&worker.ids[first], &worker.lengths[first], n_texts, abort);
}

// Room for what has come, not for what the budget allows: that may be any number. Doubling, so that a run
// of ever longer texts does not open a context for each.
int32_t Pool::room_for(int64_t n_tokens) const {
    int64_t room = std::min(queue_.max_tokens(), LEAST_ROOM);
    while (room < n_tokens) {
        room *= 2;
    }
    return static_cast<int32_t>(std::min<int64_t>(room, INT32_MAX));
}

// Writes what was computed to the jobs that are still there.
void Pool::deliver(Worker & worker, const ContextState & state, Status status,
                   const std::vector<Claim> & claims) noexcept {
    const float * vectors = status == OK && !state.ranks() ? state.token_vectors() : nullptr;
    if (status == OK && !state.ranks() && !vectors) {
        status = COMPUTE_FAILED;
    }
    int32_t place = 0;
    for (const Claim & claim : claims) {
        auto * job = static_cast<EmbedJob *>(claim.job);
        if (job && status != OK && !job->failed.exchange(true)) {
            job->status = status;
            job->message = state.message();
        }
        for (int32_t i = 0; i < claim.n_texts; i++, place++) {
            const int32_t n_tokens = worker.lengths[place];
            if (job) {
                const int32_t text = job->order[job->bounds[claim.item] + i];
                Failure failure = Failure::NOT_COMPUTED;
                if (status == OK) {
                    const float * computed = state.ranks() ? state.scores(place) : vectors;
                    failure = write_text(worker, state, *job, text, computed, n_tokens);
                }
                job->failures[text] = static_cast<int8_t>(failure);
            }
            if (vectors) {
                vectors += n_tokens * state.head().n_in();
            }
        }
        if (job) {
            job->texts_done += claim.n_texts;
        }
    }
}

// Where attention is a product and a softmax (T5), one text's NaN is in the sums of its neighbours: each
// text without a finite vector is computed a second time, alone.
void Pool::compute_again_alone(int32_t index, ContextState * state, const std::vector<Claim> & claims) noexcept {
    Worker & worker = workers_[index];
    int32_t place = 0;
    for (const Claim & claim : claims) {
        for (int32_t i = 0; i < claim.n_texts; i++, place++) {
            if (!claim.job) {
                continue;
            }
            auto & job = static_cast<EmbedJob &>(*claim.job);
            const int32_t text = job.order[job.bounds[claim.item] + i];
            if (job.failures[text] != static_cast<int8_t>(Failure::NOT_FINITE)) {
                continue;
            }
            queue_.detach(index);
            const Status status = compute(index, state, place, 1);
            queue_.attach(index);
            if (status == OK && claim.job) {
                const float * computed = state->ranks() ? state->scores(0) : state->token_vectors();
                const Failure failure = write_text(worker, *state, job, text, computed, worker.lengths[place]);
                job.failures[text] = static_cast<int8_t>(failure);
            }
        }
    }
}

// Writes a text's scores, or the vectors of its tokens.
Failure Pool::write_text(Worker & worker, const ContextState & state, const EmbedJob & job, int32_t text,
                         const float * computed, int32_t n_tokens) const {
    if (!computed) {
        return Failure::NOT_COMPUTED;
    }
    return state.ranks() ? write_scores(job, text, computed)
                         : write_vectors(worker, state.head(), job, text, computed, n_tokens);
}

Failure Pool::write_scores(const EmbedJob & job, int32_t text, const float * scores) const {
    auto * out = reinterpret_cast<float *>(row_of(job.rows, text));
    std::copy_n(scores, job.rows.n_dims, out);
    return normalize(loops_, Norm::NONE, 0, out, job.rows.n_dims) ? Failure::NONE : Failure::NOT_FINITE;
}

Failure Pool::write_vectors(Worker & worker, const DenseHead & head, const EmbedJob & job, int32_t text,
                            const float * vectors, int32_t n_vectors) const {
    const Rows & rows = job.rows;
    if (rows.per_token) {
        char * out = row_of(rows, text);
        bool finite = true;
        for (int32_t token = 0; token < n_vectors; token++, out += rows.stride) {
            auto * row = reinterpret_cast<float *>(out);
            std::copy_n(vectors + token * head.n_in(), rows.n_dims, row);
            finite &= normalize(loops_, job.norm, job.p, row, rows.n_dims);
        }
        return finite ? Failure::NONE : Failure::NOT_FINITE;
    }
    char * const out = row_of(rows, text);
    const bool in_place = rows.type == RowType::FLOAT32 && rows.n_dims == head.n_out();
    float * const vector = in_place ? reinterpret_cast<float *>(out) : worker.vector.data();
    head.pool_text(loops_, job.pooling, vectors, n_vectors, worker.scratch.data(), vector);
    if (parameters_.layer_norm_before_cut && rows.n_dims < head.n_out()) {
        layer_norm(vector, head.n_out());
    }
    if (!normalize(loops_, job.norm, job.p, vector, rows.n_dims)) {
        return Failure::NOT_FINITE;
    }
    write_row(loops_, rows.type, vector, rows.n_dims, rows.starts, rows.steps, out);
    return Failure::NONE;
}

WorkerPool * open_pool(const WorkerPool::Parameters & parameters, Message & message) noexcept {
    try {
        return new Pool(parameters);
    } catch (const std::exception &) {
        describe_exception(message.text, Message::SIZE);
        return nullptr;
    }
}

}  // namespace

const WorkerPools worker_pools = {
    open_pool,
    []() noexcept { return process_ends.is_set(); },
    []() noexcept { end_calls(); },
};

}  // namespace embellama
