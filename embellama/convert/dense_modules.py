# SPDX-License-Identifier: Apache-2.0
"""The Dense modules of sentence-transformers, which come after the pooling."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from embellama.convert.config_json import Config
from embellama.convert.network import Place
from embellama.convert.tensors import Tensor
from embellama.convert.weights import list_tensors
from embellama.errors import ModelLoadError
from embellama.gguf.dense_modules import DENSE_NAMES, activation_key
from embellama.gguf.dense_modules import DenseModule as StoredModule

if TYPE_CHECKING:
    from gguf import GGUFWriter

__all__ = ["DenseModule", "read_dense_modules"]

# The classes that embellama computes, and what a GGUF calls them; empty for none.
_ACTIVATIONS = {
    "torch.nn.modules.activation.Tanh": "tanh",
    "torch.nn.modules.linear.Identity": "",
}


@dataclasses.dataclass(frozen=True)
class DenseModule:
    """A Dense module: ``activation(weight @ vector + bias)``.

    Attributes
    ----------
    name : str
        What its tensors are called in the GGUF.
    n_in, n_out : int
        Length of the vector before and after it.
    activation : str
        What the GGUF calls it; empty for none.
    tensors : tuple of Tensor
    """

    name: str
    n_in: int
    n_out: int
    activation: str
    tensors: tuple[Tensor, ...]

    def __str__(self) -> str:
        has_bias = len(self.tensors) == 2
        return str(StoredModule(self.n_in, self.n_out, has_bias, self.activation or None))

    def write(self, writer: GGUFWriter) -> None:
        """Add its keys to a GGUF file."""
        writer.add_dense_features_dims(self.name, self.n_in, self.n_out)
        if self.activation:
            writer.add_string(activation_key(self.name), self.activation)


def _read(folder: Path, name: str, n_in: int) -> DenseModule:
    config = Config(folder / "config.json")
    # sentence-transformers' default; it saves null for a module without one.
    function = config.values.get("activation_function", "torch.nn.modules.activation.Tanh")
    if function is not None and function not in _ACTIVATIONS:
        raise config.error(
            f"activation_function is {function!r}; only {', '.join(_ACTIVATIONS)} are supported"
        )
    if config.flag("use_residual", False):
        raise config.error("use_residual is true, which is not supported")
    for end in ("module_input_name", "module_output_name"):
        if config.values.get(end) not in (None, "sentence_embedding"):
            raise config.error(
                f"{end} is {config.values[end]!r}; only modules for a text's vector are supported"
            )
    n_out = config.size("out_features", n_in)
    if config.size("in_features", n_in) != n_in:
        raise config.error(
            f"in_features is {config.values['in_features']}, but the vector before the module has "
            f"{n_in} dimensions; the files are of different checkpoints, download them again"
        )
    shapes: dict[str, tuple[int, ...]] = {"linear.weight": (n_out, n_in)}
    if config.flag("bias", True):
        shapes["linear.bias"] = (n_out,)
    stored = list_tensors(folder)
    found = {tensor: values.shape for tensor, values in stored.items()}
    if found != shapes:
        raise ModelLoadError(
            f"{folder}: the weights have the shapes {found}, but config.json asks for {shapes}; "
            "the files are of different checkpoints, download them again"
        )
    tensors = tuple(
        Tensor(Place(f"{name}.{tensor.removeprefix('linear.')}", shape), stored[tensor])
        for tensor, shape in shapes.items()
    )
    return DenseModule(name, n_in, n_out, _ACTIVATIONS.get(function or "", ""), tensors)


def read_dense_modules(folders: tuple[Path, ...], width: int) -> list[DenseModule]:
    """Read the modules in `folders`, the first of which takes vectors of `width` dimensions."""
    modules: list[DenseModule] = []
    for name, folder in zip(DENSE_NAMES, folders, strict=False):
        modules.append(_read(folder, name, width))
        width = modules[-1].n_out
    return modules
