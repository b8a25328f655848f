# SPDX-License-Identifier: Apache-2.0
"""How many processor cores this process may use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["usable_cores"]


def usable_cores(
    membership: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")
) -> int:
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
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            folders = _upwards(root, path)
        elif "cpu" in controllers.split(","):
            folders = _upwards(root / "cpu", path)
        else:
            continue
        # A group is held to its own quota and to those of all groups around it.
        cores = min([cores, *(quota for folder in folders for quota in _quota(folder))])
    return max(1, round(cores))


def _upwards(mount: Path, path: str) -> Iterator[Path]:
    folder = mount / path.lstrip("/")
    yield folder
    while folder != mount:
        folder = folder.parent
        yield folder


def _quota(folder: Path) -> Iterator[float]:
    """Cores from microseconds of processor time in each period; nothing where there is no limit."""
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
        # No such group here: a container sees the names of the host's groups, not their folders.
        return
