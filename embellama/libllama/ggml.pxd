# SPDX-License-Identifier: Apache-2.0
# Mirrors ggml.h, ggml-backend.h and ggml-cpu.h of the pinned llama.cpp, as far as it is used.
from libcpp cimport bool

cdef extern from "ggml.h" nogil:
    const int GGML_MAX_N_THREADS

cdef extern from "ggml-cpu.h" nogil:
    cdef struct ggml_threadpool:
        pass
    ctypedef ggml_threadpool *ggml_threadpool_t

    void ggml_threadpool_free(ggml_threadpool_t threadpool) noexcept

    int ggml_cpu_has_avx() noexcept
    int ggml_cpu_has_avx2() noexcept
    int ggml_cpu_has_fma() noexcept
    int ggml_cpu_has_f16c() noexcept
    int ggml_cpu_has_avx_vnni() noexcept
    int ggml_cpu_has_avx512() noexcept
    int ggml_cpu_has_avx512_vnni() noexcept
    int ggml_cpu_has_avx512_bf16() noexcept
    int ggml_cpu_has_amx_int8() noexcept
    int ggml_cpu_has_neon() noexcept
    int ggml_cpu_has_dotprod() noexcept
    int ggml_cpu_has_matmul_int8() noexcept
    int ggml_cpu_has_sve() noexcept

    ctypedef bool (*ggml_cpu_amx_permission_t)() noexcept nogil
    void ggml_cpu_set_amx_permission(ggml_cpu_amx_permission_t permission) noexcept

cdef extern from "ggml-backend.h" nogil:
    cdef struct ggml_backend_device:
        pass
    ctypedef ggml_backend_device *ggml_backend_dev_t

    size_t ggml_backend_dev_count() except +
    ggml_backend_dev_t ggml_backend_dev_get(size_t index) except +
    const char *ggml_backend_dev_name(ggml_backend_dev_t device) noexcept
    const char *ggml_backend_dev_description(ggml_backend_dev_t device) noexcept
