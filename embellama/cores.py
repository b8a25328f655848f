# SPDX-License-Identifier: Apache-2.0
"""How many processor cores this process may use."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["usable_cores"]


def usable_cores() -> int:
    """Return the cores of this process's affinity, or of its cgroup's quota if that is less.

    Returns
    -------
    int
        At least 1.
    """
    cores = len(os.sched_getaffinity(0))
    try:
        # cgroup v2: microseconds of processor time in each period, or "max"
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return cores
    if quota == "max":
        return cores
    return max(1, min(cores, round(int(quota) / int(period))))
