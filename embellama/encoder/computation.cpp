// SPDX-License-Identifier: Apache-2.0
#include "computation.hpp"

#include <algorithm>
#include <cstring>
#include <exception>
#include <new>

#include "../runtime/aborts.hpp"
#include "ggml-cpu.h"
#include "ggml-impl.h"
#include "packed_weights.hpp"

namespace embellama::encoder {

namespace {

// Multiplications between two calls of the abort callback: some 5 to 50 milliseconds.
constexpr int64_t WORK_BETWEEN_LOOKS = int64_t(1) << 28;

// Items per thread if there are several threads: the last thread then finishes at most a quarter of
// its share late.
constexpr int ITEMS_PER_THREAD = 4;

// The first of n things that belongs to an item, if the items share them evenly.
int share(int n, int item, int n_items) { return static_cast<int>(static_cast<int64_t>(n) * item / n_items); }

// Weights that are widened at once: few enough for the first-level cache.
constexpr int WIDENED_COLUMNS = 8;

int n_widened_blocks(const ggml_tensor * node) {
    return static_cast<int>((node->src[0]->ne[1] + WIDENED_COLUMNS - 1) / WIDENED_COLUMNS);
}

// Two pointers for each row, and the widened weights.
size_t widened_scratch(const ggml_tensor * node) {
    return ggml_nrows(node) * 2 * sizeof(float *) + WIDENED_COLUMNS * node->src[0]->ne[0] * sizeof(float);
}

char * row_of(const ggml_tensor * tensor, int64_t i1, int64_t i2, int64_t i3) {
    return static_cast<char *>(tensor->data) + i1 * tensor->nb[1] + i2 * tensor->nb[2] + i3 * tensor->nb[3];
}

// The rows that an expert multiplies, and where the results go. For a mixture, src[2] names the
// experts: [expert of the token][token] (ggml_mul_mat_id in ggml.h). A plain product has one expert,
// which multiplies all rows.
int rows_for(const ggml_tensor * node, int expert, const float ** inputs, float ** outputs) {
    const ggml_tensor * input = node->src[1];
    const ggml_tensor * experts = node->op == GGML_OP_MUL_MAT_ID ? node->src[2] : nullptr;
    int n = 0;
    for (int64_t i3 = 0; i3 < node->ne[3]; i3++) {
        for (int64_t i2 = 0; i2 < node->ne[2]; i2++) {
            for (int64_t i1 = 0; i1 < node->ne[1]; i1++) {
                if (experts) {
                    int32_t chosen;
                    memcpy(&chosen, row_of(experts, i2, 0, 0) + i1 * experts->nb[0], sizeof chosen);
                    if (chosen != expert) {
                        continue;
                    }
                }
                inputs[n] = reinterpret_cast<const float *>(row_of(input, i1 % input->ne[1], i2, i3));
                outputs[n] = reinterpret_cast<float *>(row_of(node, i1, i2, i3));
                n++;
            }
        }
    }
    return n;
}

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
        doubtful = DoubtfulRows::current();
        make_plan(graph, doubtful ? doubtful->neurons : nullptr, plan);
        const ThreadTeam::Rest rest = plan.kernels ? plan.kernels->release_tiles : nullptr;
        if (!team || team->n_asked != n_threads || team->rest != rest) {
            team.reset();
            team = std::make_unique<ThreadTeam>(n_threads, rest);
        }
        reserve_scratch();
        n_items.clear();
        for (const Step & step : plan.steps) {
            n_items.push_back(std::visit([this](const auto & work) { return items_of(work); }, step));
        }
    } catch (const std::bad_alloc &) {
        return GGML_STATUS_ALLOC_FAILED;
    }
    const auto work_on = [](void * self, int thread, int step, int item) {
        static_cast<Computation *>(self)->work(thread, step, item);
    };
    if (plan.kernels && plan.kernels->save_tiles) {
        plan.kernels->save_tiles(outer_tiles);
    }
    team->run(n_items, work_on, this);
    restore_tiles(0);
    return status;
}

// Others may have configured the tiles of the caller's thread only.
void Computation::restore_tiles(int thread) const {
    if (plan.kernels && plan.kernels->restore_tiles) {
        thread == 0 ? plan.kernels->restore_tiles(outer_tiles) : plan.kernels->release_tiles();
    }
}

int Computation::n_shares() const { return team->size() == 1 ? 1 : ITEMS_PER_THREAD * team->size(); }

