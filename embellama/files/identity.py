# SPDX-License-Identifier: Apache-2.0
"""Which file this is."""

from __future__ import annotations

import os

__all__ = ["file_identity"]


def file_identity(status: os.stat_result) -> tuple[int, ...]:
    """Return what differs between two files, and between a file and itself after a change.

    Returns
    -------
    tuple of int
        Device, inode, size and time of change in nanoseconds.
    """
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
