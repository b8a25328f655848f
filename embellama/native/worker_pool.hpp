// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "../runtime/cpu_features.hpp"
#include "context_state.hpp"
#include "jobs.hpp"

namespace embellama {

// Threads that share one model, each with a context of its own, and the queue they serve.
//
// llama.cpp, with what it and our code keep for the process, is linked into the extension `core` alone.
// The extension `workers` is linked with none of it: it reaches a pool through these virtual functions,
// and gets one from the PyCapsule core.WORKER_POOLS. None of them throws.
class WorkerPool {
public:
    struct Parameters {
        ContextState::Parameters context;  // for a worker
        int32_t n_workers = 1;
        int64_t max_tokens = 0;                                    // of a micro-batch made of several jobs' items
        int32_t max_texts = 1;                                     // of any micro-batch
        InstructionSet instruction_set = InstructionSet::GENERIC;  // what rows are pooled with
        bool layer_norm_before_cut = false;                        // of vectors of which not all dimensions are kept
    };

    virtual ~WorkerPool() = default;

    virtual void set_max_tokens(int64_t max_tokens) noexcept = 0;

    // The workers take the job's items. Fails where not a single thread can be started.
    virtual Status submit(TokenizeJob & job, Message & message) noexcept = 0;
    virtual Status submit(EmbedJob & job, Message & message) noexcept = 0;

    // As JobQueue says.
    virtual bool wait(Job & job, double seconds) noexcept = 0;
    virtual void cancel(Job & job) noexcept = 0;
    virtual void stop() noexcept = 0;

    // Tokenizes the job's one text, which is short, on the calling thread. Without a result once the
    // process ends.
    virtual void tokenize_here(TokenizeJob & job) noexcept = 0;
};

// How `core` hands out pools; a PyCapsule of this name holds one.
struct WorkerPools {
    static constexpr const char * CAPSULE = "embellama.core.WORKER_POOLS";

    // Null, with a message, where memory is lacking.
    WorkerPool * (*open)(const WorkerPool::Parameters & parameters, Message & message) noexcept;
    // process_end.hpp
    bool (*process_is_ending)() noexcept;
    void (*end_calls)() noexcept;
};

extern const WorkerPools worker_pools;

}  // namespace embellama
