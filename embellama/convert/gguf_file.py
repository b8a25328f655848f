# SPDX-License-Identifier: Apache-2.0
"""A GGUF file, written tensor by tensor."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from embellama.convert.dense_modules import DenseModule
from embellama.convert.file_types import FILE_TYPES
from embellama.convert.model_card import add_general_metadata, model_card_error
from embellama.convert.network import Network
from embellama.convert.sentence_transformers import SentenceTransformers
from embellama.convert.tensors import Tensor
from embellama.convert.vocabulary import Vocabulary
from embellama.errors import ModelLoadError
from embellama.gguf.header import CONVERTED_BY
from embellama.progress import progress_bar

if TYPE_CHECKING:
    from gguf import GGUFWriter


def _add_network(
    writer: GGUFWriter, network: Network, pooling_type: int | None, file_type: str
) -> None:
    writer.add_block_count(network.n_layers)
    writer.add_context_length(network.context_length)
    writer.add_file_type(FILE_TYPES[file_type])
    metadata = dict(network.metadata)
    if pooling_type is not None:
        metadata["pooling_type"] = pooling_type
    for name, value in metadata.items():
        key = f"{network.architecture}.{name}"
        if isinstance(value, bool):
            writer.add_bool(key, value)
        elif isinstance(value, int):
            writer.add_uint32(key, value)
        elif isinstance(value, float):
            writer.add_float32(key, value)
        elif isinstance(value, str):
            writer.add_string(key, value)
        else:
            writer.add_array(key, value)


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
    network: Network,
    settings: SentenceTransformers,
    dense: list[DenseModule],
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
    network : Network
    settings : SentenceTransformers
    dense : list of DenseModule
    vocabulary : Vocabulary
    tensors : list of Tensor
    file_type : str
        ``"F32"``, ``"F16"`` or ``"BF16"``.
    progress : bool
        Show a progress bar.
    """
    import gguf

    writer = gguf.GGUFWriter(None, network.architecture)
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
    writer.add_string(CONVERTED_BY, f"embellama {importlib.metadata.version('embellama')}")
    _add_network(writer, network, settings.pooling_type, file_type)
    for module in dense:
        module.write(writer)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    if network.n_token_types is not None:
        writer.add_token_type_count(network.n_token_types)
    vocabulary.write(writer)
    if network.rerank_template:
        writer.add_chat_template([{"name": "rerank", "template": network.rerank_template}])
    settings.write(writer, network.context_length)
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
