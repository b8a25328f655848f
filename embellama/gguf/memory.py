# SPDX-License-Identifier: Apache-2.0
"""Small files that take much memory: what a thread needs to compute, from the header.

A few megabytes can describe a network of a few very wide layers, or of very many layers. No trained
model looks like that, so shapes out of proportion to their file are refused.
"""

from __future__ import annotations

import re
from collections import defaultdict

from embellama.gguf.header import GGUFHeader
from embellama.gguf.hyper_parameters import HyperParameters

__all__ = ["check_context", "context_bytes", "key_value_bytes"]

# Measured on models of 512 layers: nodes of the graph, the scheduler's and the allocator's tables.
_BYTES_PER_TENSOR = 2**14
_LAYER = re.compile(r"(?:enc\.)?blk\.(\d+)\.")
_CACHED = re.compile(r"\.attn_(?:k|v|qkv)\.weight$")

# A context has room for so many at least (LEAST_ROOM, native/worker_pool.cpp).
_LEAST_TOKENS = 256

_REMEDY = "No trained model is like that: it is damaged, or made to exhaust memory"
_FREE_FOR_CONTEXT = 32 * 2**20


def context_bytes(header: GGUFHeader, hyper_parameters: HyperParameters, n_tokens: int) -> int:
    """Return about how many bytes one thread needs to compute.

    Parameters
    ----------
    header : GGUFHeader
    hyper_parameters : HyperParameters
        Of that header.
    n_tokens : int
        Of the micro-batches.

    Returns
    -------
    int
        An upper bound for models that llama.cpp loads: of one layer all results are counted,
        though most of them take the room of an earlier one.
    """
    columns: defaultdict[int, int] = defaultdict(int)
    for tensor in header.tensors.values():
        layer = _LAYER.match(tensor.name)
        if layer is not None and len(tensor.shape) > 1:
            n_products = max(1, hyper_parameters.n_experts_used) if len(tensor.shape) > 2 else 1
            columns[int(layer[1])] += n_products * tensor.shape[1]
    values = (
        max(columns.values(), default=0)
        + 4 * hyper_parameters.embedding_length
        + n_tokens * max(hyper_parameters.head_counts)
    )
    return (
        4 * n_tokens * values
        + key_value_bytes(header, n_tokens)
        + _BYTES_PER_TENSOR * len(header.tensors)
    )


def key_value_bytes(header: GGUFHeader, n_tokens: int, *, in_float16: bool = False) -> int:
    """Return about how many bytes the keys and values of a causal model's attention take.

    Parameters
    ----------
    header : GGUFHeader
    n_tokens : int
        Of a micro-batch.
    in_float16 : bool, optional
        Whether they are float16. Default False: float32.

    Returns
    -------
    int
        An upper bound: a layer with a sliding window keeps fewer, and a model that is not causal
        none.
    """
    columns = sum(
        tensor.shape[1]
        for tensor in header.tensors.values()
        if len(tensor.shape) > 1 and _CACHED.search(tensor.name)
    )
    return (2 if in_float16 else 4) * n_tokens * columns


def check_context(header: GGUFHeader, hyper_parameters: HyperParameters) -> None:
    """Refuse shapes with which a thread would need more than 32 MiB and half the file's size.

    Parameters
    ----------
    header : GGUFHeader
    hyper_parameters : HyperParameters
        Of that header.

    Raises
    ------
    ModelLoadError
        If one would.
    """
    n_bytes = context_bytes(header, hyper_parameters, _LEAST_TOKENS)
    if n_bytes > max(_FREE_FOR_CONTEXT, header.file_size // 2):
        raise header.error(
            f"each thread would take up to {n_bytes >> 20} MiB of memory to compute with its "
            f"shapes, and the file has {header.file_size >> 20}",
            _REMEDY,
        )
