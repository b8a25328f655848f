// SPDX-License-Identifier: Apache-2.0
#include "packed_weights.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "ggml-backend-impl.h"
#include "ggml-impl.h"
#include "ggml.h"
#include "visibility.hpp"

namespace embellama::encoder {

namespace {

constexpr size_t PAGE = 4096;
constexpr size_t HUGE_PAGE = size_t(2) << 20;

const std::array tables = {
    &generic_kernels,
#if defined(__x86_64__)
    &avx2_kernels,    &avx512_kernels, &avx512_bf16_kernels,
#if !defined(EMBELLAMA_WITHOUT_AMX)
    &amx_kernels,
#endif
#endif
};

WeightFormat format_in_file(ggml_type type) {
    switch (type) {
        case GGML_TYPE_F16:
            return WeightFormat::FLOAT16;
        case GGML_TYPE_BF16:
            return WeightFormat::BFLOAT16;
        case GGML_TYPE_Q8_0:
        case GGML_TYPE_Q4_0:
            return WeightFormat::INT8;
        default:
            return WeightFormat::FLOAT32;
    }
}

WeightFormat format_of(const Kernels & kernels, const ggml_tensor * tensor) {
    return kernels.format_for(format_in_file(tensor->type));
}

// Exact kernels have panels in 8, 16 and 32 bits. In 32 bits, weights of Q4_K would take seven times
// their memory.
bool takes_more_memory(const Kernels & kernels, const ggml_tensor * tensor) {
    return kernels.exact && format_of(kernels, tensor) == WeightFormat::FLOAT32 && tensor->type != GGML_TYPE_F32;
}

size_t bytes_per_panel(const Kernels & kernels, const ggml_tensor * tensor) {
    return kernels.panel_bytes(static_cast<int>(tensor->ne[0]), format_of(kernels, tensor));
}

// Splits rows of Q8_0 or Q4_0 (layout in ggml-common.h) into bytes and scales.
void take_apart(ggml_type type, const char * rows, size_t n_values, int8_t * values, float * scales) {
    const size_t block_size = ggml_type_size(type);
    for (size_t block = 0; block < n_values / 32; block++, rows += block_size, values += 32) {
        ggml_fp16_t scale;
        memcpy(&scale, rows, sizeof scale);
        scales[block] = ggml_fp16_to_fp32(scale);
        const char * bytes = rows + sizeof scale;
        if (type == GGML_TYPE_Q8_0) {
            memcpy(values, bytes, 32);
            continue;
        }
        for (int i = 0; i < 16; i++) {
            const uint8_t pair = static_cast<uint8_t>(bytes[i]);
            values[i] = static_cast<int8_t>((pair & 15) - 8);
            values[i + 16] = static_cast<int8_t>((pair >> 4) - 8);
        }
    }
}

// Packs columns_per_panel rows of a tensor into a panel.
void pack(const Kernels & kernels, const ggml_tensor * tensor, const char * rows, void * panel) {
    const int depth = static_cast<int>(tensor->ne[0]);
    const size_t n_values = static_cast<size_t>(kernels.columns_per_panel) * depth;
    const WeightFormat format = format_of(kernels, tensor);
    if (format == WeightFormat::INT8) {
        std::vector<int8_t> values(n_values);
        std::vector<float> scales(n_values / 32);
        take_apart(tensor->type, rows, n_values, values.data(), scales.data());
        kernels.pack_int8_panel(values.data(), scales.data(), depth, panel);
        return;
    }
    std::vector<float> floats(n_values);
    if (tensor->type == GGML_TYPE_F32) {
        memcpy(floats.data(), rows, n_values * sizeof(float));
    } else {
        // One call converts all rows: they follow each other without gaps, and hold whole blocks of
        // any type.
        ggml_get_type_traits(tensor->type)->to_float(rows, floats.data(), static_cast<int64_t>(n_values));
    }
    kernels.pack_panel(floats.data(), depth, format, panel);
}

const char * type_name(ggml_backend_buffer_type_t type) { return kernels_of(type)->name; }

void free_buffer(ggml_backend_buffer_t buffer) { free(buffer->context); }

void * base_of(ggml_backend_buffer_t buffer) { return buffer->context; }

void memset_tensor(ggml_backend_buffer_t, ggml_tensor * tensor, uint8_t value, size_t offset, size_t size) {
    memset(static_cast<char *>(tensor->data) + offset, value, size);
}

void set_panels(const Kernels & kernels, ggml_tensor * tensor, const void * data, size_t offset, size_t size) {
    const size_t size_in_file = ggml_row_size(tensor->type, tensor->ne[0]) * kernels.columns_per_panel;
    const size_t packed_size = bytes_per_panel(kernels, tensor);
    const char * source = static_cast<const char *>(data);
    // llama.cpp writes whole tensors. If it wrote a part, only the panels that the part covers
    // would be written.
    const size_t first = (offset + size_in_file - 1) / size_in_file;
    for (size_t panel = first; (panel + 1) * size_in_file <= offset + size; panel++) {
        pack(kernels, tensor, source + (panel * size_in_file - offset),
             static_cast<char *>(tensor->data) + panel * packed_size);
    }
}

// A tensor that is not packable has the same layout in the buffer as in a file.
void set_tensor(ggml_backend_buffer_t buffer, ggml_tensor * tensor, const void * data, size_t offset, size_t size) {
    const Kernels & kernels = *kernels_of(buffer->buft);
    if (packable(kernels, tensor)) {
        set_panels(kernels, tensor, data, offset, size);
    } else {
        memcpy(static_cast<char *>(tensor->data) + offset, data, size);
    }
    if (EncoderVisibility::current() && EncoderVisibility::current()->mapped) {
        // The file's pages are not needed any more. The pages at both ends are kept, because they
        // hold other tensors too.
        const uintptr_t begin = (reinterpret_cast<uintptr_t>(data) + PAGE - 1) & ~(PAGE - 1);
        const uintptr_t end = (reinterpret_cast<uintptr_t>(data) + size) & ~(PAGE - 1);
        if (begin < end) {
            madvise(reinterpret_cast<void *>(begin), end - begin, MADV_DONTNEED);
        }
    }
}

// Nothing that embellama calls reads weights back (saving a model and merging adapters would). The
// result has all bits set, which is NaN in float types and in the scales of quantised types, so
// that a computation with it fails visibly.
void get_tensor(ggml_backend_buffer_t buffer, const ggml_tensor * tensor, void * data, size_t offset, size_t size) {
    if (packable(*kernels_of(buffer->buft), tensor)) {
        GGML_LOG_ERROR("%s: %s is packed for the encoder and can't be read back\n", __func__, tensor->name);
        memset(data, 0xff, size);
    } else {
        memcpy(data, static_cast<const char *>(tensor->data) + offset, size);
    }
}

void clear(ggml_backend_buffer_t buffer, uint8_t value) { memset(buffer->context, value, buffer->size); }

ggml_backend_buffer_t alloc_buffer(ggml_backend_buffer_type_t type, size_t size) {
    void * memory = nullptr;
    if (posix_memalign(&memory, size >= HUGE_PAGE ? HUGE_PAGE : PAGE, size) != 0) {
        return nullptr;
    }
#if defined(MADV_HUGEPAGE)
    madvise(memory, size, MADV_HUGEPAGE);
#endif
    ggml_backend_buffer_i iface = {};
    iface.free_buffer = free_buffer;
    iface.get_base = base_of;
    iface.memset_tensor = memset_tensor;
    iface.set_tensor = set_tensor;
    iface.get_tensor = get_tensor;
    iface.clear = clear;
    return ggml_backend_buffer_init(type, iface, memory, size);
}

size_t alignment(ggml_backend_buffer_type_t) { return 64; }

size_t alloc_size(ggml_backend_buffer_type_t type, const ggml_tensor * tensor) {
    const Kernels & kernels = *kernels_of(type);
    return packable(kernels, tensor) ? tensor->ne[1] / kernels.columns_per_panel * bytes_per_panel(kernels, tensor)
                                     : ggml_nbytes(tensor);
}

// False, because llama.cpp would read host memory as if it had the layout of the file.
bool is_host(ggml_backend_buffer_type_t) { return false; }

std::array<ggml_backend_buffer_type, tables.size()> make_types() {
    std::array<ggml_backend_buffer_type, tables.size()> types = {};
    for (size_t i = 0; i < tables.size(); i++) {
        types[i].iface.get_name = type_name;
        types[i].iface.alloc_buffer = alloc_buffer;
        types[i].iface.get_alignment = alignment;
        types[i].iface.get_alloc_size = alloc_size;
        types[i].iface.is_host = is_host;
        types[i].context = const_cast<Kernels *>(tables[i]);
    }
    return types;
}

std::array<ggml_backend_buffer_type, tables.size()> buffer_types = make_types();

}  // namespace

ggml_backend_buffer_type_t packed_buffer_type(const Kernels & kernels) {
    const auto found = std::find(tables.begin(), tables.end(), &kernels);
    return &buffer_types[found - tables.begin()];
}

const Kernels * kernels_of(ggml_backend_buffer_type_t type) {
    return type && type->iface.alloc_buffer == alloc_buffer ? static_cast<const Kernels *>(type->context) : nullptr;
}

const Kernels * kernels_of(const ggml_tensor * tensor) {
    const ggml_backend_buffer_t buffer = tensor->view_src ? tensor->view_src->buffer : tensor->buffer;
    return buffer ? kernels_of(buffer->buft) : nullptr;
}

bool packable(const Kernels & kernels, const ggml_tensor * tensor) {
    return (tensor->type == GGML_TYPE_F32 || ggml_get_type_traits(tensor->type)->to_float) && !tensor->view_src &&
           tensor->ne[0] % GRANULE == 0 && tensor->ne[1] % GRANULE == 0 && tensor->ne[2] == 1 && tensor->ne[3] == 1 &&
           ggml_is_contiguous(tensor) && !takes_more_memory(kernels, tensor);
}

bool widenable(const Kernels & kernels, const ggml_tensor * tensor) {
    return kernels.exact && !packable(kernels, tensor) && tensor->type != GGML_TYPE_F32 &&
           ggml_get_type_traits(tensor->type)->to_float && !tensor->view_src && ggml_is_contiguous(tensor);
}

void widen(const ggml_tensor * tensor, int64_t first_row, int64_t n_rows, float * values) {
    const char * rows = static_cast<const char *>(tensor->data) + first_row * tensor->nb[1];
    ggml_get_type_traits(tensor->type)->to_float(rows, values, n_rows * tensor->ne[0]);
}

Weights weights_of(const ggml_tensor * tensor) {
    return {tensor->data, format_of(*kernels_of(tensor), tensor), static_cast<int>(tensor->ne[0]),
            static_cast<int>(tensor->ne[1])};
}

void unpack_panel(const ggml_tensor * tensor, int panel, float * values) {
    const Kernels & kernels = *kernels_of(tensor);
    const int n_columns = kernels.columns_per_panel;
    const char * source = static_cast<const char *>(tensor->data) + panel * bytes_per_panel(kernels, tensor);
    for (int64_t k = 0; k < tensor->ne[0]; k += 2) {
        for (int column = 0; column < n_columns; column++, source += sizeof(uint32_t)) {
            uint32_t word;
            memcpy(&word, source, sizeof word);
            const uint32_t first = word << 16, second = word & 0xffff0000;
            memcpy(values + column, &first, sizeof first);
            memcpy(values + n_columns + column, &second, sizeof second);
        }
        values += 2 * n_columns;
    }
}

void set_packed_device(ggml_backend_dev_t device) {
    for (ggml_backend_buffer_type & type : buffer_types) {
        type.device = device;
    }
}

}  // namespace embellama::encoder
