# SPDX-License-Identifier: Apache-2.0
"""Is this a model that llama.cpp may load?

llama.cpp answers some malformed files with ``abort()`` or an out-of-bounds read, either of which
ends the Python process. :func:`check_model` refuses those files first. What llama.cpp refuses by
itself, with an exception that becomes a null pointer, is left to it: missing tensors, wrong
shapes (``llama_model_loader::check_tensor_dims``), metadata of the wrong type.

File names below are those of the pinned llama.cpp release.
"""

from __future__ import annotations

import difflib
import re

from embellama.gguf.architectures import ARCHITECTURES, EXAMINED_ARCHITECTURES, NOT_FOR_TEXTS
from embellama.gguf.dense_modules import read_dense_modules
from embellama.gguf.header import GGUFHeader, TensorInfo
from embellama.gguf.hyper_parameters import HyperParameters, read_hyper_parameters
from embellama.gguf.memory import check_context
from embellama.gguf.tokenizer_check import check_tokenizer

__all__ = ["check_model"]

# Types with a dot product and a conversion to float: type_traits_cpu in ggml-cpu.c and
# ggml_compute_forward_get_rows in ops.cpp. With another type a product calls a null pointer.
_MATRIX_TYPE_NAMES = """
    F32 F16 BF16 Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K Q3_K Q4_K Q5_K Q6_K IQ1_S IQ1_M IQ2_XXS IQ2_XS
    IQ2_S IQ3_XXS IQ3_S IQ4_NL IQ4_XS TQ1_0 TQ2_0 MXFP4 NVFP4 Q1_0 Q2_0
"""
_MATRIX_TYPES = frozenset(_MATRIX_TYPE_NAMES.split())
_INDEX_TYPES = frozenset(("I32", "I64"))
# Tensors that are added or multiplied element by element: binary_op in binary-ops.cpp aborts
# unless they are F32, and so does ggml_rope_impl in ggml.c.
_ELEMENTWISE = re.compile(r"norm|\.bias$|scale$|^rope_f|^token_types\.|_scale\.weight$")
_TENSOR_ALIGNMENT = 32  # ggml-impl.h; ggml_backend_cpu_buffer_from_ptr asserts it
_RANK = 4  # LLAMA_POOLING_TYPE_RANK, llama.h


def check_model(header: GGUFHeader) -> HyperParameters:
    """Refuse a file that llama.cpp must not load, or that holds no model for texts.

    Parameters
    ----------
    header : GGUFHeader
        Of the file.

    Returns
    -------
    HyperParameters
        What the file says of the model.

    Raises
    ------
    ModelLoadError
        If the file holds no model that embeds texts, or if llama.cpp would abort, read out of
        bounds, hang or exhaust the memory on it.

    Examples
    --------
    >>> from embellama import catalog
    >>> from embellama.gguf.check import check_model
    >>> from embellama.gguf.reader import read_header
    >>> check_model(read_header(catalog.resolve("all-MiniLM-L6-v2"))).n_layers
    6
    """
    _check_strings(header)
    _check_kind(header)
    hyper_parameters = read_hyper_parameters(header)
    _check_tensor_types(header, hyper_parameters)
    _check_classifier(header, hyper_parameters)
    read_dense_modules(header, hyper_parameters.embedding_length)
    check_tokenizer(header)
    if hyper_parameters.family is not None:
        _check_shapes(header, hyper_parameters)
        check_context(header, hyper_parameters)
    return hyper_parameters


def _check_strings(header: GGUFHeader) -> None:
    for key, kind in header.types.items():
        if kind == "str" and "\0" in header.metadata[key]:
            raise header.error(f"{key!r} holds a NUL character, where llama.cpp would cut it")


