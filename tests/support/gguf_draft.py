# SPDX-License-Identifier: Apache-2.0
"""A GGUF file in parts, well-formed or not: what the gguf package's writer would not write."""

from __future__ import annotations

import dataclasses
import math
import struct
from typing import Any

import gguf
import numpy as np

from embellama.gguf.header import GGUFHeader, StringArray

STRING, ARRAY = 8, 9
# gguf_type, gguf.h
_NAMES = "u8 i8 u16 i16 u32 i32 f32 bool str arr u64 i64 f64"
TYPE_CODES = {name: code for code, name in enumerate(_NAMES.split())}
LAYOUTS = dict(zip([*range(8), 10, 11, 12], "BbHhIifBQqd", strict=True))
# ggml_type: elements and bytes of a block
BLOCKS = {int(kind): sizes for kind, sizes in gguf.GGML_QUANT_SIZES.items()}


@dataclasses.dataclass
class KeyValue:
    """One key-value; for an array, `element` is the type of its elements."""

    key: bytes
    kind: int
    value: Any
    element: int = 0

    def encoded(self) -> bytes:
        head = _counted(self.key) + struct.pack("<I", self.kind)
        if self.kind == ARRAY:
            items = self.value if isinstance(self.value, list) else [self.value]
            head += struct.pack("<IQ", self.element, len(items))
            return head + b"".join(_payload(self.element, item) for item in items)
        return head + _payload(self.kind, self.value)


@dataclasses.dataclass
class Tensor:
    """One tensor; an `offset` of None follows the tensor before."""

    name: bytes
    shape: list[int]
    kind: int
    data: bytes
    offset: int | None = None


@dataclasses.dataclass
class Draft:
    """A GGUF file in parts that can be damaged one by one."""

    architecture: str
    sizes: dict[str, int]
    key_values: list[KeyValue]
    tensors: list[Tensor]
    version: int = 3
    n_tensors: int | None = None
    n_key_values: int | None = None
    alignment: int = 32
    notes: list[str] = dataclasses.field(default_factory=list)

    def find(self, key: str) -> KeyValue | None:
        return next((item for item in self.key_values if item.key == key.encode()), None)

    def put(self, key: str, kind: int, value: Any, element: int = 0) -> None:
        found = self.find(key)
        if found is None:
            self.key_values.append(KeyValue(key.encode(), kind, value, element))
        else:
            found.kind, found.value, found.element = kind, value, element

    def encoded(self) -> bytes:
        n_tensors = len(self.tensors) if self.n_tensors is None else self.n_tensors
        n_keys = len(self.key_values) if self.n_key_values is None else self.n_key_values
        parts = [b"GGUF", struct.pack("<IQQ", self.version, n_tensors % 2**64, n_keys % 2**64)]
        parts += [item.encoded() for item in self.key_values]
        data = bytearray()
        for tensor in self.tensors:
            offset = len(data) if tensor.offset is None else tensor.offset
            parts.append(_counted(tensor.name) + struct.pack("<I", len(tensor.shape)))
            parts += [struct.pack("<Q", length % 2**64) for length in tensor.shape]
            parts.append(struct.pack("<IQ", tensor.kind % 2**32, offset % 2**64))
            data += tensor.data
            data += bytes(-len(data) % self.alignment)
        header = b"".join(parts)
        return header + bytes(-len(header) % self.alignment) + bytes(data)


def _counted(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


def _payload(kind: int, value: Any) -> bytes:
    if kind == STRING:
        encoded: bytes = value if isinstance(value, bytes) else str(value).encode()
        return _counted(encoded)
    layout = LAYOUTS.get(kind, "I")
    if not isinstance(value, (int, float)):
        value = 0
    if layout in "fd":
        with np.errstate(over="ignore"):
            return np.array(value, dtype=f"<f{4 if layout == 'f' else 8}").tobytes()
    whole = int(value) if math.isfinite(value) else 0
    size = struct.calcsize(layout)
    return (whole % (1 << 8 * size)).to_bytes(size, "little")


def n_bytes(shape: list[int], kind: int) -> int:
    """Return the bytes of a tensor's data, 4 MiB at most."""
    block, block_bytes = BLOCKS.get(kind, (1, 4))
    return min(math.prod(shape) // block * block_bytes, 2**22)


def draft_of(header: GGUFHeader, sizes: dict[str, int]) -> Draft:
    """Take a well-formed file apart."""
    content = header.path.read_bytes()
    key_values = []
    for key, value in header.metadata.items():
        kind = header.types[key]
        if kind.startswith("arr"):
            items = (
                list(value.iterate_encoded()) if isinstance(value, StringArray) else value.tolist()
            )
            key_values.append(KeyValue(key.encode(), ARRAY, items, TYPE_CODES[kind[4:-1]]))
        else:
            key_values.append(KeyValue(key.encode(), TYPE_CODES[kind], value))
    tensors = []
    for info in header.tensors.values():
        start = header.data_offset + info.offset
        data = content[start : start + info.n_bytes]
        tensors.append(
            Tensor(
                info.name.encode(),
                list(info.shape),
                int(gguf.GGMLQuantizationType[info.type]),
                data,
            )
        )
    return Draft(header.architecture, sizes, key_values, tensors)
