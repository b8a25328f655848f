# SPDX-License-Identifier: Apache-2.0
"""A bounded reader of GGUF headers.

The rules are those of llama.cpp's own reader, ``ggml/src/gguf.cpp``, plus bounds on what a header
may hold: nothing is allocated that the file does not contain. Whether llama.cpp can safely load
the model is another question, answered by :func:`embellama.gguf.check.check_model`.
"""

from __future__ import annotations

import array
import math
import os
import stat
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn, Protocol

import numpy as np

from embellama.errors import ModelLoadError, ModelNotFoundError
from embellama.files.identity import file_identity
from embellama.gguf.header import GGUFHeader, StringArray, TensorInfo, gguf_error
from embellama.gguf.types import ARRAY, STRING, TENSOR_TYPES, VALUE_TYPES

__all__ = ["read_header", "read_header_of"]

# Gemma 4's header, with 262,144 tokens and 514,906 merges, is 16 MB.
_MAX_HEADER_BYTES = 128 * 2**20
_MAX_STRINGS = 2**21
# What a string of an array takes in this reader and llama.cpp together, measured: 185 bytes for a
# merge of BPE, 200 for a token of SentencePiece, 110 for a string that nothing reads. All strings
# together may take 64 MiB and twice the file.
_BYTES_PER_STRING = 200
_FREE_FOR_STRINGS = 64 * 2**20
_MAX_KEYS = 2**16
_MAX_TENSORS = 2**14  # llama.cpp compares each name with all others: 65,000 take it half a minute
_MAX_KEY_BYTES = 2**16 - 1  # GGUF specification
_MAX_NAME_BYTES = 63  # GGML_MAX_NAME, ggml.h, counts the final NUL
_MAX_ALIGNMENT = 2**20
_DEFAULT_ALIGNMENT = 32  # GGUF_DEFAULT_ALIGNMENT, gguf.h
_SMALLEST_KEY_VALUE = 14  # length, one byte of key, type, one byte of value
_SMALLEST_TENSOR_ENTRY = 33  # length, one byte of name, dimensions, type, offset
_FIRST_READ_BYTES = 2**20
_ELEMENTS_LIMIT = 2**63  # gguf.cpp counts them in an int64_t

_OTHER_FORMATS = {
    b"vers": "a Git LFS pointer: fetch the file it stands for (`git lfs pull`)",
    b"<!DO": "an HTML page: the download went wrong, try again",
    b"<htm": "an HTML page: the download went wrong, try again",
    b"PK\x03\x04": "a PyTorch checkpoint or zip archive: convert the model to GGUF",
    b"lmgg": "a GGML file of before August 2023: convert the original model to GGUF",
    b"fmgg": "a GGML file of before August 2023: convert the original model to GGUF",
    b"tjgg": "a GGML file of before August 2023: convert the original model to GGUF",
}


def read_header(path: str | os.PathLike[str]) -> GGUFHeader:
    """Read a GGUF file's metadata and tensor table, not its weights.

    Parameters
    ----------
    path : str or os.PathLike
        A GGUF file of version 2 or 3, little-endian.

    Returns
    -------
    GGUFHeader

    Raises
    ------
    ModelNotFoundError
        If there is no such file, or it is a directory.
    ModelLoadError
        If it is not a complete, well-formed GGUF file.

    Examples
    --------
    >>> from embellama import catalog
    >>> from embellama.gguf.reader import read_header
    >>> header = read_header(catalog.resolve("all-MiniLM-L6-v2"))
    >>> header.version, header.n_parameters
    (3, 22565376)
    """
    file_path = Path(os.path.expanduser(path))
    try:
        status = file_path.stat()
    except FileNotFoundError:
        raise ModelNotFoundError(f"{file_path}: no such file") from None
    except (OSError, ValueError) as error:
        raise ModelLoadError(f"{file_path}: the file cannot be read: {error}") from error
    if stat.S_ISDIR(status.st_mode):
        raise ModelNotFoundError(f"{file_path} is a directory: name the .gguf file itself")
    if not stat.S_ISREG(status.st_mode):
        # Opening a pipe would block, and a device has no size to check against.
        raise ModelLoadError(f"{file_path} is no regular file")
    try:
        with file_path.open("rb", buffering=0) as file:
            status = os.fstat(file.fileno())
            return _Reader(file_path, file, status.st_size, file_identity(status)).header()
    except OSError as error:
        if isinstance(error, ModelLoadError):
            raise
        raise ModelLoadError(f"{file_path}: the file cannot be read: {error}") from error


