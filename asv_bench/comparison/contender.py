# SPDX-License-Identifier: Apache-2.0
"""One peer in one variant: set up, started, checked against the reference, and timed."""

from __future__ import annotations

import importlib
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Concatenate, ParamSpec

import numpy as np
from numpy.typing import NDArray
from peers import Settings, UnavailableError

from comparison import environment
from comparison.process import Process
from comparison.report import Measured

# Threads of ONNX Runtime spin for some 0.04 s after their work, and would slow the next contender.
REST = 0.1

Vectors = dict[str, NDArray[np.float64]]


def unit_rows(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    rows = vectors.astype(np.float64)
    lengths: NDArray[np.float64] = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / lengths


P = ParamSpec("P")


def each(
    contenders: Iterable[Contender],
    act: Callable[Concatenate[Contender, P], None],
    *arguments: P.args,
    **options: P.kwargs,
) -> None:
    """Call `act` for each contender in turn; after a failure skip it, and report the reason."""
    for contender in contenders:
        if contender.measured.unavailable is None:
            try:
                act(contender, *arguments, **options)
            except UnavailableError as error:
                contender.measured.unavailable = str(error)


class Contender:
    def __init__(self, name: str, variant: str, isa: str | None) -> None:
        self.name = name
        self.variant = variant
        self.module = importlib.import_module(f"peers.{name}")
        self.variables: dict[str, str] = {}
        self.measured = Measured(f"{name.replace('_', '-')} {variant}")
        if isa is not None:
            if isa in self.module.ISA_VARIABLES:
                self.variables = self.module.ISA_VARIABLES[isa]
            else:
                self.measured.notes.append(f"not held to {isa}: it has no switch for that")
        self.python: Path
        self.settings: Settings
        self.process: Process

    def set_up(self, environments: Path, settings: Settings) -> None:
        self.settings = settings
        if self.name == "embellama":
            self.python = Path(sys.executable)
        else:
            self.python = environment.python_of(environments, self.name, self.module.REQUIREMENTS)
        self.start({}, environments)
        self.measured.versions = self.process.ask("versions")
        self.process.ask("prepare")
        self.process.close()

    def start(self, texts: Mapping[str, list[str]], logs: Path) -> None:
        self.process = Process(
            self.python,
            self.name,
            self.variant,
            self.settings,
            texts,
            self.variables,
            logs / f"{self.measured.name.replace(' ', '-')}.log",
        )

    def load(self, texts: Mapping[str, list[str]], logs: Path) -> None:
        """Load in a new process; each call starts another one."""
        if self.measured.load_seconds:
            self.process.close()
        self.start(texts, logs)
        answer = self.process.ask("load", texts["one"][0])
        self.measured.load_seconds.append(answer["seconds"])
        self.measured.resident_mb = answer["resident_mb"]

    def tune(self, workload: str) -> None:
        answer = self.process.ask("tune", workload)
        if "batch_size" in answer:
            self.measured.batch_sizes[workload] = answer["batch_size"]

    def vectors(self, workload: str) -> NDArray[np.float64]:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "vectors.npy"
            self.process.ask("vectors", workload, str(path))
            return unit_rows(np.load(path))

    def check(self, workload: str, reference: NDArray[np.float64]) -> None:
        # For unit vectors 1 - cosine is half the squared distance, which has a far smaller
        # rounding error.
        difference = self.vectors(workload) - reference
        cosines = 1 - (difference * difference).sum(axis=1) / 2
        self.measured.cosines[workload] = (float(cosines.min()), float(cosines.mean()))

    def round(self, workload: str) -> None:
        time.sleep(REST)
        answer = self.process.ask("round", workload)
        self.measured.seconds.setdefault(workload, []).append(answer["seconds"])

    def finish(self) -> None:
        self.measured.peak_mb = self.process.ask("peak")["peak_mb"]
        self.process.close()
