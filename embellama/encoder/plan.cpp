// SPDX-License-Identifier: Apache-2.0
#include "plan.hpp"

#include <algorithm>
#include <cstring>

#include "ggml-impl.h"
#include "ggml.h"
#include "packed_weights.hpp"

namespace embellama::encoder {

namespace {

bool is_view(const ggml_tensor * tensor) {
    return tensor->op == GGML_OP_NONE || tensor->op == GGML_OP_RESHAPE || tensor->op == GGML_OP_VIEW ||
           tensor->op == GGML_OP_PERMUTE || tensor->op == GGML_OP_TRANSPOSE;
}

bool is_rows(const ggml_tensor * tensor) {
    return tensor->type == GGML_TYPE_F32 && ggml_is_contiguous(tensor) && tensor->ne[2] == 1 && tensor->ne[3] == 1;
}

// A vector of the model's: what a graph computes for a single row has the same shape.
bool is_vector(const ggml_tensor * tensor, int64_t size) {
    return tensor->op == GGML_OP_NONE && is_rows(tensor) && tensor->ne[0] == size && tensor->ne[1] == 1;
}

const float * floats(const ggml_tensor * tensor) { return static_cast<const float *>(tensor->data); }

// A fused step writes its result while it still reads its inputs. In the graph the result is
// written later, so ggml may have given it the memory of a tensor that the step still reads.
// Exactly the same memory is fine, because each value is read before it is written.
bool may_write_while_reading(const ggml_tensor * target, const ggml_tensor * source) {
    const char * a = static_cast<const char *>(target->data);
    const char * b = static_cast<const char *>(source->data);
    return a == b || a + ggml_nbytes(target) <= b || b + ggml_nbytes(source) <= a;
}

// The tensor that was reshaped: it has the same memory, complete and in the same order.
const ggml_tensor * reshaped_from(const ggml_tensor * tensor) {
    while (tensor->op == GGML_OP_RESHAPE) {
        tensor = tensor->src[0];
    }
    return tensor;
}

class Planner {
public:
    Planner(ggml_cgraph * graph, const SensitiveNeurons * neurons, Plan & plan)
        : graph(graph),
          neurons(neurons),
          plan(plan) {}

    void run() {
        for (int index = 0; index < graph->n_nodes;) {
            const int next = computes(index) ? step_from(index) : index + 1;
            if (next == index) {
                leave(index++);
            } else {
                index = next;
            }
        }
    }

private:
    ggml_cgraph * const graph;
    const SensitiveNeurons * const neurons;
    Plan & plan;
    // The tensor whose values each place holds.
    std::array<const ggml_tensor *, N_PLACES> held = {};
    std::array<Tiles, N_PLACES> tiles = {};
    // The products whose results are rows, since the last attention.
    struct RowsOfProduct {
        int node;
        size_t step;
        size_t product;
    };
    std::vector<RowsOfProduct> rows_of_products;
    const ggml_tensor * mask = nullptr;
    bool mask_is_texts = false;

    ggml_tensor * node(int index) const { return graph->nodes[index]; }

    bool computes(int index) const { return !is_view(node(index)) && (node(index)->flags & GGML_TENSOR_FLAG_COMPUTE); }

    // The next node after `index` that computes something; n_nodes if there is none.
    int next_computing(int index) const {
        do {
            index++;
        } while (index < graph->n_nodes && !computes(index));
        return index;
    }

    // Whether exactly one node reads the result of node `index`.
    bool used_once(int index) const { return ggml_node_has_n_uses(graph, index, 1); }

    bool is_packed_product(int index) const {
        return index < graph->n_nodes && node(index)->op == GGML_OP_MUL_MAT && kernels_of(node(index)->src[0]) &&
               packable(*plan.kernels, node(index)->src[0]);
    }

    // Makes a step that begins at node `index`. Returns the index after the last node that the step
    // covers, or `index` if no step was made.
    int step_from(int index) {
        switch (node(index)->op) {
            case GGML_OP_MUL_MAT:
                return is_packed_product(index) ? product_from(index) : widened_product_from(index);
            case GGML_OP_MUL_MAT_ID:
                return widened_product_from(index);
            case GGML_OP_NORM:
                return layer_norm_from(index);
            case GGML_OP_FLASH_ATTN_EXT:
                return attention_from(index);
            default:
                return index;
        }
    }

