# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
from pathlib import Path

import pytest

from embellama.machine.cores import usable_cores


@pytest.fixture
def cgroup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    return tmp_path / "cgroup"


def write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("_", ".", 1)).write_text(text + "\n")


def cores(cgroup: Path, membership: str) -> int:
    cgroup.mkdir(exist_ok=True)
    file = cgroup.parent / "membership"
    file.write_text(membership)
    return usable_cores(file, cgroup)


def test_affinity_alone(cgroup: Path) -> None:
    assert cores(cgroup, "") == 8
    assert usable_cores(cgroup / "missing", cgroup) == 8


@pytest.mark.parametrize(
    ("quota", "expected"),
    [
        ("max 100000", 8),
        ("300000 100000", 3),
        ("250000 100000", 2),
        ("10000 100000", 1),
        ("9000000 100000", 8),
        ("0 100000", 8),
        ("nonsense", 8),
        ("100000 0", 8),
    ],
)
def test_version_2(cgroup: Path, quota: str, expected: int) -> None:
    write(cgroup / "service", cpu_max=quota)
    assert cores(cgroup, "0::/service\n") == expected


def test_the_least_of_nested_groups(cgroup: Path) -> None:
    write(cgroup / "outer", cpu_max="200000 100000")
    write(cgroup / "outer" / "inner", cpu_max="max 100000")
    assert cores(cgroup, "0::/outer/inner\n") == 2
    write(cgroup / "outer" / "inner", cpu_max="100000 100000")
    assert cores(cgroup, "0::/outer/inner\n") == 1


def test_a_container_that_does_not_see_its_own_folder(cgroup: Path) -> None:
    write(cgroup, cpu_max="400000 100000")
    assert cores(cgroup, "0::/host/pod\n") == 4


def test_version_1(cgroup: Path) -> None:
    folder = cgroup / "cpu" / "job"
    write(folder, cpu_cfs_quota_us="-1", cpu_cfs_period_us="100000")
    membership = "12:memory:/other\n4:cpu,cpuacct:/job\n"
    assert cores(cgroup, membership) == 8
    write(folder, cpu_cfs_quota_us="500000", cpu_cfs_period_us="100000")
    assert cores(cgroup, membership) == 5
