# SPDX-License-Identifier: Apache-2.0
"""A GGUF file, written tensor by tensor."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from embellama.convert.architecture import Architecture
from embellama.convert.file_types import FILE_TYPES
from embellama.convert.model_card import add_general_metadata, model_card_error
from embellama.convert.sentence_transformers import SentenceTransformers
from embellama.convert.tensors import Tensor
from embellama.convert.vocabulary import Vocabulary
from embellama.errors import ModelLoadError
from embellama.progress import progress_bar

if TYPE_CHECKING:
    from gguf import GGUFWriter


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
    settings: SentenceTransformers,
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
    settings : SentenceTransformers
    vocabulary : Vocabulary
    tensors : list of Tensor
    file_type : str
        ``"F32"``, ``"F16"`` or ``"BF16"``.
    progress : bool
        Show a progress bar.
    """
    import gguf

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
    add_general_metadata(writer, checkpoint)
    _add_architecture(writer, architecture, settings.pooling_type, file_type)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_token_type_count(architecture.n_token_types)
    vocabulary.write(writer)
    settings.write(writer, architecture.n_position_rows - architecture.position_offset)
    try:
        writer.write_header_to_file(path)
        try:
            # gguf-py packs the values here. All values except those of the model card were
            # checked.
            writer.write_kv_data_to_file()
        except OSError:
            raise
        except Exception as error:
            raise model_card_error(checkpoint, error) from error
        writer.write_ti_data_to_file()
        with progress_bar(
            progress, sum(n_bytes), unit="B", unit_scale=True, desc=checkpoint.name
        ) as bar:
            written = 0
            for tensor, stored, size in zip(tensors, types, n_bytes, strict=True):
                writer.write_tensor_data(_encode(tensor, stored))
                written += size
                bar.advance_to(written)
    finally:
        writer.close()
