# SPDX-License-Identifier: Apache-2.0
"""A network as a family's table describes it: its metadata, and where each tensor goes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

__all__ = ["Module", "Network", "Place", "linear", "norm", "table"]

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
    plus_one : bool
        Whether the GGUF has the weight with 1 added to each value.
    """

    name: str
    shape: tuple[str, ...]
    bias: bool = True
    rows: str = ""
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
    plus_one : bool
        Whether 1 is added to each value.
    """

    name: str
    shape: tuple[int, ...]
    rows: Sequence[int] | None
    plus_one: bool = False


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
                rows = self.rows[module.rows] if module.rows else None
                weight = Place(f"{name}.weight", shape, rows, module.plus_one)
                yield f"{origin}.weight", weight
                if module.bias:
                    yield f"{origin}.bias", Place(f"{name}.bias", shape[:1], rows)
