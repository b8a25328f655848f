# SPDX-License-Identifier: Apache-2.0
"""A network as a family's table describes it: its metadata, and where each tensor goes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Module", "Network", "Place", "Value", "linear", "norm", "table", "tensor"]

Value = bool | int | float | str | Sequence[str]


@dataclasses.dataclass(frozen=True)
class Module:
    """A module of the checkpoint.

    Attributes
    ----------
    name : str
        What its tensors are called in the GGUF; ``{}`` stands for the layer.
    shape : tuple of str
        The names of the sizes of its weight, outermost dimension first.
    bias : bool
        Whether it has a bias beside the weight.
    rows : str
        The name of the rows to take, in their order; empty for all as they are.
    is_tensor : bool
        Whether it is a single tensor, so that its names need no ``.weight``.
    matrices : str
        The name of how many matrices its rows are, one below the other; empty for one.
    transposed : bool
        Whether each of the matrices is to be transposed.
    plus_one : bool
        Whether the GGUF has the weight with 1 added to each value.
    """

    name: str
    shape: tuple[str, ...]
    bias: bool = True
    rows: str = ""
    is_tensor: bool = False
    matrices: str = ""
    transposed: bool = False
    plus_one: bool = False


def linear(
    name: str, out: str = "embd", into: str = "embd", *, bias: bool = True, rows: str = ""
) -> Module:
    """Return a module that multiplies with a matrix, from the size `into` to the size `out`."""
    return Module(name, (out, into), bias, rows)


def norm(name: str, size: str = "embd", *, bias: bool = True, plus_one: bool = False) -> Module:
    """Return a module that normalises vectors."""
    return Module(name, (size,), bias, plus_one=plus_one)


def table(name: str, n_rows: str, *, rows: str = "") -> Module:
    """Return a module with an embedding for each of its rows."""
    return Module(name, (n_rows, "embd"), bias=False, rows=rows)


def tensor(name: str, *shape: str, matrices: str = "", transposed: bool = False) -> Module:
    """Return a module that is a single tensor."""
    return Module(name, shape, bias=False, is_tensor=True, matrices=matrices, transposed=transposed)


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a tensor of the checkpoint goes.

    Attributes
    ----------
    name : str
        Of the tensor in the GGUF.
    shape : tuple of int
        Of the tensor in the checkpoint.
    rows : sequence of int or None
        The rows to take, in their order; None for all.
    n_matrices : int or None
        How many matrices the rows are, one below the other; None for one matrix without a third
        dimension.
    transposed : bool
        Whether each of the matrices is to be transposed.
    plus_one : bool
        Whether 1 is added to each value.
    """

    name: str
    shape: tuple[int, ...]
    rows: Sequence[int] | None = None
    n_matrices: int | None = None
    transposed: bool = False
    plus_one: bool = False

    @property
    def gguf_shape(self) -> tuple[int, ...]:
        """Of the tensor in the GGUF, outermost dimension first."""
        n_rows, *others = self.shape
        n_rows = n_rows if self.rows is None else len(self.rows)
        if self.n_matrices is None:
            return (n_rows, *others)
        matrix = (n_rows // self.n_matrices, *others)
        return (self.n_matrices, *(reversed(matrix) if self.transposed else matrix))

    def arrange(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the values of the tensor in the GGUF for those in the checkpoint."""
        if self.plus_one:
            # In float32 also where the checkpoint has fewer digits.
            values = values.astype(np.float32) + np.float32(1)
        if self.rows is not None:
            values = values[np.asarray(self.rows)]
        if self.n_matrices is not None:
            values = values.reshape(self.n_matrices, -1, values.shape[-1])
        return values.swapaxes(-1, -2) if self.transposed else values


@dataclasses.dataclass(frozen=True)
class Network:
    """A network that llama.cpp computes.

    Attributes
    ----------
    architecture : str
        llama.cpp's name.
    n_layers, n_tokens, context_length : int
        Layers; rows of the table of token embeddings; the longest text in tokens.
    n_token_types : int or None
        Rows of the table of token types; None for architectures that know no such thing.
    metadata : dict of str to value
        The keys that begin with the architecture's name, without it.
    modules : dict of str to Module
        The family's table: modules of the checkpoint, ``{}`` for the layer.
    sizes : dict of str to int
        The sizes that the table names.
    rows : dict of str to sequence of int
        The rows that the table names.
    second_uses : dict of str to Module
        Modules of the table that go to a second place too.
    constants : dict of str to tuple of float
        Tensors of the GGUF that the checkpoint does not hold.
    rerank_template : str
        The text that a query and a document are filled into; empty for none.
    prefixes : tuple of str
        What may stand before the name of a module: the name of the body in a model with a head.
    unused : tuple of str
        Beginnings of names of buffers, and of heads for other tasks.
    """

    architecture: str
    n_layers: int
    n_tokens: int
    context_length: int
    n_token_types: int | None
    metadata: Mapping[str, Value]
    modules: Mapping[str, Module]
    sizes: Mapping[str, int]
    prefixes: tuple[str, ...]
    unused: tuple[str, ...]
    rows: Mapping[str, Sequence[int]] = dataclasses.field(default_factory=dict)
    second_uses: Mapping[str, Module] = dataclasses.field(default_factory=dict)
    constants: Mapping[str, tuple[float, ...]] = dataclasses.field(default_factory=dict)
    rerank_template: str = ""

    def places(self) -> dict[str, list[Place]]:
        """Return for each tensor of the checkpoint where it goes."""
        places: dict[str, list[Place]] = {}
        for modules in (self.modules, self.second_uses):
            for source, place in self._places(modules):
                places.setdefault(source, []).append(place)
        return places

    def _places(self, modules: Mapping[str, Module]) -> Iterator[tuple[str, Place]]:
        for source, module in modules.items():
            # A table for all layers, or the name of one module.
            for layer in range(self.n_layers) if "{}" in module.name else (0,):
                origin, name = source.format(layer), module.name.format(layer)
                shape = tuple(self.sizes[size] for size in module.shape)
                if module.is_tensor:
                    n_matrices = self.sizes[module.matrices] if module.matrices else None
                    yield origin, Place(name, shape, None, n_matrices, module.transposed)
                    continue
                rows = self.rows[module.rows] if module.rows else None
                weight = Place(f"{name}.weight", shape, rows, plus_one=module.plus_one)
                yield f"{origin}.weight", weight
                if module.bias:
                    yield f"{origin}.bias", Place(f"{name}.bias", shape[:1], rows)