    void leave(int index) {
        if (!plan.steps.empty()) {
            Nodes * nodes = std::get_if<Nodes>(&plan.steps.back());
            if (nodes && next_computing(nodes->last - 1) == index) {
                nodes->last = index + 1;
                return;
            }
        }
        plan.steps.push_back(Nodes{index, index + 1});
    }

    Tiles place_tiles(Place place, const ggml_tensor * tensor, int n_rows, int depth) {
        const int most = plan.kernels->rows_per_block;
        const int n_blocks = (n_rows + most - 1) / most;
        // Blocks have nearly equal sizes: 13 rows become blocks of 7 and 6, not of 12 and 1.
        const int rows_per_block = (n_rows + n_blocks - 1) / n_blocks;
        const size_t n_bytes = plan.kernels->bytes_per_value() * n_blocks * rows_per_block * depth;
        tiles[place] = {plan.places[place].reserve(n_bytes), n_rows, rows_per_block, depth};
        held[place] = tensor;
        return tiles[place];
    }

    Tiles tiles_of(const ggml_tensor * input) {
        const ggml_tensor * source = reshaped_from(input);
        for (int place = 0; place < N_PLACES; place++) {
            if (held[place] == source && tiles[place].depth == input->ne[0] && tiles[place].n_rows == input->ne[1]) {
                return tiles[place];
            }
        }
        const Tiles packed =
            place_tiles(PACKED, source, static_cast<int>(input->ne[1]), static_cast<int>(input->ne[0]));
        plan.steps.push_back(Pack{floats(input), input->ne[0], packed});
        return packed;
    }

    // Tiles of one block, for attention.
    Tiles block_of(Place place, int n_rows, int depth) {
        const int rows_per_block = n_rows + LINES_BEYOND;
        const size_t n_bytes = plan.kernels->bytes_per_value() * rows_per_block * depth;
        return {plan.places[place].reserve(n_bytes), n_rows, rows_per_block, depth};
    }

    // Whether only the next computing node reads the result of node `index`, and that node is a
    // product that takes it as rows of `depth` values. Then the result is needed only as tiles.
    bool feeds_only_a_product(int index, int64_t depth) const {
        const int user = next_computing(index);
        if (!used_once(index) || !is_packed_product(user)) {
            return false;
        }
        const ggml_tensor * input = node(user)->src[1];
        if (reshaped_from(input) != node(index) || input->ne[0] != depth) {
            return false;
        }
        return is_only_view(input, node(index));
    }

    // Whether each view from `view` to the tensor itself has one reader.
    bool is_only_view(const ggml_tensor * view, const ggml_tensor * tensor) const {
        for (; view != tensor; view = view->src[0]) {
            if (!view || !is_view(view) || uses_of(view) != 1) {
                return false;
            }
        }
        return true;
    }

    int uses_of(const ggml_tensor * tensor) const {
        const size_t slot = ggml_hash_find(&graph->visited_hash_set, tensor);
        return ggml_bitset_get(graph->visited_hash_set.used, slot) ? graph->use_counts[slot] : 0;
    }

    int product_from(const int first) {
        const ggml_tensor * weight = node(first)->src[0];
        Product product = {};
        product.weights = weights_of(weight);
        product.input = tiles_of(node(first)->src[1]);
        if (const auto * sensitive = neurons ? neurons->of(weight) : nullptr) {
            plan.steps.push_back(
                Examination{sensitive, floats(node(first)->src[1]), product.input.n_rows, product.weights.depth});
        }
        const int64_t n_columns = product.weights.n_columns;
        int last = first;
        const auto fused_with_next = [&](ggml_op op) -> const ggml_tensor * {
            const int next = next_computing(last);
            return next < graph->n_nodes && node(next)->op == op && used_once(last) ? node(next) : nullptr;
        };
        if (const ggml_tensor * sum = fused_with_next(GGML_OP_ADD);
            sum && sum->src[0] == node(last) && is_vector(sum->src[1], n_columns)) {
            product.bias = floats(sum->src[1]);
            last = next_computing(last);
        }
        if (const ggml_tensor * gelu = fused_with_next(GGML_OP_UNARY);
            gelu && gelu->src[0] == node(last) && is_gelu(gelu)) {
            product.activation =
                ggml_get_unary_op(gelu) == GGML_UNARY_OP_GELU_ERF ? Activation::GELU_ERF : Activation::GELU_TANH;
            last = next_computing(last);
        } else if (const ggml_tensor * sum = fused_with_next(GGML_OP_ADD)) {
            const ggml_tensor * other = sum->src[0] == node(last) ? sum->src[1] : sum->src[0];
            const bool reads_it = sum->src[0] == node(last) || sum->src[1] == node(last);
            if (reads_it && other != node(last) && is_rows(other) && ggml_are_same_shape(sum, other) &&
                may_write_while_reading(sum, other)) {
                product.residual = floats(other);
                last = next_computing(last);
            }
        }
        if (feeds_only_a_product(last, n_columns)) {
            const Place place = product.activation == Activation::NONE ? PACKED : ACTIVATED;
            if (tiles[place].data != product.input.data) {
                product.tiles = place_tiles(place, node(last), product.input.n_rows, static_cast<int>(n_columns));
            }
        }
        if (!product.tiles.data) {
            product.rows = static_cast<float *>(node(last)->data);
        }
        add(product);
        if (product.rows) {
            const size_t step = plan.steps.size() - 1;
            rows_of_products.push_back({last, step, std::get<Products>(plan.steps[step]).size() - 1});
        }
        return last + 1;
    }

