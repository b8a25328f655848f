# SPDX-License-Identifier: Apache-2.0
"""Short samples of the programs in tests/stress, which say what they look for."""

from __future__ import annotations

import subprocess
import sys

import pytest
from support.child_process import TIMEOUT
from support.folders import TESTS

PROGRAMS = TESTS / "stress"


def stress(program: str, *arguments: str, timeout: float = TIMEOUT) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", PROGRAMS / program, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]


@pytest.mark.usefixtures("minilm_path")
def test_callers() -> None:
    stress("callers.py", "--seconds", "3", "--threads", "16", timeout=3 * TIMEOUT)


@pytest.mark.slow
@pytest.mark.usefixtures("minilm_path")
@pytest.mark.parametrize("options", [["--cores", "1"], ["--neighbours", "4"]])
def test_oversubscription(options: list[str]) -> None:
    stress("oversubscription.py", "--seconds", "10", *options, timeout=3 * TIMEOUT)


@pytest.mark.slow
@pytest.mark.usefixtures("minilm_path")
def test_callers_without_the_encoder() -> None:
    stress("callers.py", "--seconds", "10", "--instruction-set", "llama.cpp", timeout=3 * TIMEOUT)


def test_interrupts() -> None:
    # One model, and no fine timing: the machine may be busy.
    arguments = ["--threads", "1", "--rounds", "1", "--limit", "10", "--longest-wait", "0.3"]
    stress("interrupts.py", "--model", "unigram", *arguments, timeout=3 * TIMEOUT)


def test_allocation() -> None:
    arguments = ["--step-kb", "100000", "--cases", "4", "--kinds", "bert", "llama"]
    stress("allocation.py", *arguments, timeout=3 * TIMEOUT)


@pytest.mark.slow
def test_allocations_of_a_context() -> None:
    stress("allocation.py", "--contexts", "--kinds", timeout=3 * TIMEOUT)


@pytest.mark.slow
def test_more_allocations() -> None:
    stress("allocation.py", "--step-kb", "40000", "--cases", "10", timeout=3 * TIMEOUT)


@pytest.mark.slow
@pytest.mark.usefixtures("minilm_path")
def test_memory() -> None:
    stress("memory.py", "--embeddings", "10000", "--loads", "80", timeout=3 * TIMEOUT)


@pytest.mark.parametrize("job", ["convert to Q8_0", "corpus to npy"])
def test_files(job: str) -> None:
    stress("files.py", "--kills", "10", "--full-disks", "1", "--jobs", job)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("job", "kills"),
    [
        ("convert", 50),
        ("from the hub", 20),
        ("package index", 6),
        ("corpus to npy", 50),
        ("corpus to jsonl", 15),
        ("corpus to parquet", 15),
    ],
)
def test_more_files(job: str, kills: int) -> None:
    arguments = ["--kills", str(kills), "--full-disks", "2", "--jobs", job]
    stress("files.py", *arguments, timeout=3 * TIMEOUT)