def read_header_of(file: SupportsRead, size: int, name: str) -> GGUFHeader:
    """Read the metadata and tensor table of a GGUF file that is elsewhere, and only as much of it.

    Parameters
    ----------
    file : object with ``read(n_bytes)``
        At the beginning of the file.
    size : int
        Bytes of the whole file.
    name : str
        What messages call the file.

    Returns
    -------
    GGUFHeader
        With an empty `identity`.

    Raises
    ------
    ModelLoadError
        If it is not a complete, well-formed GGUF file.
    """
    return _Reader(Path(name), file, size, ()).header()


class SupportsRead(Protocol):
    """What bytes can be read from."""

    def read(self, size: int, /) -> bytes | None:
        """Return the next bytes; none at the end."""


class _Reader:
    """Walks through a header, reading the file only as far as needed."""

    def __init__(
        self, path: Path, file: SupportsRead, size: int, identity: tuple[int, ...]
    ) -> None:
        self._path = path
        self._file = file
        self._size = size
        self._identity = identity
        self._buffer = bytearray()
        self._at = 0
        room = _FREE_FOR_STRINGS + 2 * self._size
        self._strings_left = min(_MAX_STRINGS, room // _BYTES_PER_STRING)

    def _fail(self, problem: str, remedy: str | None = None) -> NoReturn:
        raise gguf_error(self._path, problem, remedy)

    def _need(self, end: int, what: str) -> None:
        """Have the file in the buffer up to byte `end`."""
        if end <= len(self._buffer):
            return
        if end > self._size:
            self._fail(
                f"the file ends at byte {self._size}, inside {what}, which reaches to byte {end}"
            )
        if end > _MAX_HEADER_BYTES:
            self._fail(
                f"the header is larger than {_MAX_HEADER_BYTES >> 20} MiB (at {what})",
                "No model needs that much: it is damaged, or made to exhaust memory",
            )
        goal = max(end, min(self._size, _FIRST_READ_BYTES, _MAX_HEADER_BYTES))
        goal = max(goal, min(self._size, 2 * len(self._buffer), _MAX_HEADER_BYTES))
        while len(self._buffer) < goal:
            piece = self._file.read(goal - len(self._buffer))
            if not piece:
                self._fail(f"the file shrank while it was read: byte {len(self._buffer)} is gone")
            self._buffer += piece

    def _number(self, layout: struct.Struct, what: str) -> Any:
        end = self._at + layout.size
        self._need(end, what)
        (value,) = layout.unpack_from(self._buffer, self._at)
        self._at = end
        return value

    def _u32(self, what: str) -> int:
        return int(self._number(VALUE_TYPES[4][1], what))

    def _u64(self, what: str) -> int:
        return int(self._number(VALUE_TYPES[10][1], what))

    def _bytes(self, what: str, limit: int = _MAX_HEADER_BYTES) -> bytes:
        start = self._at
        length = self._u64(f"the length of {what}")
        if length > limit:
            self._fail(
                f"{what} at byte {start} is {length} bytes long; at most {limit} are allowed"
            )
        end = self._at + length
        self._need(end, what)
        value = bytes(self._buffer[self._at : end])
        self._at = end
        return value

    def _name(self, what: str, limit: int) -> str:
        start = self._at
        encoded = self._bytes(what, limit)
        try:
            name = encoded.decode("utf-8")
        except UnicodeDecodeError:
            self._fail(f"{what} at byte {start} is not UTF-8: {encoded[:80]!r}")
        # llama.cpp looks names up as C strings: past a NUL it and this reader would disagree.
        if not name or "\0" in name:
            self._fail(f"{what} at byte {start} is empty or holds a NUL character: {name[:80]!r}")
        return name

    def header(self) -> GGUFHeader:
        version, n_tensors, n_keys = self._preamble()
        metadata: dict[str, Any] = {}
        types: dict[str, str] = {}
        for index in range(n_keys):
            start = self._at
            key = self._name(f"key {index}", _MAX_KEY_BYTES)
            if key in metadata:
                self._fail(f"the key {key!r} occurs a second time at byte {start}")
            metadata[key], types[key] = self._value(key)
        alignment = self._alignment(metadata, types)
        entries = [self._tensor_entry(index) for index in range(n_tensors)]
        data_offset = _padded(self._at, alignment)
        tensors = self._tensor_table(entries, alignment, data_offset)
        return GGUFHeader(
            path=self._path,
            file_size=self._size,
            identity=self._identity,
            version=version,
            alignment=alignment,
            metadata=MappingProxyType(metadata),
            types=MappingProxyType(types),
            tensors=MappingProxyType(tensors),
            data_offset=data_offset,
        )

    def _preamble(self) -> tuple[int, int, int]:
        if self._size == 0:
            self._fail("the file is empty", "Download or convert the model again")
        self._need(min(4, self._size), "the magic number")
        magic = bytes(self._buffer[:4])
        if magic != b"GGUF":
            found = _OTHER_FORMATS.get(magic, f"no GGUF file: it begins with {magic!r}")
            raise ModelLoadError(f"{self._path} is {found}")
        self._at = 4
        version = self._u32("the version")
        if version & 0xFFFF == 0:
            self._fail(
                f"its version reads {version:#x}: it is a big-endian GGUF file",
                "Convert the model for little-endian machines",
            )
        if version not in (2, 3):
            self._fail(
                f"GGUF version {version} is not supported, only 2 and 3 are",
                "Convert the model anew" if version < 2 else "Use a newer embellama",
            )
        n_tensors = self._u64("the number of tensors")
        n_keys = self._u64("the number of key-values")
        for count, smallest, limit, what in (
            (n_tensors, _SMALLEST_TENSOR_ENTRY, _MAX_TENSORS, "tensors"),
            (n_keys, _SMALLEST_KEY_VALUE, _MAX_KEYS, "key-values"),
        ):
            if count > limit or count * smallest > self._size:
                self._fail(
                    f"it claims to hold {count} {what}, more than its {self._size} bytes can "
                    f"hold or than the limit of {limit}"
                )
        return version, n_tensors, n_keys

    def _value(self, key: str) -> tuple[Any, str]:
        what = f"the value of {key!r}"
        start = self._at
        number = self._u32(f"the type of {key!r}")
        if number == STRING:
            return self._bytes(what).decode("utf-8", "replace"), "str"
        if number == ARRAY:
            return self._array(key)
        if number not in VALUE_TYPES:
            self._fail(f"{key!r} has the unknown type {number} (at byte {start})")
        name, layout = VALUE_TYPES[number]
        value = self._number(layout, what)
        if name == "bool":
            if value > 1:
                self._fail(f"{key!r} is a boolean with the value {value} (at byte {self._at - 1})")
            value = bool(value)
        return value, name

    def _array(self, key: str) -> tuple[Any, str]:
        what = f"the array {key!r}"
        start = self._at
        number = self._u32(f"the element type of {key!r}")
        count = self._u64(f"the length of {key!r}")
        if number == STRING:
            return self._strings(key, count), "arr[str]"
        if number not in VALUE_TYPES:
            nested = "an array of arrays" if number == ARRAY else f"the unknown type {number}"
            self._fail(f"{key!r} is an array of {nested} (at byte {start})")
        name, layout = VALUE_TYPES[number]
        end = self._at + count * layout.size
        self._need(end, what)
        kind = np.dtype("u1" if name == "bool" else layout.format)
        array = np.frombuffer(bytes(memoryview(self._buffer)[self._at : end]), dtype=kind)
        self._at = end
        if name == "bool":
            if array.size and array.max() > 1:
                self._fail(f"{key!r} holds booleans other than 0 and 1 (at byte {start})")
            array = array.view(np.bool_)
        return array, f"arr[{name}]"

    def _strings(self, key: str, count: int) -> StringArray:
        start = self._at
        if count > self._strings_left or count * 8 > self._size - start:
            self._fail(
                f"{key!r} claims to hold {count} strings, more than the rest of the file or the "
                f"memory for {self._strings_left} strings allows (at byte {start})"
            )
        self._strings_left -= count
        # A large vocabulary takes half a million turns, so the loop checks nothing itself: reading
        # beyond the buffer raises.
        buffer, length_at = self._buffer, VALUE_TYPES[10][1].unpack_from
        at = start
        ends = array.array("q")
        while len(ends) < count:
            try:
                for _ in range(count - len(ends)):
                    at += length_at(buffer, at)[0] + 8
                    ends.append(at)
            except (struct.error, OverflowError):
                self._need(at + 8, f"string {len(ends)} of {key!r}")
        self._need(at, f"string {count - 1} of {key!r}")
        self._at = at
        starts = np.empty(count + 1, dtype=np.int64)
        starts[0] = 8
        starts[1:] = np.frombuffer(ends, dtype=np.int64)
        starts[1:] += 8 - start
        return StringArray(bytes(memoryview(buffer)[start:at]), starts)

    def _alignment(self, metadata: Mapping[str, Any], types: Mapping[str, str]) -> int:
        key = "general.alignment"
        alignment = metadata.get(key, _DEFAULT_ALIGNMENT)
        if types.get(key, "u32") != "u32":
            self._fail(f"{key!r} must be of type u32, not {types[key]}")
        if not 0 < alignment <= _MAX_ALIGNMENT or alignment & (alignment - 1):
            self._fail(f"{key!r} must be a power of two up to {_MAX_ALIGNMENT}, not {alignment}")
        return int(alignment)

    def _tensor_entry(self, index: int) -> TensorInfo:
        start = self._at
        name = self._name(f"the name of tensor {index}", _MAX_NAME_BYTES)
        what = f"the entry of tensor {name!r} (at byte {start})"
        n_dimensions = self._u32(what)
        if not 1 <= n_dimensions <= 4:
            self._fail(f"tensor {name!r} has {n_dimensions} dimensions, not 1 to 4")
        # gguf.cpp reads an int64_t: a length of 2**63 or more is a negative one there.
        shape = tuple(self._u64(what) for _ in range(n_dimensions))
        if min(shape) == 0 or math.prod(shape) >= _ELEMENTS_LIMIT:
            self._fail(f"tensor {name!r} has the impossible shape {shape}")
        number = self._u32(what)
        if number not in TENSOR_TYPES:
            self._fail(
                f"tensor {name!r} has type {number}, which llama.cpp does not know or has dropped",
                "Convert or quantise the model anew",
            )
        kind, block, block_bytes = TENSOR_TYPES[number]
        if shape[0] % block:
            self._fail(
                f"tensor {name!r} of type {kind} has rows of {shape[0]} elements, no multiple of "
                f"{block}"
            )
        n_bytes = math.prod(shape) // block * block_bytes
        return TensorInfo(name, shape, kind, self._u64(what), n_bytes)

    def _tensor_table(
        self, entries: Sequence[TensorInfo], alignment: int, data_offset: int
    ) -> dict[str, TensorInfo]:
        tensors: dict[str, TensorInfo] = {}
        expected = end = 0
        for entry in entries:
            if entry.name in tensors:
                self._fail(f"the tensor {entry.name!r} occurs twice")
            if entry.offset != expected:
                self._fail(
                    f"the data of tensor {entry.name!r} begin at {entry.offset}, expected "
                    f"{expected}: tensors must follow one another without gap or overlap"
                )
            end = expected + entry.n_bytes
            expected = _padded(end, alignment)
            tensors[entry.name] = entry
        # The padding after the last tensor may be missing.
        missing = data_offset + end - self._size
        if tensors and missing > 0:
            self._fail(
                f"the file is truncated: {missing} of its {data_offset + end} bytes are missing",
                "Download it again",
            )
        return tensors


def _padded(number: int, alignment: int) -> int:
    return -(-number // alignment) * alignment