    // A residual may be the result of the product before, or lie in memory that this product's result
    // takes over.
    void add(const Product & product) {
        Products * before = plan.steps.empty() ? nullptr : std::get_if<Products>(&plan.steps.back());
        if (before && before->back().input.data == product.input.data && !before->back().residual &&
            !product.residual) {
            before->push_back(product);
        } else {
            plan.steps.push_back(Products{product});
        }
    }

    int widened_product_from(const int index) {
        if (!kernels_of(node(index)->src[0])) {
            return index;
        }
        plan.steps.push_back(WidenedProduct{node(index)});
        return index + 1;
    }

    static bool is_gelu(const ggml_tensor * unary) {
        const ggml_unary_op op = ggml_get_unary_op(unary);
        return op == GGML_UNARY_OP_GELU_ERF || op == GGML_UNARY_OP_GELU;
    }

    int layer_norm_from(const int first) {
        const ggml_tensor * input = node(first)->src[0];
        const int64_t n_columns = input->ne[0];
        if (!plan.kernels || !is_rows(input) || n_columns % GRANULE != 0) {
            return first;
        }
        LayerNorm norm = {};
        norm.input = floats(input);
        norm.n_rows = static_cast<int>(input->ne[1]);
        norm.n_columns = static_cast<int>(n_columns);
        memcpy(&norm.epsilon, node(first)->op_params, sizeof norm.epsilon);
        int last = first;
        for (const auto & [op, vector] : {std::pair{GGML_OP_MUL, &norm.scale}, {GGML_OP_ADD, &norm.shift}}) {
            const int next = next_computing(last);
            if (next < graph->n_nodes && node(next)->op == op && used_once(last) && node(next)->src[0] == node(last) &&
                is_vector(node(next)->src[1], n_columns)) {
                *vector = floats(node(next)->src[1]);
                last = next;
            } else if (op == GGML_OP_MUL) {
                break;
            }
        }
        if (!may_write_while_reading(node(last), input)) {
            return first;
        }
        norm.rows = static_cast<float *>(node(last)->data);
        if (is_packed_product(next_computing(last)) && node(next_computing(last))->src[1] == node(last)) {
            norm.tiles = place_tiles(NORMALIZED, node(last), norm.n_rows, norm.n_columns);
        }
        plan.steps.push_back(norm);
        return last + 1;
    }

