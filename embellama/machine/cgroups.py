# SPDX-License-Identifier: Apache-2.0
"""The control groups whose limits apply to this process, see cgroups(7)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

__all__ = ["MEMBERSHIP", "ROOT", "cgroup_folders"]

MEMBERSHIP = Path("/proc/self/cgroup")
ROOT = Path("/sys/fs/cgroup")


def cgroup_folders(
    controller: str, membership: Path = MEMBERSHIP, root: Path = ROOT
) -> Iterator[Path]:
    """Yield the folders of a controller's groups, with all parents, whose limits apply too.

    Parameters
    ----------
    controller : str
        For example ``"cpu"`` or ``"memory"``.
    membership : Path, optional
        The file that names the process's groups.
    root : Path, optional
        Where the cgroup file system is mounted.

    Yields
    ------
    Path
        It may not exist: a container sees the names of the host's groups, but not their folders.
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
