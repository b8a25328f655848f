# SPDX-License-Identifier: Apache-2.0
"""SHA-256 of files, and the record beside a file of the cache that says which it had when made.

``FILE.sha256`` holds what ``sha256sum`` prints, and is younger than the file. If the file is the
younger one, it was written since, and its SHA-256 is computed again. Otherwise a check costs two
stat calls.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
from pathlib import Path

__all__ = [
    "file_sha256",
    "has_recorded_sha256",
    "is_as_recorded",
    "known_sha256",
    "record_path",
    "sha256_record",
]


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def record_path(path: Path) -> Path:
    """Return where the record of a file is."""
    return path.with_name(f"{path.name}.sha256")


def sha256_record(path: Path, name: str) -> str:
    """Return the record of a file that is going to have another name."""
    return f"{file_sha256(path)}  {name}\n"


def has_recorded_sha256(path: Path) -> bool:
    """Whether a file's content is what its record says; False without a record."""
    try:
        recorded = record_path(path).read_text(encoding="utf-8").split()
    except (FileNotFoundError, UnicodeDecodeError):
        return False
    return recorded[:1] == [file_sha256(path)]


def is_as_recorded(path: Path) -> bool:
    """Whether a file is there and still the one that its record was made for.

    Raises
    ------
    OSError
        If it can't be read.
    """
    record = record_path(path)
    try:
        status, record_status = path.stat(), record.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    if not (stat.S_ISREG(status.st_mode) and stat.S_ISREG(record_status.st_mode)):
        return False
    if status.st_mtime_ns <= record_status.st_mtime_ns:
        return True
    if not has_recorded_sha256(path):
        return False
    # The file may be a copy. Where nothing may be written, the next start reads it again.
    with contextlib.suppress(OSError):
        os.utime(record)
    return True


def known_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, from its record if that is still true.

    Raises
    ------
    OSError
        If it can't be read.
    """
    if is_as_recorded(path):
        recorded = record_path(path).read_text(encoding="ascii", errors="replace").split()[:1]
        if recorded and re.fullmatch("[0-9a-f]{64}", recorded[0]):
            return recorded[0]
    return file_sha256(path)
