# SPDX-License-Identifier: Apache-2.0
"""How much memory this process can have at most."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from embellama.machine.cgroups import MEMBERSHIP, ROOT, cgroup_folders

__all__ = ["usable_memory"]


def usable_memory(
    membership: Path = MEMBERSHIP, root: Path = ROOT, machine: Path = Path("/proc/meminfo")
) -> int:
    """Return the machine's memory, or its cgroups' limit if that is less, plus all swap.

    Memory that other processes use now is not subtracted. So nobody can have more than this, but
    even less may not be available.

    Parameters
    ----------
    membership, root : Path, optional
        See :func:`embellama.machine.cgroups.cgroup_folders`.
    machine : Path, optional
        The machine's memory, see proc_meminfo(5).

    Returns
    -------
    int
        Bytes.
    """
    lines = (line.partition(":") for line in machine.read_text().splitlines())
    sizes = {name: 1024 * int(size.split()[0]) for name, _, size in lines}
    folders = cgroup_folders("memory", membership, root)
    limits = (limit for folder in folders for limit in _limits(folder))
    return min([sizes["MemTotal"], *limits]) + sizes["SwapTotal"]


def _limits(folder: Path) -> Iterator[int]:
    for name in ("memory.max", "memory.limit_in_bytes"):  # versions 2 and 1
        try:
            limit = (folder / name).read_text().strip()
        except OSError:
            continue
        if limit.isdigit():  # "max" where there is none
            yield int(limit)
