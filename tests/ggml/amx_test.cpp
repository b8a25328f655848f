// SPDX-License-Identifier: Apache-2.0
// ggml's products with AMX's tiles against its products without, on weights of each type that it has
// tiles for. Where the processor has no tiles, trapped_tiles.cpp carries the instructions out.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <vector>

#include "../../embellama/runtime/cpu_features.hpp"
#include "ggml-alloc.h"
#include "ggml-backend.h"
#include "ggml-cpu.h"
#include "ggml.h"

using embellama::InstructionSet;

namespace {

constexpr int DEPTH = 512, N_COLUMNS = 96;

// Both sum products of the same whole numbers; only the order in which blocks are added differs.
constexpr float TOLERANCE = 1e-5f;

std::mt19937 generator(1);

std::vector<float> random_floats(size_t n) {
    std::normal_distribution<float> normal;
    std::vector<float> values(n);
    for (float & value : values) {
        value = normal(generator);
    }
    return values;
}

void require(bool condition, const char * what) {
    if (!condition) {
        fprintf(stderr, "%s\n", what);
        exit(1);
    }
}

ggml_backend_buffer_type_t amx_buffer_type() {
    using GetExtra = ggml_backend_buffer_type_t * (*)(ggml_backend_dev_t);
    ggml_backend_reg_t cpu = ggml_backend_cpu_reg();
    const auto get_extra =
        reinterpret_cast<GetExtra>(ggml_backend_reg_get_proc_address(cpu, "ggml_backend_dev_get_extra_bufts"));
    for (ggml_backend_buffer_type_t * type = get_extra(ggml_backend_reg_dev_get(cpu, 0)); type && *type; type++) {
        if (strcmp(ggml_backend_buft_name(*type), "AMX") == 0) {
            return *type;
        }
    }
    return nullptr;
}

// rows x DEPTH times DEPTH x N_COLUMNS
std::vector<float> product(ggml_backend_t backend, ggml_backend_buffer_type_t weights_at, ggml_type type,
                           const std::vector<uint8_t> & weights, const std::vector<float> & rows) {
    const int n_rows = static_cast<int>(rows.size()) / DEPTH;
    const ggml_init_params params = {16 * ggml_tensor_overhead() + ggml_graph_overhead(), nullptr, true};
    ggml_context * of_weights = ggml_init(params);
    ggml_context * of_graph = ggml_init(params);
    ggml_tensor * matrix = ggml_new_tensor_2d(of_weights, type, DEPTH, N_COLUMNS);
    ggml_backend_buffer_t weights_buffer = ggml_backend_alloc_ctx_tensors_from_buft(of_weights, weights_at);
    ggml_backend_tensor_set(matrix, weights.data(), 0, weights.size());
    ggml_tensor * input = ggml_new_tensor_2d(of_graph, GGML_TYPE_F32, DEPTH, n_rows);
    ggml_tensor * output = ggml_mul_mat(of_graph, matrix, input);
    ggml_cgraph * graph = ggml_new_graph(of_graph);
    ggml_build_forward_expand(graph, output);
    ggml_backend_buffer_t graph_buffer = ggml_backend_alloc_ctx_tensors(of_graph, backend);
    ggml_backend_tensor_set(input, rows.data(), 0, rows.size() * sizeof(float));
    require(ggml_backend_graph_compute(backend, graph) == GGML_STATUS_SUCCESS, "the graph was not computed");
    std::vector<float> result(static_cast<size_t>(n_rows) * N_COLUMNS);
    ggml_backend_tensor_get(output, result.data(), 0, result.size() * sizeof(float));
    ggml_backend_buffer_free(graph_buffer);
    ggml_backend_buffer_free(weights_buffer);
    ggml_free(of_graph);
    ggml_free(of_weights);
    return result;
}

}  // namespace

int main() {
    if (const char * reason = embellama::missing(InstructionSet::AVX512_BF16)) {
        printf("skipped: %s\n", reason);
        return 0;
    }
    ggml_log_set([](ggml_log_level, const char *, void *) {}, nullptr);
    // As core does, but where tiles are trapped they are permitted too.
    ggml_cpu_set_amx_permission([] { return embellama::missing(InstructionSet::AMX) || !embellama::tiles_refused(); });
    ggml_backend_buffer_type_t tiles = amx_buffer_type();
    require(tiles, "ggml offers no AMX buffer");
    ggml_backend_t backend = ggml_backend_cpu_init();
    ggml_backend_cpu_set_n_threads(backend, 1);
    int failures = 0;
    for (const ggml_type type : {GGML_TYPE_Q4_0, GGML_TYPE_Q4_1, GGML_TYPE_Q8_0, GGML_TYPE_Q4_K, GGML_TYPE_Q5_K,
                                 GGML_TYPE_Q6_K, GGML_TYPE_IQ4_XS}) {
        const std::vector<float> values = random_floats(static_cast<size_t>(DEPTH) * N_COLUMNS);
        std::vector<uint8_t> weights(ggml_row_size(type, DEPTH) * N_COLUMNS);
        ggml_quantize_chunk(type, values.data(), weights.data(), 0, N_COLUMNS, DEPTH, nullptr);
        float largest = 0;
        // One row has a way of its own; then blocks of 16 and 32 rows, whole and not.
        for (const int n_rows : {1, 2, 15, 16, 17, 31, 32, 33, 70}) {
            const std::vector<float> rows = random_floats(static_cast<size_t>(n_rows) * DEPTH);
            const std::vector<float> expected = product(backend, ggml_backend_cpu_buffer_type(), type, weights, rows);
            const std::vector<float> found = product(backend, tiles, type, weights, rows);
            float peak = 0, difference = 0;
            for (size_t i = 0; i < expected.size(); i++) {
                peak = std::fmax(peak, std::fabs(expected[i]));
                difference = std::fabs(found[i] - expected[i]) > difference || std::isnan(found[i])
                                 ? std::fabs(found[i] - expected[i])
                                 : difference;
            }
            if (!(difference <= TOLERANCE * peak)) {
                printf("%s, %d rows: off by %g of %g\n", ggml_type_name(type), n_rows, difference, peak);
                failures++;
            }
            largest = std::fmax(largest, difference / peak);
        }
        printf("%s: %.1e\n", ggml_type_name(type), largest);
    }
    ggml_backend_free(backend);
    return failures != 0;
}
