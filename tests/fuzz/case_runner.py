# SPDX-License-Identifier: Apache-2.0
"""Hostile cases, one after the other, answered by a process of their own.

A fuzzer says how a case is made and what the worker does with it. The worker must answer each with
what it did or an error of embellama. A signal, no answer in time, any other exception, and more
memory than the bound are findings.
"""

from __future__ import annotations

import argparse
import collections
import ctypes
import dataclasses
import gc
import json
import os
import resource
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

from embellama.errors import EmbellamaError

MiB = 2**20


@dataclasses.dataclass(frozen=True)
class Case:
    """What the worker is asked, and what the files of the case may cost.

    Attributes
    ----------
    request : dict
        For the worker, as JSON.
    notes : str
        What was done to the files.
    allowed_bytes : int
        Memory that the case may take beyond the idle worker's.
    """

    request: dict[str, Any]
    notes: str
    allowed_bytes: int


MakeCase = Callable[[int], Case]
Answer = Callable[[dict[str, Any]], str]


def run(
    description: str,
    prepare: Callable[[Path, int], MakeCase],
    answer: Answer,
    warm_up: Callable[[Path], None],
    *,
    keep: Callable[[Case, Path], None],
) -> int:
    """Run a fuzzer's command line.

    Parameters
    ----------
    description : str
        Of the fuzzer.
    prepare : callable
        Takes a folder and the seed; returns what makes the case of a number in that folder.
    answer : callable
        What the worker does with a request. Raises an AssertionError where something is wrong.
    warm_up : callable
        What the worker does first, in a folder of its own, so that it holds all that stays.
    keep : callable
        Copies the files of a finding to a path without suffix.

    Returns
    -------
    int
        The exit status: 1 if there are findings.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--start", type=int, default=0, help="number of the first case")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--time-limit", type=float, default=60.0, help="seconds for one case")
    parser.add_argument("--memory-mb", type=int, default=4096, help="address space of the worker")
    parser.add_argument("--keep", type=Path, help="folder for the files of findings")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.serve:
            _serve(answer, warm_up, Path(folder))
            return 0
        if options.keep:
            options.keep.mkdir(parents=True, exist_ok=True)
        n_findings = 0
        for number, case, finding in _findings(prepare(Path(folder), options.seed), options):
            n_findings += 1
            print(f"case {number}: {finding}\n    {case.notes}\n    {case.request}", flush=True)
            if options.keep:
                keep(case, options.keep / f"{options.seed}-{number}")
    print(f"{n_findings} findings", flush=True)
    return int(n_findings > 0)


def _findings(make_case: MakeCase, options: argparse.Namespace) -> Iterator[tuple[int, Case, str]]:
    worker = _Worker(options.memory_mb, options.time_limit)
    answers: collections.Counter[str] = collections.Counter()
    slowest = (0.0, -1)
    largest = (0, -1)
    for number in tqdm(range(options.start, options.start + options.cases), disable=None):
        case = make_case(number)
        started = time.perf_counter()
        answer, n_bytes = worker.ask(case.request)
        slowest = max(slowest, (time.perf_counter() - started, number))
        largest = max(largest, (n_bytes, number))
        kind = answer.partition(":")[0]
        answers[kind] += 1
        if kind in ("bug", "died", "hung"):
            yield number, case, answer
        elif n_bytes > case.allowed_bytes:
            took = f"took {n_bytes / MiB:.0f} of {case.allowed_bytes / MiB:.0f} MiB"
            yield number, case, f"{took}: {answer}"
    worker.close()
    print(
        f"{options.cases} cases: {dict(answers.most_common())}; slowest {slowest[0]:.2f} s (case "
        f"{slowest[1]}), most memory {largest[0] / MiB:.0f} MiB (case {largest[1]})"
    )


class _Worker:
    """This program with --serve; replaced when it dies."""

    def __init__(self, memory_mb: int, time_limit: float) -> None:
        self._memory_bytes = memory_mb * MiB
        self._time_limit = time_limit
        self._process: subprocess.Popen[bytes] | None = None

    def _limit_memory(self) -> None:
        resource.setrlimit(resource.RLIMIT_AS, (self._memory_bytes, self._memory_bytes))

    def ask(self, request: dict[str, Any]) -> tuple[str, int]:
        """Return the worker's answer, and the bytes it took beyond what it holds when idle."""
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-X", "faulthandler", sys.argv[0], "--serve"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                preexec_fn=self._limit_memory,
            )
            assert self._process.stdout is not None
            if not self._process.stdout.readline():
                raise RuntimeError("the worker can't do what it does before its first case")
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        line = b""
        ready = [process.stdout]
        try:
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
            ready, _, _ = select.select([process.stdout], [], [], self._time_limit)
            line = process.stdout.readline() if ready else b""
        except BrokenPipeError:
            pass
        if line:
            answer, n_bytes = json.loads(line)
            return answer, n_bytes
        waited = ""
        if not ready:
            # How long its main thread was ready to run and had no processor: proc(5), schedstat.
            delay = int(Path(f"/proc/{process.pid}/schedstat").read_text().split()[1]) / 1e9
            waited = f"hung: for {self._time_limit} s; in its life {delay:.0f} s without processor"
            process.send_signal(signal.SIGABRT)  # faulthandler writes where it is
        code = process.wait()
        self.close()
        return waited or f"died: with {code}", 0

    def close(self) -> None:
        if self._process is not None:
            process, self._process = self._process, None
            assert process.stdin is not None
            process.stdin.close()
            process.wait()


def _serve(answer: Answer, warm_up: Callable[[Path], None], folder: Path) -> None:
    # What is printed by mistake must not be taken for an answer.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    warm_up(folder)
    gc.freeze()
    _forget()
    idle = _resident_bytes("VmRSS")
    answers.write("ready\n")
    answers.flush()
    for line in sys.stdin:
        _forget()
        # "5" sets the peak back to what is resident now: proc_pid_clear_refs(5).
        Path("/proc/self/clear_refs").write_text("5")
        try:
            found = answer(json.loads(line))
        except EmbellamaError as error:
            found = f"refused: {error}"
        except Exception as error:
            found = f"bug: {type(error).__name__}: {error}"
        n_bytes = _resident_bytes("VmHWM") - idle
        answers.write(json.dumps([" ".join(found.split())[:1000], n_bytes]) + "\n")
        answers.flush()


def _forget() -> None:
    """Give back what earlier cases freed, so that it does not count for the next."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)


def _resident_bytes(name: str) -> int:
    status = Path("/proc/self/status").read_text()
    return next(
        int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith(name)
    )
