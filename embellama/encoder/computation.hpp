// SPDX-License-Identifier: Apache-2.0
// What one context needs to compute its graphs: a plan, memory, threads.
#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include "../runtime/thread_team.hpp"
#include "ggml-backend.h"
#include "plan.hpp"
#include "scratch.hpp"

namespace embellama::encoder {

class Computation {
public:
    Computation();
    ~Computation();
    Computation(const Computation &) = delete;
    Computation & operator=(const Computation &) = delete;

    ggml_status compute(ggml_cgraph * graph);
    void set_n_threads(int n) { n_threads = n; }
    void set_abort_callback(ggml_abort_callback callback, void * data);

private:
    void reserve_scratch();
    void restore_tiles(int thread) const;
    void work(int thread, int step, int item);
    int n_shares() const;
    bool divides_rows(const Tiles & input) const;
    int panels_of(const Product & product) const;
    int panels_of(const Products & products) const;
    Product rows_of(const Product & product, int first, int last) const;
    Tiles rows_of(const Tiles & tiles, int first, int last) const;
    // items_of: into how many items a step is divided. perform: computes one of these items.
    int items_of(const Products & products) const;
    int items_of(const LayerNorm & norm) const;
    int items_of(const Attention & attention) const;
    int parts_of_head(const Attention & attention) const;
    int items_of(const Pack & pack) const;
    int items_of(const WidenedProduct & product) const;
    int items_of(const Examination & examination) const;
    int items_of(const Nodes & nodes) const;
    void perform(const Products & products, int thread, int item);
    void perform(const LayerNorm & norm, int thread, int item);
    void perform(const Attention & attention, int thread, int item);
    void perform(const Pack & pack, int thread, int item);
    void perform(const WidenedProduct & product, int thread, int item);
    void perform(const Examination & examination, int thread, int item);
    void perform(const Nodes & nodes, int thread, int item);
    // Whether the computation must end early, because it was aborted or has failed.
    bool ending();
    void end(ggml_status reason);

    // llama.cpp's CPU backend, for the nodes that the planner leaves to it.
    ggml_backend_t cpu;
    ggml_abort_callback abort_callback = nullptr;
    void * abort_data = nullptr;
    int n_threads = 1;
    std::unique_ptr<ThreadTeam> team;
    Plan plan;
    std::vector<int> n_items;                       // of each step
    std::vector<std::unique_ptr<Scratch>> scratch;  // of each thread
    TileConfiguration outer_tiles;                  // of the caller's thread
    int longest = 0;                                // rows of the longest text
    ggml_cgraph * graph = nullptr;
    DoubtfulRows * doubtful = nullptr;  // of the caller, or null
    std::atomic<ggml_status> status{GGML_STATUS_SUCCESS};
};

}  // namespace embellama::encoder
