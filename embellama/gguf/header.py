# SPDX-License-Identifier: Apache-2.0
"""What the header of a GGUF file holds: its metadata and its tensor table, not the weights."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from embellama.errors import ModelLoadError

__all__ = [
    "CONVERTED_BY",
    "LAYER_NORM_BEFORE_CUT",
    "GGUFHeader",
    "StringArray",
    "TensorInfo",
    "gguf_error",
]

# The key in which embellama.convert writes that a file is its own.
CONVERTED_BY = "embellama.converted_by"
# The key that says that a layer norm comes before vectors are cut.
LAYER_NORM_BEFORE_CUT = "embellama.layer_norm_before_cut"

_DAMAGED = "The file is damaged or made by hand: download it again, or convert the model anew"


class StringArray(Sequence[str]):
    """The strings of one metadata array, kept as the file's bytes and decoded when read.

    Examples
    --------
    >>> from embellama import catalog
    >>> from embellama.gguf.reader import read_header
    >>> header = read_header(catalog.resolve("all-MiniLM-L6-v2"))
    >>> tokens = header.metadata["tokenizer.ggml.tokens"]
    >>> tokens[100], len(tokens)
    ('[UNK]', 30522)
    """

    def __init__(self, data: bytes, starts: NDArray[np.int64]) -> None:
        # String i is data[starts[i] : starts[i + 1] - 8]: eight bytes of length precede each one.
        self._data = data
        self._starts = starts

    def __len__(self) -> int:
        return len(self._starts) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return self.encoded(index).decode("utf-8", "replace")

    def __iter__(self) -> Iterator[str]:
        return (string.decode("utf-8", "replace") for string in self.iterate_encoded())

    def __repr__(self) -> str:
        return f"<{len(self)} strings>"

    def encoded(self, index: int) -> bytes:
        """Return one string as the file spells it, which need not be valid UTF-8."""
        position = range(len(self))[index]
        return self._data[self._starts[position] : self._starts[position + 1] - 8]

    def iterate_encoded(self) -> Iterator[bytes]:
        """Iterate over all strings as the file spells them."""
        data = self._data
        starts = self._starts.tolist()
        return (data[start : end - 8] for start, end in itertools.pairwise(starts))

    @property
    def byte_lengths(self) -> NDArray[np.int64]:
        """Bytes of each string, shape (n,)."""
        lengths: NDArray[np.int64] = np.diff(self._starts) - 8
        return lengths


@dataclasses.dataclass(frozen=True)
class TensorInfo:
    """One entry of the tensor table.

    Attributes
    ----------
    name : str
        Such as ``blk.0.attn_q.weight``.
    shape : tuple of int
        As GGUF has it: the dimension that is contiguous in memory comes first.
    type : str
        Such as ``F32`` or ``Q8_0``.
    offset : int
        Where its data begin, in bytes from the start of the data section.
    n_bytes : int
        Bytes of its data.
    """

    name: str
    shape: tuple[int, ...]
    type: str
    offset: int
    n_bytes: int

    @property
    def n_elements(self) -> int:
        """Product of the shape."""
        return math.prod(self.shape)


@dataclasses.dataclass(frozen=True)
class GGUFHeader:
    """Everything in a GGUF file but the weights.

    Attributes
    ----------
    path : Path
        The file.
    file_size : int
        Its bytes.
    identity : tuple of int
        Device, inode, size and time of change (ns): another file, or a changed one, has another.
    version : int
        Of the format: 2 or 3.
    alignment : int
        Of the tensors' data, in bytes.
    metadata : Mapping of str to bool, int, float, str, numpy.ndarray or StringArray
        The key-values, in file order. Numeric and boolean arrays are one-dimensional, read-only
        numpy arrays.
    types : Mapping of str to str
        The stored type of each value: ``u32``, ``f32``, ``bool``, ``str``, ``arr[i32]``, ...
    tensors : Mapping of str to TensorInfo
        The tensor table, in file order.
    data_offset : int
        Where the data section begins, in bytes from the start of the file.

    Examples
    --------
    >>> from embellama import catalog
    >>> from embellama.gguf.reader import read_header
    >>> header = read_header(catalog.resolve("all-MiniLM-L6-v2"))
    >>> header.architecture, header.metadata["bert.block_count"]
    ('bert', 6)
    >>> header.tensors["token_embd.weight"].shape
    (384, 30522)
    """

    path: Path
    file_size: int
    identity: tuple[int, ...]
    version: int
    alignment: int
    metadata: Mapping[str, Any]
    types: Mapping[str, str]
    tensors: Mapping[str, TensorInfo]
    data_offset: int

    @property
    def architecture(self) -> str:
        """What ``general.architecture`` says; empty if the file does not say it."""
        value = self.metadata.get("general.architecture", "")
        return value if isinstance(value, str) else ""

    def typed(self, key: str, *kinds: str) -> Any:
        """Return a value if it is stored as one of `kinds`, None if there is none.

        Raises
        ------
        ModelLoadError
            If it is stored as another type: llama.cpp does not convert.
        """
        stored = self.types.get(key)
        if stored is not None and stored not in kinds:
            raise self.error(f"{key!r} must be of type {' or '.join(kinds)}, not {stored}")
        return self.metadata.get(key)

    def error(self, problem: str, remedy: str | None = None) -> ModelLoadError:
        """Return the exception that says what is wrong with the file and what to do."""
        return gguf_error(self.path, problem, remedy)

    @property
    def n_parameters(self) -> int:
        """Elements of all tensors."""
        return sum(tensor.n_elements for tensor in self.tensors.values())

    @property
    def n_bytes(self) -> int:
        """Bytes of all tensors, padding left out."""
        return sum(tensor.n_bytes for tensor in self.tensors.values())


def gguf_error(path: Path, problem: str, remedy: str | None) -> ModelLoadError:
    """Return the exception that says what is wrong with a file and what to do."""
    return ModelLoadError(f"{path}: {problem}. {remedy or _DAMAGED}")