def _check_kind(header: GGUFHeader) -> None:
    architecture = header.architecture
    kind = header.typed("general.type", "str")
    if kind not in (None, "model"):
        raise header.error(
            f"it holds no model but is of the kind {kind!r}", "Load the model it belongs to"
        )
    if not architecture:
        raise header.error("'general.architecture' is missing")
    if architecture not in ARCHITECTURES:
        near = difflib.get_close_matches(architecture, sorted(ARCHITECTURES), n=3)
        hint = f"Did its converter mean {' or '.join(map(repr, near))}? " if near else ""
        raise header.error(
            f"the architecture {architecture!r} is unknown to this release of llama.cpp",
            f"{hint}Among those supported are {', '.join(sorted(EXAMINED_ARCHITECTURES))}",
        )
    if architecture in NOT_FOR_TEXTS:
        raise header.error(
            f"{architecture!r} is {NOT_FOR_TEXTS[architecture]}, which embeds no texts",
            "Load a text or embedding model",
        )
    parts = header.metadata.get("split.count", 1)
    if header.types.get("split.count", "u16") != "u16" or parts > 1:
        raise header.error(
            f"it is one of {parts} parts of a split model",
            "Join them: llama-gguf-split --merge FIRST_PART WHOLE",
        )
    if not header.tensors:
        raise header.error("it holds no weights, only a vocabulary", "Load the model itself")
    # A mapped tensor sits at its place in the file.
    if header.alignment % _TENSOR_ALIGNMENT:
        raise header.error(
            f"'general.alignment' is {header.alignment}; llama.cpp maps multiples of "
            f"{_TENSOR_ALIGNMENT} only"
        )


def _check_tensor_types(header: GGUFHeader, hyper_parameters: HyperParameters) -> None:
    for tensor in header.tensors.values():
        allowed = _MATRIX_TYPES
        if hyper_parameters.family is None:
            allowed = _MATRIX_TYPES | _INDEX_TYPES
        elif _ELEMENTWISE.search(tensor.name):
            allowed = frozenset(("F32",))
        if tensor.type not in allowed:
            raise header.error(
                f"tensor {tensor.name!r} is of type {tensor.type}, with which llama.cpp "
                f"cannot compute",
                "Convert or quantise the model anew",
            )
        # build_ffn asserts that no tensor has both a scale and a bias, load_tensors that no tied
        # output has a scale.
        if tensor.type == "NVFP4":
            stem = tensor.name.removesuffix(".weight")
            tensors = header.tensors
            scaled = f"{stem}.scale" in tensors
            tied = stem == "token_embd" and (
                "output.scale" in tensors or "output.input_scale" in tensors
            )
            if (scaled and f"{stem}.bias" in tensors) or (tied and "output.weight" not in tensors):
                raise header.error(
                    f"tensor {tensor.name!r} has a scale where llama.cpp allows none"
                )


def _check_classifier(header: GGUFHeader, hyper_parameters: HyperParameters) -> None:
    """llama_context::encode copies a score for each label out of the head's result."""
    head = header.tensors.get("cls.output.weight", header.tensors.get("cls.weight"))
    n_scores = _columns(head) if head else hyper_parameters.embedding_length
    if hyper_parameters.n_labels > n_scores:
        raise header.error(f"it names {hyper_parameters.n_labels} labels for {n_scores} scores")
    if head is None and hyper_parameters.pooling_type == _RANK:
        raise header.error(
            f"'{header.architecture}.pooling_type' says it is a reranker, but the tensor "
            "'cls.output.weight' is missing"
        )


def _check_shapes(header: GGUFHeader, hyper_parameters: HyperParameters) -> None:
    """Shapes that a graph relies on and no loader checks (src/models/*.cpp)."""
    tensors = header.tensors
    if header.architecture == "t5encoder":
        if "enc.blk.0.attn_rel_b.weight" not in tensors:
            raise header.error("the tensor 'enc.blk.0.attn_rel_b.weight' is missing")
    elif header.architecture == "jina-bert-v2":
        n_inner = hyper_parameters.feed_forward_length
        for layer in range(hyper_parameters.n_layers):
            up = tensors.get(f"blk.{layer}.ffn_up.weight")
            gated = f"blk.{layer}.ffn_gate.weight" in tensors
            allowed = (n_inner,) if gated else (n_inner, 2 * n_inner)
            if up is not None and _columns(up) not in allowed:
                raise header.error(f"tensor {up.name!r} has the shape {up.shape}")
            if not gated and f"blk.{layer}.attn_q_norm.weight" in tensors:
                raise header.error(
                    f"tensor 'blk.{layer}.ffn_up.weight' of a jina-embeddings-v2-base-code has its "
                    "gate where llama.cpp does not look for it, and its vectors would be wrong",
                    "Convert the checkpoint with `embellama convert`",
                )


def _columns(tensor: TensorInfo) -> int:
    return tensor.shape[1] if len(tensor.shape) > 1 else 1
