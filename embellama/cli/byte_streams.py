# SPDX-License-Identifier: Apache-2.0
"""Bytes of files that may be compressed, and text in UTF-8, UTF-16 or UTF-32."""

from __future__ import annotations

import bz2
import codecs
import gzip
import importlib
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from embellama.cli.options import MissingExtraError

__all__ = [
    "COMPRESSIONS",
    "READ_ERRORS",
    "decoded_document",
    "decoded_lines",
    "decoded_texts",
    "open_bytes",
]

# The exceptions that reading a file may raise, also if it is a truncated or damaged archive.
READ_ERRORS = (OSError, EOFError, zlib.error, lzma.LZMAError)

# The mark of little-endian UTF-32 begins with that of UTF-16.
_MARKED = (
    ("utf-32", (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)),
    ("utf-16", (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)),
)
_LONGEST_MARK = 4


class _Zstandard(io.RawIOBase):
    """The bytes in the frames of a Zstandard file, one frame after the other.

    The package's own reader does not notice that a file is truncated.
    """

    def __init__(self, path: str) -> None:
        try:
            self._package = importlib.import_module("zstandard")
        except ImportError:
            raise MissingExtraError(
                'Zstandard needs a package: pip install "embellama[zstd]"'
            ) from None
        self._file = io.FileIO(path)
        self._frame: Any = None
        self._packed = b""
        self._unpacked = b""

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()

    def readinto(self, buffer: Any) -> int:
        while not self._unpacked:
            self._packed = self._packed or self._file.read(1 << 17) or b""
            if not self._packed:
                if self._frame is not None:
                    raise EOFError("the file is cut off")
                return 0
            if self._frame is None:
                self._frame = self._package.ZstdDecompressor().decompressobj()
            try:
                self._unpacked = self._frame.decompress(self._packed)
            except self._package.ZstdError as error:
                raise OSError(f"no Zstandard: {error}") from None
            self._packed = b""
            if self._frame.eof:
                self._packed = self._frame.unused_data
                self._frame = None
        n_bytes = min(len(buffer), len(self._unpacked))
        buffer[:n_bytes] = self._unpacked[:n_bytes]
        self._unpacked = self._unpacked[n_bytes:]
        return n_bytes


_OPENERS: dict[str, Callable[[str], Any]] = {
    ".gz": gzip.open,
    ".bz2": bz2.open,
    ".xz": lzma.open,
    ".zst": lambda path: io.BufferedReader(_Zstandard(path)),
}
COMPRESSIONS = frozenset(_OPENERS)


def open_bytes(path: str) -> BinaryIO:
    """Open a file to read, and decompress what its name says is compressed."""
    opener = _OPENERS.get(Path(path).suffix.lower())
    return cast("BinaryIO", open(path, "rb") if opener is None else opener(path))


def _marked_encoding(start: bytes) -> str | None:
    for encoding, marks in _MARKED:
        if start.startswith(marks):
            return encoding
    return None


def decoded_lines(stream: BinaryIO) -> Iterator[tuple[str, str]]:
    """Decode lines, with their ends, and say what is wrong with each.

    Yields
    ------
    line : str
        Bytes that are not UTF-8 become lone surrogates.
    problem : str
        Empty if there is none.
    """
    encoding = _marked_encoding(cast("io.BufferedReader", stream).peek(_LONGEST_MARK))
    if encoding is not None:
        # Lone surrogates are refused later, like those of any text.
        with io.TextIOWrapper(
            stream, encoding=encoding, errors="surrogatepass", newline="\n"
        ) as lines:
            try:
                for line in lines:
                    yield line, ""
            except UnicodeDecodeError as error:
                raise OSError(f"no {encoding.upper()}: {error.reason}") from None
        return
    for index, data in enumerate(stream):
        # A byte order mark is not part of the first text.
        yield _decoded(data if index else data.removeprefix(codecs.BOM_UTF8), " of the line")


def decoded_texts(stream: BinaryIO) -> Iterator[tuple[str, str]]:
    """Decode texts in UTF-8 that end with NUL, as ``find -print0`` and ``sort -z`` write them.

    Yields what :func:`decoded_lines` does. The last text may lack its NUL.
    """
    parts: list[bytes] = []
    # read1 does not wait for more than there is in a pipe.
    while block := cast("io.BufferedReader", stream).read1(1 << 16):
        *ends, rest = block.split(b"\0")
        for end in ends:
            yield _decoded(b"".join([*parts, end]), " of the text")
            parts = []
        parts.append(rest)
    if any(parts):
        yield _decoded(b"".join(parts), " of the text")


def _decoded(data: bytes, of_what: str) -> tuple[str, str]:
    try:
        return data.decode("utf-8"), ""
    except UnicodeDecodeError as error:
        problem = (
            f"is not UTF-8 ({error.reason} at byte {error.start + 1}{of_what}): convert the file, "
            "for example with iconv"
        )
    return data.decode("utf-8", "surrogateescape"), problem


def decoded_document(stream: BinaryIO) -> tuple[str, str]:
    """Decode all of a file, and say what is wrong with it, as :func:`decoded_lines` does."""
    data = stream.read()
    encoding = _marked_encoding(data[:_LONGEST_MARK])
    if encoding is None:
        return _decoded(data.removeprefix(codecs.BOM_UTF8), "")
    try:
        return data.decode(encoding), ""
    except UnicodeDecodeError as error:
        return "", f"is not {encoding.upper()} ({error.reason} at byte {error.start + 1})"
