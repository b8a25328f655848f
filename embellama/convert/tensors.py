# SPDX-License-Identifier: Apache-2.0
"""Which tensor of a checkpoint becomes which tensor of a GGUF file."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from embellama.convert.network import Network, Place
from embellama.convert.weights import Constant, Source
from embellama.errors import ModelLoadError

# A buffer of old checkpoints, which follows from RoPE's base.
_LEFT_OUT = ".rotary_emb.inv_freq"

# As in llama.cpp's converter; the last one chooses a token's experts.
_ALWAYS_F32 = ("position_embd.weight", "token_types.weight", ".ffn_gate_inp.weight")


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A tensor of the GGUF file.

    Attributes
    ----------
    place : Place
        Where it goes.
    source : Source
        What it is made of.
    """

    place: Place
    source: Source

    @property
    def name(self) -> str:
        """Its name in the GGUF file."""
        return self.place.name

    @property
    def shape(self) -> tuple[int, ...]:
        """Outermost dimension first."""
        return self.place.gguf_shape

    def file_type(self, wanted: str) -> str:
        """Return the type of the stored tensor in a file whose weights have the type `wanted`."""
        return "F32" if len(self.shape) == 1 or self.name.endswith(_ALWAYS_F32) else wanted

    def read(self) -> npt.NDArray[np.floating[Any]]:
        """Return the values."""
        return self.place.arrange(self.source.read())


def _module_name(name: str, prefixes: tuple[str, ...]) -> str:
    """Return the name in the bare encoder, with the current names of the layer norms."""
    for prefix in prefixes:
        name = name.removeprefix(prefix)
    if name.endswith(".gamma"):
        return name.removesuffix("gamma") + "weight"
    if name.endswith(".beta"):
        return name.removesuffix("beta") + "bias"
    return name


def map_tensors(network: Network, checkpoint: Path, stored: Mapping[str, Source]) -> list[Tensor]:
    """Return the tensors of the GGUF file, or raise ModelLoadError if the checkpoint lacks any."""
    places = network.places()
    found: dict[str, list[Tensor]] = {}
    for name, tensor in stored.items():
        module_name = _module_name(name, network.prefixes)
        if module_name not in places:
            if module_name.startswith(network.unused) or module_name.endswith(_LEFT_OUT):
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
        found[module_name] = [Tensor(place, tensor) for place in places[module_name]]
    missing = [source for source in places if source not in found]
    if missing:
        raise ModelLoadError(
            f"{checkpoint}: {len(missing)} of the model's tensors are missing, the first is "
            f"{missing[0]}; download the checkpoint again, with all its files"
        )
    constants = [
        Tensor(Place(name, (len(values),)), Constant(checkpoint / "config.json", name, values))
        for name, values in network.constants.items()
    ]
    return constants + [tensor for tensors in found.values() for tensor in tensors]
