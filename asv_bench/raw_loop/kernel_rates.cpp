// SPDX-License-Identifier: Apache-2.0
// What one core can multiply, and what the encoder's kernels reach of it: the kernels of the best
// instruction set, or of one that is named on the command line. The shapes are all-MiniLM-L6-v2's.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "../../embellama/encoder/instruction_sets.hpp"
#include "../../embellama/encoder/kernels.hpp"
#include "multiply_peak.hpp"

using namespace embellama;
using namespace embellama::encoder;

namespace {

constexpr int N_ROWS = 256;

// Filled with 0.0078, as bfloat16 and as float32.
class Memory {
public:
    explicit Memory(size_t n_bytes) : data(static_cast<char *>(std::aligned_alloc(64, (n_bytes + 63) / 64 * 64))) {
        if (!data) {
            abort();
        }
        for (size_t i = 0; i + 2 <= n_bytes; i += 2) {
            memcpy(data.get() + i, "\x00\x3c", 2);
        }
    }
    char * get() const { return data.get(); }
    float * floats() const { return reinterpret_cast<float *>(data.get()); }

private:
    struct Free {
        void operator()(char * memory) const { free(memory); }
    };
    std::unique_ptr<char, Free> data;
};

// Products of rows and columns that are read in lines of 16 words, as in kernels.hpp: a line of each
// of the rows, and 16 words of each of the columns. Nothing is stored.
struct Limit {
    const char * instruction_set;
    int n_rows, n_columns, values_per_word;
    void (*multiply)(const char * rows, const char * columns, int n_lines);
};

#define VECTOR_LIMIT(NAME, TARGET, VECTOR, ROWS, LOAD, REPEATED, MULTIPLY)                                    \
    __attribute__((target(TARGET))) void NAME(const char * rows, const char * columns, int n_lines) {         \
        constexpr int WIDTH = sizeof(VECTOR) / sizeof(float);                                                 \
        VECTOR sums[ROWS][2] = {};                                                                            \
        for (int line = 0; line < n_lines; line++, rows += ROWS * 64) {                                       \
            for (int word = 0; word < 16; word++, columns += 2 * sizeof(VECTOR)) {                            \
                const VECTOR low = LOAD(reinterpret_cast<const float *>(columns));                            \
                const VECTOR high = LOAD(reinterpret_cast<const float *>(columns) + WIDTH);                   \
                _Pragma("GCC unroll 16") for (int row = 0; row < ROWS; row++) {                               \
                    const VECTOR repeated = REPEATED(reinterpret_cast<const float *>(rows)[row * 16 + word]); \
                    MULTIPLY(sums[row][0], repeated, low);                                                    \
                    MULTIPLY(sums[row][1], repeated, high);                                                   \
                }                                                                                             \
            }                                                                                                 \
        }                                                                                                     \
        _Pragma("GCC unroll 16") for (int row = 0; row < ROWS; row++) {                                       \
            __asm__ volatile("" : : "v"(sums[row][0]), "v"(sums[row][1]));                                    \
        }                                                                                                     \
    }

#define ADD_PRODUCTS(sum, a, b) __asm__("vfmadd231ps %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b))
#define ADD_BFLOAT16_PRODUCTS(sum, a, b) __asm__("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b))

VECTOR_LIMIT(multiply_avx2, "avx2,fma", __m256, 6, _mm256_loadu_ps, _mm256_set1_ps, ADD_PRODUCTS)
VECTOR_LIMIT(multiply_avx512, "avx512f", __m512, 12, _mm512_loadu_ps, _mm512_set1_ps, ADD_PRODUCTS)
VECTOR_LIMIT(multiply_avx512_bf16, "avx512f", __m512, 12, _mm512_loadu_ps, _mm512_set1_ps, ADD_BFLOAT16_PRODUCTS)

void multiply_amx(const char * rows, const char * columns, int n_lines) {
    for (int line = 0; line < n_lines; line++, rows += 2048, columns += 2048) {
        __asm__ volatile("tileloadd (%0,%2,1), %%tmm4\n"
                         "tileloadd (%1,%3,1), %%tmm6\n"
                         "tdpbf16ps %%tmm6, %%tmm4, %%tmm0\n"
                         "tileloadd 64(%1,%3,1), %%tmm7\n"
                         "tdpbf16ps %%tmm7, %%tmm4, %%tmm1\n"
                         "tileloadd 1024(%0,%2,1), %%tmm5\n"
                         "tdpbf16ps %%tmm6, %%tmm5, %%tmm2\n"
                         "tdpbf16ps %%tmm7, %%tmm5, %%tmm3\n"
                         :
                         : "r"(rows), "r"(columns), "r"(64l), "r"(128l)
                         : "memory");
    }
}

constexpr Limit LIMITS[] = {
    {"avx2", 6, 16, 1, multiply_avx2},
    {"avx512", 12, 32, 1, multiply_avx512},
    {"avx512_bf16", 12, 32, 2, multiply_avx512_bf16},
    {"amx", 32, 32, 2, multiply_amx},
};

double peak = 0;

void print(const char * what, double gflops) {
    if (peak > 0) {
        printf("%-44s %6.0f  %3.0f %%\n", what, gflops, 100 * gflops / peak);
    } else {
        printf("%-44s %6.0f\n", what, gflops);
    }
}

void print_limits(const Kernels & kernels) {
    for (const Peak & each : multiply_peaks()) {
        if (each.instruction_set == kernels.name) {
            peak = each.gflops;
            print("products of registers alone", peak);
        }
    }
    for (const Limit & limit : LIMITS) {
        if (strcmp(limit.instruction_set, kernels.name) != 0) {
            continue;
        }
        if (limit.multiply == multiply_amx) {
            configure_tiles();
        }
        struct {
            const char * what;
            int n_kilobytes;
        } const places[] = {{"operands from 24 KB (L1)", 24}, {"from 512 KB (L2)", 512}, {"from 12 MB (L3)", 12288}};
        for (const auto & place : places) {
            const int bytes_per_line = 64 * (limit.n_rows + limit.n_columns);
            const int n_lines = place.n_kilobytes * 1024 / bytes_per_line;
            const int n_times = std::max(1, 2048 / place.n_kilobytes);
            const Memory rows(size_t(64) * limit.n_rows * n_lines), columns(size_t(64) * limit.n_columns * n_lines);
            const double operations =
                2.0 * 16 * limit.values_per_word * limit.n_rows * limit.n_columns * n_lines * n_times;
            print(place.what, best_gflops(operations, [&] {
                      for (int i = 0; i < n_times; i++) {
                          limit.multiply(rows.get(), columns.get(), n_lines);
                      }
                  }));
        }
        if (limit.multiply == multiply_amx) {
            __asm__ volatile("tilerelease");
        }
    }
}

// Of 256 rows, with the weights of one layer (L2) or of 24 layers (L3).
void print_product(const Kernels & kernels, const char * what, int depth, int n_columns, Activation activation,
                   bool with_residual, bool to_tiles) {
    const int n_panels = n_columns / kernels.columns_per_panel;
    const WeightFormat format = kernels.format_for(WeightFormat::FLOAT32);
    const size_t matrix_bytes = n_panels * kernels.panel_bytes(depth, format);
    const int n_blocks = (N_ROWS + kernels.rows_per_block - 1) / kernels.rows_per_block;
    const int rows_per_block = (N_ROWS + n_blocks - 1) / n_blocks;
    const size_t n_padded = static_cast<size_t>(n_blocks) * rows_per_block;
    for (const int n_layers : {1, 24}) {
        const Memory input(kernels.bytes_per_value() * n_padded * depth), weights(n_layers * matrix_bytes);
        const Memory rows(sizeof(float) * N_ROWS * n_columns), residual(sizeof(float) * N_ROWS * n_columns);
        const Memory tiles(kernels.bytes_per_value() * n_padded * n_columns), bias(sizeof(float) * n_columns);
        const Memory scratch(kernels.multiply_scratch(depth));
        Product product = {};
        product.input = {input.get(), N_ROWS, rows_per_block, depth};
        product.bias = bias.floats();
        product.activation = activation;
        product.residual = with_residual ? residual.floats() : nullptr;
        product.rows = to_tiles ? nullptr : rows.floats();
        product.tiles = {to_tiles ? tiles.get() : nullptr, N_ROWS, rows_per_block, n_columns};
        const double gflops = best_gflops(2.0 * N_ROWS * depth * n_columns * n_layers, [&] {
            for (int layer = 0; layer < n_layers; layer++) {
                product.weights = {weights.get() + layer * matrix_bytes, format, depth, n_columns};
                kernels.multiply(product, 0, n_panels, scratch.get());
            }
        });
        char line[80];
        snprintf(line, sizeof line, "%s, %d x %d, %d layer%s", what, depth, n_columns, n_layers,
                 n_layers > 1 ? "s" : "");
        print(line, gflops);
    }
}

void print_attention(const Kernels & kernels, int rows_per_text) {
    constexpr int N_HEADS = 12, HEAD_SIZE = 32, WIDTH = N_HEADS * HEAD_SIZE;
    const Memory query(sizeof(float) * N_ROWS * WIDTH), key(sizeof(float) * N_ROWS * WIDTH);
    const Memory value(sizeof(float) * N_ROWS * WIDTH), tiles(sizeof(float) * 2 * N_ROWS * WIDTH);
    const Memory scratch(kernels.attend_scratch(rows_per_text, HEAD_SIZE));
    const auto heads = [&](const Memory & memory) -> Heads {
        if (kernels.attends_to_tiles) {
            return {nullptr, 0, 0, {memory.get(), N_ROWS, N_ROWS + LINES_BEYOND, WIDTH}};
        }
        return {memory.floats(), WIDTH, HEAD_SIZE, {}};
    };
    Attention attention = {};
    attention.query = heads(query);
    attention.key = heads(key);
    attention.value = heads(value);
    attention.head_size = HEAD_SIZE;
    attention.scale = 0.2f;
    attention.tiles = {tiles.get(), N_ROWS, kernels.rows_per_block, WIDTH};
    attention.row_stride = WIDTH;
    const int n_texts = N_ROWS / rows_per_text;
    const double operations = 4.0 * n_texts * N_HEADS * rows_per_text * rows_per_text * HEAD_SIZE;
    char line[80];
    snprintf(line, sizeof line, "attention, texts of %d tokens", rows_per_text);
    print(line, best_gflops(operations, [&] {
              for (int text = 0; text < n_texts; text++) {
                  for (int head = 0; head < N_HEADS; head++) {
                      kernels.attend(attention, text * rows_per_text, rows_per_text, head, scratch.get());
                  }
              }
          }));
}

}  // namespace

int main(int argc, char ** argv) {
    set_limit(static_cast<InstructionSet>(N_INSTRUCTION_SETS - 1));
    const Kernels * kernels = choose_kernels(argc > 1 ? argv[1] : "", false);
    if (!kernels) {
        fprintf(stderr, "this machine does not run kernels called %s\n", argv[1]);
        return 1;
    }
    if (const char * reason = missing(InstructionSet::AMX)) {
        printf("no AMX: %s\n", reason);
    } else if (const char * refusal = tiles_refused()) {
        printf("no AMX: %s\n", refusal);
    }
    printf("%s, one core, GFLOP/s and the share of products of registers\n", kernels->name);
    print_limits(*kernels);
    print_product(*kernels, "product", 384, 384, Activation::NONE, false, false);
    print_product(*kernels, "to tiles", 384, 1536, Activation::NONE, false, true);
    print_product(*kernels, "to tiles with GELU", 384, 1536, Activation::GELU_ERF, false, true);
    print_product(*kernels, "with a residual", 1536, 384, Activation::NONE, true, false);
    for (const int rows_per_text : {16, 64, 256}) {
        print_attention(*kernels, rows_per_text);
    }
}
