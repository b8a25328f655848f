// SPDX-License-Identifier: Apache-2.0
// One registration with two devices. The device *compute* uses the CPU's own buffer type: it shares
// all memory with llama.cpp's CPU backend, and the scheduler therefore moves the CPU's nodes to it
// (ggml-backend.cpp, pass 3). The device *weights* computes nothing. It has the packed buffer type,
// which llama.cpp tries for each weight at load (llama-model.cpp, make_cpu_buft_list).
#include "device.hpp"

#include <cstring>
#include <exception>
#include <memory>

#include "computation.hpp"
#include "ggml-backend-impl.h"
#include "ggml-cpu.h"
#include "ggml-impl.h"
#include "packed_weights.hpp"
#include "plan.hpp"
#include "visibility.hpp"

// The structures below have the layout of this version.
static_assert(GGML_BACKEND_API_VERSION == 3, "look through ggml-backend-impl.h before raising this number");

namespace embellama::encoder {

namespace {

ggml_backend_dev_t cpu_device() { return ggml_backend_reg_dev_get(ggml_backend_cpu_reg(), 0); }

// --- backend: one per context

const char * backend_name(ggml_backend_t) { return "embellama"; }

Computation & computation(ggml_backend_t backend) { return *static_cast<Computation *>(backend->context); }

void free_backend(ggml_backend_t backend) {
    delete static_cast<Computation *>(backend->context);
    delete backend;
}

ggml_status graph_compute(ggml_backend_t backend, ggml_cgraph * graph) { return computation(backend).compute(graph); }

ggml_guid guid = {0x65, 0x6d, 0x62, 0x65, 0x6c, 0x6c, 0x61, 0x6d, 0x61, 0x20, 0x65, 0x6e, 0x63, 0x6f, 0x64, 0x65};

ggml_backend_t init_backend(ggml_backend_dev_t device, const char *) {
    ggml_backend_i iface = {};
    iface.get_name = backend_name;
    iface.free = free_backend;
    iface.graph_compute = graph_compute;
    try {
        auto context = std::make_unique<Computation>();
        return new ggml_backend{&guid, iface, device, context.release()};
    } catch (const std::exception &) {
        return nullptr;  // llama.cpp then throws
    }
}

void set_n_threads(ggml_backend_t backend, int n_threads) { computation(backend).set_n_threads(n_threads); }

void set_abort_callback(ggml_backend_t backend, ggml_abort_callback callback, void * data) {
    computation(backend).set_abort_callback(callback, data);
}

// --- devices

// While an EncoderVisibility exists, the device is an accelerator. Otherwise it is a second CPU device, which
// llama.cpp does not use: llama.cpp computes on the first CPU device. It also asks this device for
// a buffer type, and this device then supports no operation with it.
enum ggml_backend_dev_type device_type(ggml_backend_dev_t) {
    return EncoderVisibility::current() ? GGML_BACKEND_DEVICE_TYPE_ACCEL : GGML_BACKEND_DEVICE_TYPE_CPU;
}

void device_memory(ggml_backend_dev_t, size_t * free, size_t * total) { *free = *total = 0; }

void device_properties(ggml_backend_dev_t device, ggml_backend_dev_props * properties) {
    *properties = {};
    properties->name = device->iface.get_name(device);
    properties->description = device->iface.get_description(device);
    properties->type = device_type(device);
}

const char * compute_name(ggml_backend_dev_t) { return "embellama"; }

const char * compute_description(ggml_backend_dev_t) { return "fused encoders on the CPU"; }

ggml_backend_buffer_type_t compute_buffer_type(ggml_backend_dev_t) { return ggml_backend_cpu_buffer_type(); }

// The kernels whose buffer type holds a source of the operation; null if there is none.
const Kernels * kernels_for(const ggml_tensor * operation) {
    for (const ggml_tensor * source : operation->src) {
        if (const Kernels * kernels = source ? kernels_of(source) : nullptr) {
            return kernels;
        }
    }
    return nullptr;
}

bool compute_supports_operation(ggml_backend_dev_t, const ggml_tensor * operation) {
    const Kernels * kernels = kernels_for(operation);
    return kernels ? plannable(*kernels, operation) : ggml_backend_dev_supports_op(cpu_device(), operation);
}

bool compute_supports_buffer_type(ggml_backend_dev_t, ggml_backend_buffer_type_t type) {
    return kernels_of(type) || ggml_backend_dev_supports_buft(cpu_device(), type);
}

const char * weights_name(ggml_backend_dev_t) { return "embellama weights"; }

const char * weights_description(ggml_backend_dev_t) { return "weights packed for the encoder"; }

ggml_backend_buffer_type_t weights_buffer_type(ggml_backend_dev_t) {
    return packed_buffer_type(EncoderVisibility::current() ? *EncoderVisibility::current()->kernels : generic_kernels);
}

// llama.cpp calls this with a tensor in an empty buffer of the packed type, and 512 rows to
// multiply.
bool weights_supports_operation(ggml_backend_dev_t, const ggml_tensor * operation) {
    return EncoderVisibility::current() && plannable(*EncoderVisibility::current()->kernels, operation);
}

bool weights_supports_buffer_type(ggml_backend_dev_t, ggml_backend_buffer_type_t type) { return kernels_of(type); }

ggml_backend_device make_device(ggml_backend_reg_t registration, bool weights) {
    ggml_backend_device_i iface = {};
    iface.get_name = weights ? weights_name : compute_name;
    iface.get_description = weights ? weights_description : compute_description;
    iface.get_memory = device_memory;
    iface.get_type = device_type;
    iface.get_props = device_properties;
    iface.init_backend = init_backend;
    iface.get_buffer_type = weights ? weights_buffer_type : compute_buffer_type;
    iface.supports_op = weights ? weights_supports_operation : compute_supports_operation;
    iface.supports_buft = weights ? weights_supports_buffer_type : compute_supports_buffer_type;
    return {iface, registration, nullptr};
}

// --- registration

const char * registration_name(ggml_backend_reg_t) { return "embellama"; }

size_t device_count(ggml_backend_reg_t) { return 2; }

ggml_backend_dev_t device_at(ggml_backend_reg_t registration, size_t index) {
    static ggml_backend_device devices[] = {make_device(registration, false), make_device(registration, true)};
    return &devices[index];
}

void * function_named(ggml_backend_reg_t, const char * name) {
    if (strcmp(name, "ggml_backend_set_n_threads") == 0) {
        return reinterpret_cast<void *>(set_n_threads);
    }
    if (strcmp(name, "ggml_backend_set_abort_callback") == 0) {
        return reinterpret_cast<void *>(set_abort_callback);
    }
    return nullptr;
}

}  // namespace

void register_backend() {
    static ggml_backend_reg registration = {
        GGML_BACKEND_API_VERSION, {registration_name, device_count, device_at, function_named}, nullptr};
    // The first call of any registry function creates the registry, with the CPU as its first
    // device.
    ggml_backend_dev_count();
    set_packed_device(device_at(&registration, 1));
    ggml_backend_register(&registration);
}

}  // namespace embellama::encoder
