// SPDX-License-Identifier: Apache-2.0
// Attention as graphs of llama.cpp have it, on AMX's tiles and by the generic kernels. Queries, keys and
// values go into tiles from products of their own, from nodes between, and from one product of all three.
// The tile instructions are trapped (trapped_tiles.cpp) where the processor has none.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include "../../embellama/encoder/computation.hpp"
#include "../../embellama/encoder/packed_weights.hpp"
#include "../../embellama/runtime/cpu_features.hpp"
#include "ggml-alloc.h"
#include "ggml-backend.h"
#include "ggml-cpu.h"
#include "ggml.h"

using namespace embellama;
using namespace embellama::encoder;

namespace {

enum class Source { PRODUCTS, NODES_BETWEEN, ONE_PRODUCT, READ_TWICE, WANTED };

struct Layer {
    Source source;
    std::vector<int> lengths;  // of the texts
    int head_size;
    int n_heads;

    int width() const { return head_size * n_heads; }
    int n_rows() const {
        int n = 0;
        for (const int length : lengths) {
            n += length;
        }
        return n;
    }
    std::string name() const {
        return "source " + std::to_string(static_cast<int>(source)) + ", " + std::to_string(lengths.size()) +
               " texts, " + std::to_string(n_rows()) + " rows, heads of " + std::to_string(head_size);
    }
};

class Graph {
public:
    Graph(const Kernels & kernels, const Layer & layer) : layer(layer) {
        const ggml_init_params params = {64 * ggml_tensor_overhead() + ggml_graph_overhead(), nullptr, true};
        of_weights = ggml_init(params);
        of_vectors = ggml_init(params);
        of_rows = ggml_init(params);
        const int width = layer.width();
        const int n_products = layer.source == Source::ONE_PRODUCT ? 1 : 3;
        for (int i = 0; i < n_products; i++) {
            weights[i] = ggml_new_tensor_2d(of_weights, GGML_TYPE_F32, width, width * 3 / n_products);
            biases[i] = ggml_new_tensor_1d(of_vectors, GGML_TYPE_F32, width * 3 / n_products);
        }
        ggml_tensor * output_weights = ggml_new_tensor_2d(of_weights, GGML_TYPE_F32, width, width);
        input = ggml_new_tensor_2d(of_vectors, GGML_TYPE_F32, width, layer.n_rows());
        mask = ggml_new_tensor_2d(of_vectors, GGML_TYPE_F16, layer.n_rows(), GGML_PAD(layer.n_rows(), 64));
        buffers[0] = ggml_backend_alloc_ctx_tensors_from_buft(of_weights, packed_buffer_type(kernels));
        buffers[1] = ggml_backend_alloc_ctx_tensors_from_buft(of_vectors, ggml_backend_cpu_buffer_type());

        ggml_tensor * heads[3];
        for (int i = 0; i < 3; i++) {
            heads[i] = heads_of(i);
        }
        ggml_tensor * attended = ggml_flash_attn_ext(of_rows, heads[0], heads[1], heads[2], mask,
                                                     1 / std::sqrt(static_cast<float>(layer.head_size)), 0, 0);
        result = ggml_mul_mat(of_rows, output_weights, ggml_reshape_2d(of_rows, attended, width, layer.n_rows()));
        if (layer.source == Source::READ_TWICE) {
            result = ggml_add(of_rows, result, of_product);
        }
        if (layer.source == Source::WANTED) {
            ggml_set_output(of_product);
        }
        graph = ggml_new_graph(of_rows);
        ggml_build_forward_expand(graph, result);
        allocator = ggml_gallocr_new(ggml_backend_cpu_buffer_type());
        ggml_gallocr_alloc_graph(allocator, graph);

        std::mt19937 generator(1);
        for (ggml_tensor * tensor : {weights[0], weights[1], weights[2], output_weights}) {
            fill(tensor, generator, 1 / std::sqrt(static_cast<float>(width)));
        }
        for (ggml_tensor * tensor : {biases[0], biases[1], biases[2], input}) {
            fill(tensor, generator, 1);
        }
        fill_mask();
    }

    ~Graph() {
        ggml_gallocr_free(allocator);
        for (ggml_backend_buffer_t buffer : buffers) {
            ggml_backend_buffer_free(buffer);
        }
        for (ggml_context * context : {of_weights, of_vectors, of_rows}) {
            ggml_free(context);
        }
    }

    Graph(const Graph &) = delete;
    Graph & operator=(const Graph &) = delete;

