# SPDX-License-Identifier: Apache-2.0
"""The C++ program raw_loop/raw_loop.cpp over embellama's own build of llama.cpp."""

from __future__ import annotations

import configparser
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from comparison.ggml import environment
from numpy.typing import NDArray

from peers import Peer as Base
from peers import Settings

REPOSITORY = Path(__file__).parents[2]

# These packages are needed only to build the program.
REQUIREMENTS = ("meson", "ninja", "cython", "numpy", "pip")
VARIANTS = ("F16",)
# The program is built for the level instead: see `build_folder`.
ISA_VARIABLES: dict[str, dict[str, str]] = {"avx2": {}, "avx512": {}}
CPU_OPTION = {None: "native", "avx2": "x86-64-v3", "avx512": "x86-64-v4"}


def build_folder(settings: Settings) -> Path:
    return REPOSITORY / "build" / f"raw_loop-{CPU_OPTION[settings.isa]}"


class Rounds:
    """The program with given texts, which computes a round when it is asked."""

    def __init__(self, command: list[str], texts: list[str]) -> None:
        self.folder = tempfile.TemporaryDirectory()
        lines = Path(self.folder.name) / "texts.txt"
        lines.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
        self.vectors = Path(self.folder.name) / "vectors.f32"
        program, model, *options = command
        self.process = subprocess.Popen(
            [program, model, str(lines), *options, "--paced", "--vectors", str(self.vectors)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(Path(program)),
        )

    def next(self) -> float:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline().split()[0])

    def finish(self) -> NDArray[np.float32]:
        self.process.communicate()
        vectors = np.fromfile(self.vectors, dtype=np.float32)
        self.folder.cleanup()
        return vectors


class Peer(Base):
    @classmethod
    def prepare(cls, settings: Settings, variant: str) -> None:
        folder = build_folder(settings)
        if not (folder / "build.ninja").exists():
            option = f"-Dcpu={CPU_OPTION[settings.isa]}"
            command = ["meson", "setup", str(folder), str(REPOSITORY), "-Dbenchmarks=true", option]
            subprocess.run(command, check=True)
        subprocess.run(["meson", "compile", "-C", str(folder), "raw_loop"], check=True)

    def __init__(self, settings: Settings, variant: str) -> None:
        program = build_folder(settings) / "asv_bench" / "raw_loop" / "raw_loop"
        self.command = [
            *(str(program), str(settings.gguf[variant])),
            *("--threads", str(settings.n_threads), "--rounds", str(2**31 - 1)),
        ]
        self.running: dict[tuple[str, ...], Rounds] = {}
        self.last: Rounds | None = None  # of a batch

    @classmethod
    def versions(cls, requirements: tuple[str, ...]) -> dict[str, str]:
        wrap = configparser.ConfigParser()
        wrap.read(REPOSITORY / "subprojects" / "llama.cpp.wrap", encoding="utf-8")
        return {"llama.cpp": wrap["wrap-git"]["revision"]}

    @property
    def process_id(self) -> int:
        assert self.last is not None
        return self.last.process.pid

    def rounds(self, texts: list[str], *options: str) -> Rounds:
        key = (*options, *texts)
        if key not in self.running:
            self.running[key] = Rounds([*self.command, *options], texts)
        return self.running[key]

    def embed(self, texts: list[str], batch_size: int) -> NDArray[np.float32]:
        rounds = Rounds(self.command, texts)
        rounds.next()
        return rounds.finish().reshape(len(texts), -1)

    def time(self, texts: list[str], batch_size: int) -> float:
        self.last = self.rounds(texts)
        return len(texts) / self.last.next()

    def time_one(self, texts: list[str]) -> float:
        return self.rounds(texts, "--one").next() / 1000
