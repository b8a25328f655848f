# SPDX-License-Identifier: Apache-2.0
"""How many processor cores this process may use."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

from embellama.machine.cgroups import MEMBERSHIP, ROOT, cgroup_folders

__all__ = ["usable_cores"]


def usable_cores(membership: Path = MEMBERSHIP, root: Path = ROOT) -> int:
    """Return the cores of this process's affinity, or of its cgroups' quota if that is less.

    Parameters
    ----------
    membership : Path, optional
        The file that names the process's cgroups, see cgroups(7).
    root : Path, optional
        Where the cgroup file system is mounted.

    Returns
    -------
    int
        At least 1.
    """
    cores = float(len(os.sched_getaffinity(0)))
    quotas = (_quota(folder) for folder in cgroup_folders("cpu", membership, root))
    return max(1, round(min(itertools.chain([cores], *quotas))))


def _quota(folder: Path) -> Iterator[float]:
    """Yield the quota in cores (processor time divided by period); nothing if there is no limit."""
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            # version 1
            quota = (folder / "cpu.cfs_quota_us").read_text()
            period = (folder / "cpu.cfs_period_us").read_text()
        if quota != "max" and int(quota) > 0:
            yield int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        # The group has no folder here.
        return