    std::vector<float> compute(int n_threads) {
        Computation computation;
        computation.set_n_threads(n_threads);
        if (computation.compute(graph) != GGML_STATUS_SUCCESS) {
            return {};
        }
        const ggml_tensor * wanted = layer.source == Source::WANTED ? of_product : result;
        const float * values = static_cast<const float *>(wanted->data);
        return {values, values + ggml_nelements(wanted)};
    }

private:
    // Of query, key or value: [head_size][n_rows][n_heads].
    ggml_tensor * heads_of(int i) {
        const int64_t width = layer.width(), n_rows = layer.n_rows();
        if (!of_product || layer.source != Source::ONE_PRODUCT) {
            of_product = ggml_add(of_rows, ggml_mul_mat(of_rows, weights[i], input), biases[i]);
        }
        ggml_tensor * rows = of_product;
        if (layer.source == Source::ONE_PRODUCT) {
            rows = ggml_view_3d(of_rows, rows, layer.head_size, layer.n_heads, n_rows, layer.head_size * sizeof(float),
                                rows->nb[1], i * width * sizeof(float));
        } else {
            rows = ggml_reshape_3d(of_rows, rows, layer.head_size, layer.n_heads, n_rows);
        }
        if (layer.source == Source::NODES_BETWEEN) {
            rows = ggml_scale(of_rows, rows, 0.5f);
        }
        return ggml_permute(of_rows, rows, 0, 2, 1, 3);
    }

    static void fill(ggml_tensor * tensor, std::mt19937 & generator, float size) {
        if (tensor) {
            std::normal_distribution<float> normal(0, size);
            std::vector<float> values(ggml_nelements(tensor));
            for (float & value : values) {
                value = normal(generator);
            }
            ggml_backend_tensor_set(tensor, values.data(), 0, ggml_nbytes(tensor));
        }
    }

    void fill_mask() {
        std::vector<ggml_fp16_t> values(ggml_nelements(mask), ggml_fp32_to_fp16(-INFINITY));
        int first = 0;
        for (const int length : layer.lengths) {
            for (int row = first; row < first + length; row++) {
                for (int other = first; other < first + length; other++) {
                    values[static_cast<size_t>(row) * layer.n_rows() + other] = 0;
                }
            }
            first += length;
        }
        ggml_backend_tensor_set(mask, values.data(), 0, ggml_nbytes(mask));
    }

    const Layer layer;
    ggml_context * of_weights;
    ggml_context * of_vectors;
    ggml_context * of_rows;
    ggml_tensor * weights[3] = {};
    ggml_tensor * biases[3] = {};
    ggml_tensor * input;
    ggml_tensor * mask;
    ggml_tensor * of_product = nullptr;
    ggml_tensor * result;
    ggml_cgraph * graph;
    ggml_gallocr_t allocator;
    ggml_backend_buffer_t buffers[2];
};

// bfloat16 rounds by 2**-9, and the values here are of size 1.
bool close(const std::vector<float> & a, const std::vector<float> & b) {
    double worst = 0;
    for (size_t i = 0; i < a.size(); i++) {
        const double error = std::abs(a[i] - b[i]);
        worst = error <= worst ? worst : error;  // NaN stays
    }
    return a.size() == b.size() && !a.empty() && worst <= 0.05;
}

bool passes(const Layer & layer) {
    const std::vector<float> expected = Graph(generic_kernels, layer).compute(1);
    Graph graph(amx_kernels, layer);
    const std::vector<float> found = graph.compute(1);
    const bool same = graph.compute(2) == found;
    if (!close(found, expected)) {
        printf("%s: wrong\n", layer.name().c_str());
        return false;
    }
    if (!same) {
        printf("%s: depends on the number of threads\n", layer.name().c_str());
    }
    return same;
}

}  // namespace

int main() {
    // ggml's library that is linked is the one for this set.
    if (const char * reason = missing(InstructionSet::AVX512_BF16)) {
        printf("skipped: %s\n", reason);
        return 0;
    }
    bool passed = true;
    for (const Source source :
         {Source::PRODUCTS, Source::NODES_BETWEEN, Source::ONE_PRODUCT, Source::READ_TWICE, Source::WANTED}) {
        // A few rows are divided by panels, many by blocks of rows.
        for (const std::vector<int> & lengths : {std::vector<int>{5}, {3, 1, 15}, {70, 5, 63}}) {
            passed &= passes({source, lengths, 32, 2});
        }
        passed &= passes({source, {17}, 64, 1});
    }
    // Heads that no line holds whole are attended as rows.
    passed &= passes({Source::PRODUCTS, {17}, 48, 2});
    puts(passed ? "attention layer: done" : "attention layer: failed");
    return !passed;
}
