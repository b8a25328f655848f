// SPDX-License-Identifier: Apache-2.0
// A computation configures the tile registers of its threads once, and leaves them as their owners
// configured them. The tile instructions are trapped (trapped_tiles.cpp).
#include "../../embellama/encoder/computation.hpp"

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

#include "../../embellama/encoder/packed_weights.hpp"
#include "../../embellama/encoder/self_check.hpp"
#include "../../embellama/runtime/aborts.hpp"
#include "../../embellama/runtime/cpu_features.hpp"
#include "ggml-alloc.h"
#include "ggml-backend.h"
#include "ggml-cpu.h"
#include "ggml-impl.h"
#include "ggml.h"
#include "trapped_tiles.hpp"

// An exception within llama.cpp's code leaks what that code had allocated.
extern "C" const char * __asan_default_options() { return "detect_leaks=0"; }

using namespace embellama;
using namespace embellama::encoder;

namespace {

constexpr int WIDTH = 64, N_ROWS = 256;

int failures = 0;

void check(bool condition, const char * what) {
    if (!condition) {
        printf("%s\n", what);
        failures++;
    }
}

// The tile registers as another library may have configured them: one tile of `n_rows` lines.
TileConfiguration configuration_of(uint8_t n_rows) {
    TileConfiguration configuration;
    if (n_rows) {
        configuration.bytes[0] = 1;
        configuration.bytes[16] = 64;
        configuration.bytes[48] = n_rows;
    }
    return configuration;
}

bool is_configured(const TileConfiguration & wanted) {
    TileConfiguration found;
    amx_kernels.save_tiles(found);
    return memcmp(&found, &wanted, sizeof found) == 0;
}

// What a node that is left to llama.cpp does, and sees.
struct Node {
    std::thread::id caller = std::this_thread::get_id();
    TileConfiguration callers;
    bool fails = false;
    int n_computed = 0;
    bool tiles_are_outer = true;
};

void compute_node(ggml_tensor * result, const ggml_tensor * input, int, int, void * data) {
    Node & node = *static_cast<Node *>(data);
    const bool elsewhere = std::this_thread::get_id() != node.caller;
    node.n_computed++;
    node.tiles_are_outer &= is_configured(elsewhere ? TileConfiguration() : node.callers);
    if (node.fails) {
        GGML_ABORT("a node of the test fails");
    }
    memcpy(result->data, input->data, ggml_nbytes(input));
}

// Twelve products; between two of them is the node, if there is one.
class Graph {
public:
    explicit Graph(Node * node) {
        const ggml_init_params params = {64 * ggml_tensor_overhead() + ggml_graph_overhead(), nullptr, true};
        of_weights = ggml_init(params);
        of_rows = ggml_init(params);
        ggml_tensor * weights = ggml_new_tensor_2d(of_weights, GGML_TYPE_F32, WIDTH, WIDTH);
        buffers[0] = ggml_backend_alloc_ctx_tensors_from_buft(of_weights, packed_buffer_type(amx_kernels));
        const std::vector<float> values(WIDTH * N_ROWS, 0.125f);
        ggml_backend_tensor_set(weights, values.data(), 0, ggml_nbytes(weights));
        ggml_tensor * input = ggml_new_tensor_2d(of_rows, GGML_TYPE_F32, WIDTH, N_ROWS);
        result = input;
        for (int i = 0; i < 12; i++) {
            result = ggml_mul_mat(of_rows, weights, result);
            if (node) {
                result = ggml_map_custom1(of_rows, result, compute_node, 1, node);
            }
        }
        graph = ggml_new_graph(of_rows);
        ggml_build_forward_expand(graph, result);
        buffers[1] = ggml_backend_alloc_ctx_tensors_from_buft(of_rows, ggml_backend_cpu_buffer_type());
        ggml_backend_tensor_set(input, values.data(), 0, ggml_nbytes(input));
    }

