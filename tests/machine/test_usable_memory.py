# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.tiny_model import write_tiny_model

from embellama import EmbeddingModel, ModelConfig, ResourceLimitError
from embellama.machine.usable_memory import usable_memory

MACHINE = "MemTotal:        8000 kB\nMemFree:  10 kB\nSwapTotal:  1000 kB\nHugePages_Total:  0\n"


def usable(folder: Path, membership: str) -> int:
    (folder / "membership").write_text(membership)
    (folder / "meminfo").write_text(MACHINE)
    return usable_memory(folder / "membership", folder, folder / "meminfo")


@pytest.mark.parametrize(
    ("file", "membership"),
    [("memory.max", "0::/a/b\n"), ("memory.limit_in_bytes", "3:memory:/a/b\n")],
)
def test_the_least_limit_and_all_swap(tmp_path: Path, file: str, membership: str) -> None:
    assert usable(tmp_path, membership) == 9000 * 1024
    mount = tmp_path / "memory" if file == "memory.limit_in_bytes" else tmp_path
    (mount / "a" / "b").mkdir(parents=True)
    (mount / "a" / file).write_text("4096000\n")
    for inner, expected in [("max\n", 5000), ("9223372036854771712\n", 5000), ("1024000\n", 2000)]:
        (mount / "a" / "b" / file).write_text(inner)
        assert usable(tmp_path, membership) == expected * 1024
    assert usable(tmp_path, "5:cpu:/a/b\n") == 9000 * 1024


def test_a_copy_that_no_memory_can_hold(tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "large.gguf", "llama")
    # Room in the file, not on the disk.
    os.truncate(path, 2 * usable_memory())
    with pytest.raises(ResourceLimitError, match=r"large.*use_mmap=False copies \d+ MB"):
        EmbeddingModel(ModelConfig(path, use_mmap=False))