    int attention_from(const int index) {
        const ggml_tensor * result = node(index);
        const ggml_tensor * query = result->src[0];
        const ggml_tensor * key = result->src[1];
        const ggml_tensor * value = result->src[2];
        const int64_t n_rows = query->ne[1], n_heads = query->ne[2], head_size = query->ne[0];
        float parameters[3];  // scale, largest ALiBi bias, soft cap
        memcpy(parameters, result->op_params, sizeof parameters);
        if (!plan.kernels || !result->src[3] || result->src[4] || !(parameters[0] > 0) || parameters[1] != 0 ||
            parameters[2] != 0 || head_size % 16 != 0 || head_size > MAX_HEAD_SIZE || n_heads > 255) {
            return index;
        }
        for (const ggml_tensor * heads : {query, key, value}) {
            if (heads->type != GGML_TYPE_F32 || heads->nb[0] != sizeof(float) || heads->ne[0] != head_size ||
                heads->ne[1] != n_rows || heads->ne[2] != n_heads || heads->ne[3] != 1) {
                return index;
            }
        }
        if (result->src[3] != mask) {
            if (mask) {
                return index;  // a plan has one set of texts; BERT's graph has one mask
            }
            mask = result->src[3];
            mask_is_texts = texts_of(mask, static_cast<int>(n_rows), plan.texts);
        }
        if (!mask_is_texts) {
            return index;
        }
        Attention attention = {};
        attention.query = heads_of(query);
        attention.key = heads_of(key);
        attention.value = heads_of(value);
        attention.head_size = static_cast<int>(head_size);
        attention.scale = parameters[0];
        attention.row_stride = head_size * n_heads;
        if (plan.kernels->attends_to_tiles && head_size % plan.kernels->values_per_line() == 0 &&
            lie_side_by_side(attention.query, head_size) && lie_side_by_side(attention.key, head_size) &&
            lie_side_by_side(attention.value, head_size)) {
            attention.query = block_from(QUERIES, query);
            attention.key = block_from(KEYS, key);
            attention.value = block_from(VALUES, value);
        }
        rows_of_products.clear();
        if (feeds_only_a_product(index, attention.row_stride) && head_size % plan.kernels->values_per_line() == 0) {
            attention.tiles =
                place_tiles(ATTENDED, result, static_cast<int>(n_rows), static_cast<int>(attention.row_stride));
        } else {
            attention.rows = static_cast<float *>(result->data);
        }
        plan.steps.push_back(attention);
        return index + 1;
    }

    static Heads heads_of(const ggml_tensor * heads) {
        return {floats(heads),
                static_cast<int64_t>(heads->nb[1] / sizeof(float)),
                static_cast<int64_t>(heads->nb[2] / sizeof(float)),
                {}};
    }

    static bool lie_side_by_side(const Heads & heads, int64_t head_size) { return heads.head_stride == head_size; }

    // The heads in tiles of one block: their product writes them there, or a step packs them.
    Heads block_from(Place place, const ggml_tensor * heads) {
        const int depth = static_cast<int>(heads->ne[0] * heads->ne[2]);
        const Tiles block = block_of(place, static_cast<int>(heads->ne[1]), depth);
        if (Product * product = product_only_for(heads, depth)) {
            product->rows = nullptr;
            product->tiles = block;
        } else {
            plan.steps.push_back(Pack{floats(heads), static_cast<int64_t>(heads->nb[1] / sizeof(float)), block});
        }
        return {nullptr, 0, 0, block};
    }

    // The product whose rows of `depth` values these heads are, if nothing else reads them.
    Product * product_only_for(const ggml_tensor * heads, int depth) {
        for (const RowsOfProduct & rows : rows_of_products) {
            Product & product = std::get<Products>(plan.steps[rows.step])[rows.product];
            if (is_only_view(heads, node(rows.node)) && used_once(rows.node) && product.rows == floats(heads) &&
                product.weights.n_columns == depth) {
                return &product;
            }
        }
        return nullptr;
    }
};

}  // namespace

void make_plan(ggml_cgraph * graph, const SensitiveNeurons * neurons, Plan & plan) {
    plan.kernels = nullptr;
    plan.steps.clear();
    plan.texts.clear();
    for (Scratch & place : plan.places) {
        place.recycle();
    }
    for (int i = 0; i < graph->n_nodes && !plan.kernels; i++) {
        if (graph->nodes[i]->op == GGML_OP_MUL_MAT || graph->nodes[i]->op == GGML_OP_MUL_MAT_ID) {
            plan.kernels = kernels_of(graph->nodes[i]->src[0]);
        }
    }
    Planner(graph, neurons, plan).run();
}

bool plannable(const Kernels & kernels, const ggml_tensor * operation) {
    const bool product = operation->op == GGML_OP_MUL_MAT;
    if (!product && operation->op != GGML_OP_MUL_MAT_ID) {
        return false;
    }
    const ggml_tensor * weight = operation->src[0];
    const ggml_tensor * input = operation->src[1];
    if (packable(kernels, weight)) {
        return product && is_rows(input);
    }
    return widenable(kernels, weight) && (!product || weight->ne[2] == 1) && weight->ne[3] == 1 &&
           input->type == GGML_TYPE_F32 && input->nb[0] == sizeof(float);
}

}  // namespace embellama::encoder