    ~Graph() {
        ggml_backend_buffer_free(buffers[0]);
        ggml_backend_buffer_free(buffers[1]);
        ggml_free(of_weights);
        ggml_free(of_rows);
    }

    Graph(const Graph &) = delete;
    Graph & operator=(const Graph &) = delete;

    // Each product multiplies by 64 / 8.
    bool is_right() const {
        return static_cast<const float *>(result->data)[7] == 0.125f * static_cast<float>(1ull << 36);
    }

    ggml_cgraph * graph;

private:
    ggml_context * of_weights;
    ggml_context * of_rows;
    ggml_tensor * result;
    ggml_backend_buffer_t buffers[2];
};

// A thread that waits has released its tiles; it may need a moment to get there.
bool only_callers_tiles_remain(const TileConfiguration & callers) {
    for (int i = 0; i < 20000; i++) {
        if (threads_with_tiles() == callers.bytes[0]) {
            return is_configured(callers);
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return false;
}

void test_configured_once() {
    Computation computation;
    Graph graph(nullptr);
    for (const uint8_t n_rows : {0, 3}) {
        const TileConfiguration callers = configuration_of(n_rows);
        amx_kernels.restore_tiles(callers);
        const long before = loaded_configurations();
        check(computation.compute(graph.graph) == GGML_STATUS_SUCCESS && graph.is_right(), "twelve products are wrong");
        check(loaded_configurations() - before == (n_rows ? 2 : 1), "tiles are configured more than once");
        check(only_callers_tiles_remain(callers), "twelve products leave tiles configured");
    }
}

void test_nodes_between(int n_threads, uint8_t n_rows) {
    Node node;
    node.callers = configuration_of(n_rows);
    Graph graph(&node);
    Computation computation;
    computation.set_n_threads(n_threads);
    amx_kernels.restore_tiles(node.callers);
    check(computation.compute(graph.graph) == GGML_STATUS_SUCCESS && graph.is_right() && node.n_computed == 12,
          "products and nodes are wrong");
    check(node.tiles_are_outer, "a node sees tiles of the encoder");
    check(only_callers_tiles_remain(node.callers), "products and nodes leave tiles configured");
}

void test_early_end(int n_threads, uint8_t n_rows) {
    Node node;
    node.callers = configuration_of(n_rows);
    Graph graph(&node);
    Computation computation;
    computation.set_n_threads(n_threads);
    amx_kernels.restore_tiles(node.callers);
    std::atomic<int> n_looks{0};
    computation.set_abort_callback([](void * data) { return ++*static_cast<std::atomic<int> *>(data) > 3; }, &n_looks);
    check(computation.compute(graph.graph) == GGML_STATUS_ABORTED, "a computation was not aborted");
    check(only_callers_tiles_remain(node.callers), "an aborted computation leaves tiles configured");
    computation.set_abort_callback(nullptr, nullptr);
    node.fails = true;
    check(computation.compute(graph.graph) == GGML_STATUS_FAILED, "a computation did not fail");
    check(only_callers_tiles_remain(node.callers), "a failed computation leaves tiles configured");
}

void test_self_check() {
    const TileConfiguration callers = configuration_of(3);
    amx_kernels.restore_tiles(callers);
    check(agree(amx_kernels, generic_kernels), "does not agree with the generic kernels");
    check(only_callers_tiles_remain(callers), "the self-check leaves tiles configured");
}

}  // namespace

int main() {
    // ggml's library that is linked is the one for this set.
    if (const char * reason = missing(InstructionSet::AVX512_BF16)) {
        printf("skipped: %s\n", reason);
        return 0;
    }
    install_abort_callback();
    ggml_log_set([](ggml_log_level, const char *, void *) {}, nullptr);
    test_self_check();
    test_configured_once();
    for (const int n_threads : {1, 2}) {
        for (const uint8_t n_rows : {0, 3}) {
            test_nodes_between(n_threads, n_rows);
            test_early_end(n_threads, n_rows);
        }
    }
    puts(failures ? "computation: failed" : "computation: done");
    return failures != 0;
}
