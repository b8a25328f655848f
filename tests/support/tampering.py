# SPDX-License-Identifier: Apache-2.0
"""What may have happened to a file since it was written."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path


def damage(path: Path) -> None:
    """Change a byte in the middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def to_socket(path: Path) -> None:
    path.unlink()
    here = Path.cwd()
    os.chdir(path.parent)  # the name of a socket may have 108 bytes
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path.name)
    os.chdir(here)


def to_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "file").touch()


def to_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def to_dangling_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("nothing")


TAMPERINGS: list[Callable[[Path], None]] = [
    damage,
    lambda path: os.truncate(path, path.stat().st_size // 2),
    Path.unlink,
    to_directory,
    to_pipe,
    to_dangling_link,
    to_socket,
]
WAYS = ["damaged", "truncated", "removed", "directory", "pipe", "dangling link", "socket"]
