# SPDX-License-Identifier: Apache-2.0
"""Checks that a file of a checkpoint is a regular file: reading it can't block or go on forever."""

from __future__ import annotations

import stat
from pathlib import Path

from embellama.errors import ModelLoadError


def require_regular_file(path: Path, most_bytes: int | None = None) -> None:
    """Raise ModelLoadError unless `path` leads to a regular file of at most `most_bytes`."""
    try:
        status = path.stat()
    except FileNotFoundError:
        raise ModelLoadError(
            f"{path}: no such file; download the checkpoint again, with all its files"
        ) from None
    except (OSError, ValueError) as error:
        raise ModelLoadError(f"{path}: can't be read: {error}") from error
    if not stat.S_ISREG(status.st_mode):
        raise ModelLoadError(f"{path}: no regular file; download the checkpoint again")
    if most_bytes is not None and status.st_size > most_bytes:
        raise ModelLoadError(
            f"{path}: is {status.st_size} bytes large, {most_bytes} are allowed; the file is "
            "damaged, or made to exhaust memory"
        )
