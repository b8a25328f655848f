# SPDX-License-Identifier: Apache-2.0
"""A GGUF file, written tensor by tensor."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from embellama.convert.architecture import Architecture
from embellama.convert.file_types import FILE_TYPES
from embellama.convert.tensors import Tensor
from embellama.convert.vocabulary import Vocabulary
from embellama.errors import ModelLoadError

if TYPE_CHECKING:
    from gguf import GGUFWriter


def _add_general_metadata(writer: GGUFWriter, checkpoint: Path) -> None:
    """Add what config.json, the model card and the directory's name say about the model."""
    import gguf

    n_parameters, n_shared, n_expert, n_experts = writer.get_total_parameter_count()
    try:
        metadata = gguf.Metadata.load(model_path=checkpoint, total_params=n_parameters)
        for name, value in vars(metadata).items():
            # YAML reads `model_version: 1.5` as a number; GGUF has a string there.
            if isinstance(value, (bool, int, float)) and not name.startswith("sampling_"):
                setattr(metadata, name, str(value))
        if metadata.name is None:
            metadata.name = checkpoint.name
        if metadata.size_label is None:
            metadata.size_label = gguf.size_label(n_parameters, n_shared, n_expert, n_experts)
        writer.add_type(gguf.GGUFType.MODEL)
        metadata.set_gguf_meta_model(writer)
    except Exception as error:
        # The heuristics of gguf-py fail in any way on a card they don't expect.
        raise ModelLoadError(
            f"{checkpoint / 'README.md'}: the model card's metadata can't be read ({error!r}); "
            "correct what stands between the first two lines of ---, or remove the file"
        ) from error


def _add_architecture(
    writer: GGUFWriter, architecture: Architecture, pooling_type: int | None, file_type: str
) -> None:
    writer.add_block_count(architecture.n_layers)
    writer.add_context_length(architecture.n_position_rows - architecture.position_offset)
    writer.add_embedding_length(architecture.n_embd)
    writer.add_feed_forward_length(architecture.n_ff)
    writer.add_head_count(architecture.n_heads)
    writer.add_layer_norm_eps(architecture.norm_epsilon)
    writer.add_file_type(FILE_TYPES[file_type])
    writer.add_causal_attention(False)
    if pooling_type is not None:
        writer.add_uint32("bert.pooling_type", pooling_type)
    writer.add_array("bert.classifier.output_labels", architecture.labels)


def _encode(tensor: Tensor, file_type: str) -> npt.NDArray[Any]:
    import gguf

    values = tensor.read()
    try:
        with np.errstate(over="raise"):
            return gguf.quants.quantize(values, gguf.GGMLQuantizationType[file_type])
    except FloatingPointError:
        raise ModelLoadError(
            f"{tensor.source.path}: {tensor.source.name} holds values too large for {file_type}; "
            "convert with file_type='BF16' or 'F32'"
        ) from None


def write_gguf(
    path: Path,
    *,
    checkpoint: Path,
    architecture: Architecture,
    pooling_type: int | None,
    vocabulary: Vocabulary,
    tensors: list[Tensor],
    file_type: str,
    progress: bool,
) -> None:
    """Write the GGUF file `path`; one tensor at a time is in memory.

    Parameters
    ----------
    path : pathlib.Path
    checkpoint : pathlib.Path
        Where the model card is.
    architecture : Architecture
    pooling_type : int or None
        A ``llama_pooling_type``.
    vocabulary : Vocabulary
    tensors : list of Tensor
    file_type : str
        ``"F32"``, ``"F16"`` or ``"BF16"``.
    progress : bool
        Show a progress bar.
    """
    import gguf
    from tqdm import tqdm

    writer = gguf.GGUFWriter(None, "bert")
    sizes = {"F32": 4, "F16": 2, "BF16": 2}
    types = [tensor.file_type(file_type) for tensor in tensors]
    n_bytes = [
        int(np.prod(tensor.shape, dtype=np.int64)) * sizes[stored]
        for tensor, stored in zip(tensors, types, strict=True)
    ]
    for tensor, stored, size in zip(tensors, types, n_bytes, strict=True):
        writer.add_tensor_info(
            tensor.name,
            tensor.shape,
            np.dtype(np.float32),
            size,
            raw_dtype=gguf.GGMLQuantizationType[stored],
        )
    _add_general_metadata(writer, checkpoint)
    _add_architecture(writer, architecture, pooling_type, file_type)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_token_type_count(architecture.n_token_types)
    vocabulary.write(writer)
    try:
        writer.write_header_to_file(path)
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        with tqdm(
            total=sum(n_bytes),
            unit="B",
            unit_scale=True,
            desc=checkpoint.name,
            disable=not progress,
        ) as bar:
            for tensor, stored, size in zip(tensors, types, n_bytes, strict=True):
                writer.write_tensor_data(_encode(tensor, stored))
                bar.update(size)
    finally:
        writer.close()
