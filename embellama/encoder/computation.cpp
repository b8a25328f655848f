// SPDX-License-Identifier: Apache-2.0
#include "computation.hpp"

#include <algorithm>
#include <new>

#include "ggml-cpu.h"
#include "ggml-impl.h"

namespace embellama::encoder {

namespace {

// Multiplications between two looks at the abort callback: some 10 to 100 milliseconds.
constexpr int64_t WORK_BETWEEN_LOOKS = int64_t(1) << 30;

// From this many tokens on, each head of a text is preceded by a look.
constexpr int LONG_TEXT = 512;

}  // namespace

Computation::Computation() : cpu(ggml_backend_cpu_init()) {
    if (!cpu) {
        throw std::bad_alloc();
    }
    ggml_backend_cpu_set_n_threads(cpu, 1);
}

Computation::~Computation() { ggml_backend_free(cpu); }

void Computation::set_abort_callback(ggml_abort_callback callback, void * data) {
    abort_callback = callback;
    abort_data = data;
    ggml_backend_cpu_set_abort_callback(cpu, callback, data);
}

ggml_status Computation::compute(ggml_cgraph * new_graph) {
    try {
        graph = new_graph;
        status = GGML_STATUS_SUCCESS;
        make_plan(graph, plan);
        if (!team || team->n_asked != n_threads) {
            team.reset();
            team = std::make_unique<ThreadTeam>(n_threads);
        }
        reserve_scratch();
    } catch (const std::bad_alloc &) {
        return GGML_STATUS_ALLOC_FAILED;
    }
    team->run([](void * self, int thread) { static_cast<Computation *>(self)->work(thread); }, this);
    return status;
}

void Computation::reserve_scratch() {
    while (static_cast<int>(scratch.size()) < team->size()) {
        scratch.push_back(std::make_unique<Scratch>());
    }
    size_t n_bytes = 0;
    int longest = 0;
    for (const Text & text : plan.texts) {
        longest = std::max(longest, text.n_rows);
    }
    for (const Step & step : plan.steps) {
        if (const Product * product = std::get_if<Product>(&step.work)) {
            n_bytes = std::max(n_bytes, plan.kernels->multiply_scratch(product->weights.depth));
        } else if (const Attention * attention = std::get_if<Attention>(&step.work)) {
            n_bytes = std::max(n_bytes, plan.kernels->attend_scratch(longest, attention->head_size));
        }
    }
    for (const auto & memory : scratch) {
        memory->recycle();
        memory->reserve(n_bytes);
    }
}

void Computation::work(int thread) {
    if (plan.kernels) {
        plan.kernels->begin();
    }
    for (const Step & step : plan.steps) {
        // Every thread comes to every meeting, also when there is nothing left to do.
        if (!ending()) {
            std::visit([&](const auto & work) { perform(work, thread); }, step.work);
        }
        if (step.meet) {
            team->meet();
        }
    }
    if (plan.kernels) {
        plan.kernels->end();
    }
}

bool Computation::ending() {
    if (status == GGML_STATUS_SUCCESS && abort_callback && abort_callback(abort_data)) {
        end(GGML_STATUS_ABORTED);
    }
    return status != GGML_STATUS_SUCCESS;
}

void Computation::end(ggml_status reason) {
    ggml_status none = GGML_STATUS_SUCCESS;
    status.compare_exchange_strong(none, reason);
}

void Computation::perform(const Product & product, int thread) {
    const int columns = plan.kernels->columns_per_panel;
    const int n_panels = product.weights.n_columns / columns;
    const int last = share(n_panels, thread + 1);
    const int64_t work_per_panel = int64_t(product.input.n_rows) * product.weights.depth * columns;
    const int step = static_cast<int>(std::min<int64_t>(WORK_BETWEEN_LOOKS / work_per_panel + 1, n_panels));
    for (int panel = share(n_panels, thread); panel < last && !ending(); panel += step) {
        plan.kernels->multiply(product, panel, std::min(panel + step, last), scratch[thread]->reserve(0));
    }
}

void Computation::perform(const LayerNorm & norm, int thread) {
    plan.kernels->normalize(norm, share(norm.n_rows, thread), share(norm.n_rows, thread + 1));
}

void Computation::perform(const Attention & attention, int thread) {
    const int n_heads = static_cast<int>(attention.row_stride) / attention.head_size;
    int item = 0;
    for (const Text & text : plan.texts) {
        for (int head = 0; head < n_heads; head++, item++) {
            if (item % team->size() == thread) {
                if (text.n_rows >= LONG_TEXT && ending()) {
                    return;
                }
                plan.kernels->attend(attention, text.first_row, text.n_rows, head, scratch[thread]->reserve(0));
            }
        }
    }
}

void Computation::perform(const Pack & pack, int thread) {
    plan.kernels->pack_rows(pack.rows, pack.tiles, share(pack.tiles.n_rows, thread),
                            share(pack.tiles.n_rows, thread + 1));
}

void Computation::perform(const Nodes & nodes, int thread) {
    if (thread == 0) {
        ggml_cgraph view = ggml_graph_view(graph, nodes.first, nodes.last);
        const ggml_status result = ggml_backend_graph_compute(cpu, &view);
        if (result != GGML_STATUS_SUCCESS) {
            end(result);
        }
    }
}

}  // namespace embellama::encoder
