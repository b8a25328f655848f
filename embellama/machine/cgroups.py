# SPDX-License-Identifier: Apache-2.0
"""The control groups that hold this process to their limits, see cgroups(7)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

__all__ = ["MEMBERSHIP", "ROOT", "cgroup_folders"]

MEMBERSHIP = Path("/proc/self/cgroup")
ROOT = Path("/sys/fs/cgroup")


def cgroup_folders(
    controller: str, membership: Path = MEMBERSHIP, root: Path = ROOT
) -> Iterator[Path]:
    """Yield the folders of a controller's groups: a group is held to those around it, too.

    Parameters
    ----------
    controller : str
        Such as ``"cpu"`` or ``"memory"``.
    membership : Path, optional
        The file that names the process's groups.
    root : Path, optional
        Where the cgroup file system is mounted.

    Yields
    ------
    Path
        A container sees the names of the host's groups, not their folders: some may not exist.
    """
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            yield from _upwards(root, path)
        elif controller in controllers.split(","):
            yield from _upwards(root / controller, path)


def _upwards(mount: Path, path: str) -> Iterator[Path]:
    folder = mount / path.lstrip("/")
    yield folder
    while folder != mount:
        folder = folder.parent
        yield folder
