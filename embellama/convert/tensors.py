# SPDX-License-Identifier: Apache-2.0
"""Which tensor of a checkpoint becomes which tensor of a GGUF file."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from embellama.convert.network import Network
from embellama.convert.weights import StoredTensor
from embellama.errors import ModelLoadError

# The adapters of jina-embeddings-v3, which its network uses for a text only if it is given a task,
# and a buffer of old checkpoints that follows from RoPE's base.
_LEFT_OUT = re.compile(r"\.(parametrizations\.weight\.0\.lora_[AB]|rotary_emb\.inv_freq)$")

_ALWAYS_F32 = ("position_embd.weight", "token_types.weight")


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A tensor of the GGUF file.

    Attributes
    ----------
    name : str
        Its name in the GGUF file.
    source : StoredTensor
        The tensor of the checkpoint.
    rows : sequence of int or None
        The rows of `source` to take, in their order; None for all.
    plus_one : bool
        Whether 1 is added to each value.
    """

    name: str
    source: StoredTensor
    rows: Sequence[int] | None
    plus_one: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """Outermost dimension first."""
        first, *others = self.source.shape
        return (first if self.rows is None else len(self.rows), *others)

    def file_type(self, wanted: str) -> str:
        """Return the type of the stored tensor in a file whose weights have the type `wanted`."""
        return "F32" if len(self.shape) == 1 or self.name in _ALWAYS_F32 else wanted

    def read(self) -> npt.NDArray[np.floating[Any]]:
        """Return the values."""
        values = self.source.read()
        if self.plus_one:
            # In float32 also where the checkpoint has fewer digits.
            values = values.astype(np.float32) + np.float32(1)
        return values if self.rows is None else values[np.asarray(self.rows)]


def _module_name(name: str, prefixes: tuple[str, ...]) -> str:
    """Return the name in the bare encoder, with the current names of the layer norms."""
    for prefix in prefixes:
        name = name.removeprefix(prefix)
    # jina-embeddings-v3 stores the weights beside the adapters of its tasks.
    name = name.replace(".parametrizations.weight.original", ".weight")
    if name.endswith(".gamma"):
        return name.removesuffix("gamma") + "weight"
    if name.endswith(".beta"):
        return name.removesuffix("beta") + "bias"
    return name


def map_tensors(
    network: Network, checkpoint: Path, stored: dict[str, StoredTensor]
) -> list[Tensor]:
    """Return the tensors of the GGUF file, or raise ModelLoadError if the checkpoint lacks any."""
    places = network.places()
    found: dict[str, list[Tensor]] = {}
    for name, tensor in stored.items():
        module_name = _module_name(name, network.prefixes)
        if module_name not in places:
            if module_name.startswith(network.unused) or _LEFT_OUT.search(module_name):
                continue
            raise ModelLoadError(
                f"{tensor.path}: llama.cpp has no place for the tensor {name}; the checkpoint is "
                "not of the architecture that its config.json names, or has more layers"
            )
        if module_name in found:
            other = found[module_name][0].source.name
            raise ModelLoadError(
                f"{tensor.path}: {name} and {other} are the same tensor; remove one of them"
            )
        shape = places[module_name][0].shape
        if tensor.shape != shape:
            raise ModelLoadError(
                f"{tensor.path}: {name} has the shape {tensor.shape}, but config.json asks for "
                f"{shape}; the files are of different checkpoints, download them again"
            )
        found[module_name] = [
            Tensor(place.name, tensor, place.rows, place.plus_one) for place in places[module_name]
        ]
    missing = [source for source in places if source not in found]
    if missing:
        raise ModelLoadError(
            f"{checkpoint}: {len(missing)} of the model's tensors are missing, the first is "
            f"{missing[0]}; download the checkpoint again, with all its files"
        )
    return [tensor for tensors in found.values() for tensor in tensors]
