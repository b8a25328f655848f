# SPDX-License-Identifier: Apache-2.0
"""The dense modules of a model, which embellama computes after the pooling."""

from __future__ import annotations

import dataclasses

from embellama.gguf.header import GGUFHeader

__all__ = ["DENSE_NAMES", "DenseModule", "activation_key", "read_dense_modules"]

# LLM_TENSOR_DENSE_2_OUT and LLM_TENSOR_DENSE_3_OUT, llama-arch.cpp: the folders of
# EmbeddingGemma's modules, 2_Dense and 3_Dense.
DENSE_NAMES = ("dense_2", "dense_3")
_MAX_WIDTH = 2**20


@dataclasses.dataclass(frozen=True)
class DenseModule:
    """A module ``activation(weights @ vector + bias)``.

    Attributes
    ----------
    n_in, n_out : int
        Length of the vector before and after it.
    has_bias : bool
    activation : str or None
        ``"tanh"``, or None.
    """

    n_in: int
    n_out: int
    has_bias: bool
    activation: str | None

    def __str__(self) -> str:
        bias = " with bias" if self.has_bias else ""
        return f"{self.n_in} to {self.n_out}{bias}{f', {self.activation}' * bool(self.activation)}"


def activation_key(name: str) -> str:
    """Return the key of a module's activation."""
    return f"embellama.{name}.activation"


def read_dense_modules(header: GGUFHeader, width: int) -> tuple[DenseModule, ...]:
    """Read what a file says of its dense modules.

    Parameters
    ----------
    header : GGUFHeader
    width : int
        Length of a token's vector.

    Returns
    -------
    tuple of DenseModule
        In the order in which they are computed; empty for a model without any.

    Raises
    ------
    ModelLoadError
        If they do not fit together, or have an activation that is unknown.
    """
    # LFM2's is for each token, and part of llama.cpp's graph.
    if header.architecture == "lfm2":
        return ()
    modules: list[DenseModule] = []
    for name in DENSE_NAMES:
        weight, bias = (header.tensors.get(f"{name}.{part}") for part in ("weight", "bias"))
        activation = header.typed(activation_key(name), "str")
        if weight is None:
            if bias is not None or activation is not None:
                raise header.error(f"the tensor '{name}.weight' is missing")
            continue
        fits = len(weight.shape) == 2 and weight.shape[0] == width and weight.shape[1] <= _MAX_WIDTH
        if not fits or (bias is not None and bias.shape != weight.shape[1:]):
            raise header.error(f"its dense module {name!r} does not fit what comes before it")
        if activation not in (None, "tanh"):
            raise header.error(f"{activation_key(name)!r} is {activation!r}, not tanh")
        width = weight.shape[1]
        modules.append(DenseModule(weight.shape[0], width, bias is not None, activation))
    return tuple(modules)