void Computation::reserve_scratch() {
    while (static_cast<int>(scratch.size()) < team->size()) {
        scratch.push_back(std::make_unique<Scratch>());
    }
    size_t n_bytes = 0;
    longest = 0;
    for (const Text & text : plan.texts) {
        longest = std::max(longest, text.n_rows);
    }
    for (const Step & step : plan.steps) {
        if (const Products * products = std::get_if<Products>(&step)) {
            n_bytes = std::max(n_bytes, plan.kernels->multiply_scratch(products->front().weights.depth));
        } else if (const Attention * attention = std::get_if<Attention>(&step)) {
            n_bytes = std::max(n_bytes, plan.kernels->attend_scratch(longest, attention->head_size));
        } else if (const WidenedProduct * product = std::get_if<WidenedProduct>(&step)) {
            n_bytes = std::max(n_bytes, widened_scratch(product->node));
        } else if (const Examination * examination = std::get_if<Examination>(&step)) {
            doubtful->flags.resize(std::max<size_t>(doubtful->flags.size(), examination->n_rows));
        }
    }
    for (const auto & memory : scratch) {
        memory->recycle();
        memory->reserve(n_bytes);
    }
}

void Computation::work(int thread, int step, int item) {
    if (ending()) {
        return;
    }
    // llama.cpp's code may fail on any thread, while the other threads go on.
    const AbortsThrow guard;
    try {
        std::visit([&](const auto & work) { perform(work, thread, item); }, plan.steps[step]);
    } catch (const std::bad_alloc &) {
        end(GGML_STATUS_ALLOC_FAILED);
    } catch (const std::exception & error) {
        GGML_LOG_ERROR("%s: %s\n", __func__, error.what());
        end(GGML_STATUS_FAILED);
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

// Products are divided by rows if there are enough for all threads: a thread then reads rows that
// it wrote itself. Otherwise they are divided by panels, so that only one thread reads each weight.
bool Computation::divides_rows(const Tiles & input) const { return input.n_rows >= n_shares() * input.rows_per_block; }

int Computation::panels_of(const Product & product) const {
    return product.weights.n_columns / plan.kernels->columns_per_panel;
}

int Computation::panels_of(const Products & products) const {
    int n_panels = 0;
    for (const Product & product : products) {
        n_panels += panels_of(product);
    }
    return n_panels;
}

// There must be enough items for the threads to finish together, and for a timely call of the abort
// callback between two of them.
int Computation::items_of(const Products & products) const {
    const Tiles & input = products.front().input;
    const int n_panels = panels_of(products);
    const int n_parts =
        divides_rows(input) ? (input.n_rows + input.rows_per_block - 1) / input.rows_per_block : n_panels;
    const int64_t work = int64_t(input.n_rows) * input.depth * n_panels * plan.kernels->columns_per_panel;
    const int64_t n_wanted = std::max<int64_t>(work / WORK_BETWEEN_LOOKS + 1, n_shares());
    return static_cast<int>(std::min<int64_t>(n_wanted, n_parts));
}

void Computation::perform(const Products & products, int thread, int item) {
    const Tiles & input = products.front().input;
    const int n = items_of(products);
    void * memory = scratch[thread]->reserve(0);
    if (divides_rows(input)) {
        const int n_blocks = (input.n_rows + input.rows_per_block - 1) / input.rows_per_block;
        const int first = share(n_blocks, item, n) * input.rows_per_block;
        const int last = std::min(share(n_blocks, item + 1, n) * input.rows_per_block, input.n_rows);
        for (const Product & product : products) {
            plan.kernels->multiply(rows_of(product, first, last), 0, panels_of(product), memory);
        }
        return;
    }
    const int n_panels = panels_of(products);
    int first = share(n_panels, item, n), last = share(n_panels, item + 1, n);
    for (const Product & product : products) {
        const int n_here = panels_of(product);
        if (first < n_here && last > 0) {
            plan.kernels->multiply(product, std::max(first, 0), std::min(last, n_here), memory);
        }
        first -= n_here;
        last -= n_here;
    }
}

Product Computation::rows_of(const Product & product, int first, int last) const {
    const int64_t at = int64_t(first) * product.weights.n_columns;
    Product part = product;
    part.input = rows_of(product.input, first, last);
    part.residual = product.residual ? product.residual + at : nullptr;
    part.rows = product.rows ? product.rows + at : nullptr;
    part.tiles = rows_of(product.tiles, first, last);
    return part;
}

// `first` and `last` must be the bounds of whole blocks of tiles, unless all rows are in one block.
Tiles Computation::rows_of(const Tiles & tiles, int first, int last) const {
    if (!tiles.data) {
        return tiles;
    }
    const size_t before = tiles.n_rows <= tiles.rows_per_block ? plan.kernels->values_per_line() : tiles.depth;
    const size_t offset = plan.kernels->bytes_per_value() * first * before;
    return {static_cast<char *>(tiles.data) + offset, last - first, tiles.rows_per_block, tiles.depth};
}

int Computation::items_of(const LayerNorm & norm) const { return std::min(norm.n_rows, n_shares()); }

void Computation::perform(const LayerNorm & norm, int, int item) {
    const int n = items_of(norm);
    plan.kernels->normalize(norm, share(norm.n_rows, item, n), share(norm.n_rows, item + 1, n));
}

// A head of a text is one item, unless that takes too long for the longest text.
int Computation::parts_of_head(const Attention & attention) const {
    const int64_t work = int64_t(2) * longest * longest * attention.head_size;
    const int64_t n_blocks = (longest + plan.kernels->rows_per_block - 1) / plan.kernels->rows_per_block;
    // `most` is at least 1: a context has at most 256 texts, and each has at most 255 heads.
    const int64_t n_heads = plan.texts.size() * (attention.row_stride / attention.head_size);
    const int64_t most = std::min(n_blocks, ThreadTeam::MOST_ITEMS / n_heads);
    return static_cast<int>(std::min(work / WORK_BETWEEN_LOOKS + 1, most));
}

int Computation::items_of(const Attention & attention) const {
    const int64_t n_heads = attention.row_stride / attention.head_size;
    return static_cast<int>(plan.texts.size() * n_heads * parts_of_head(attention));
}

void Computation::perform(const Attention & attention, int thread, int item) {
    const int n_heads = static_cast<int>(attention.row_stride / attention.head_size);
    const int n_parts = parts_of_head(attention);
    const int part = item % n_parts;
    const int head = item / n_parts % n_heads;
    const Text & text = plan.texts[item / n_parts / n_heads];
    const int rows_per_block = plan.kernels->rows_per_block;
    const int n_blocks = (text.n_rows + rows_per_block - 1) / rows_per_block;
    Attention of_part = attention;
    of_part.first_query = rows_per_block * share(n_blocks, part, n_parts);
    of_part.last_query = rows_per_block * share(n_blocks, part + 1, n_parts);
    if (of_part.first_query < of_part.last_query) {
        plan.kernels->attend(of_part, text.first_row, text.n_rows, head, scratch[thread]->reserve(0));
    }
}

int Computation::items_of(const Pack & pack) const { return std::min(pack.tiles.n_rows, n_shares()); }

void Computation::perform(const Pack & pack, int, int item) {
    const int n = items_of(pack);
    plan.kernels->pack_rows(pack.rows, pack.row_stride, pack.tiles, share(pack.tiles.n_rows, item, n),
                            share(pack.tiles.n_rows, item + 1, n));
}

int Computation::items_of(const WidenedProduct & product) const {
    const ggml_tensor * node = product.node;
    const int64_t work = ggml_nelements(node) * node->src[0]->ne[0];
    const int64_t n_wanted = std::max<int64_t>(work / WORK_BETWEEN_LOOKS + 1, n_shares());
    return static_cast<int>(std::min<int64_t>(n_wanted, n_widened_blocks(node)));
}

void Computation::perform(const WidenedProduct & product, int thread, int item) {
    const ggml_tensor * node = product.node;
    const ggml_tensor * weight = node->src[0];
    const int depth = static_cast<int>(weight->ne[0]);
    const int n_columns = static_cast<int>(weight->ne[1]);
    const int n = items_of(product);
    const int begin = share(n_widened_blocks(node), item, n) * WIDENED_COLUMNS;
    const int end = std::min(share(n_widened_blocks(node), item + 1, n) * WIDENED_COLUMNS, n_columns);
    const float ** inputs = static_cast<const float **>(scratch[thread]->reserve(0));
    float ** outputs = const_cast<float **>(inputs) + ggml_nrows(node);
    float * widened = reinterpret_cast<float *>(outputs + ggml_nrows(node));
    for (int expert = 0; expert < weight->ne[2]; expert++) {
        const int n_rows = rows_for(node, expert, inputs, outputs);
        for (int column = begin; column < end && n_rows > 0; column += WIDENED_COLUMNS) {
            const int n_widened = std::min(WIDENED_COLUMNS, end - column);
            widen(weight, int64_t(expert) * n_columns + column, n_widened, widened);
            plan.kernels->multiply_rows({widened, depth, column, n_widened, inputs, outputs, n_rows});
        }
    }
}

int Computation::items_of(const Examination & examination) const { return std::min(examination.n_rows, n_shares()); }

void Computation::perform(const Examination & examination, int, int item) {
    const int n = items_of(examination);
    for (int row = share(examination.n_rows, item, n); row < share(examination.n_rows, item + 1, n); row++) {
        const float * values = examination.rows + int64_t(row) * examination.n_columns;
        doubtful->flags[row] |= is_doubtful(*examination.neurons, values, examination.n_columns);
    }
}

int Computation::items_of(const Nodes &) const { return 1; }

void Computation::perform(const Nodes & nodes, int thread, int) {
    restore_tiles(thread);
    // This is what ggml_graph_view() makes; that function is internal to ggml (ggml-impl.h).
    ggml_cgraph view = {};
    view.n_nodes = nodes.last - nodes.first;
    view.nodes = graph->nodes + nodes.first;
    view.use_counts = graph->use_counts;
    view.visited_hash_set = graph->visited_hash_set;
    view.order = graph->order;
    const ggml_status result = ggml_backend_graph_compute(cpu, &view);
    if (result != GGML_STATUS_SUCCESS) {
        end(result);
    }
}

}  // namespace embellama::encoder
