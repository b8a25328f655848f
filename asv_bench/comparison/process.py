# SPDX-License-Identifier: Apache-2.0
"""A peer's process as the comparison sees it; comparison.serve is the program that runs in it."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from peers import Settings, UnavailableError

FOLDER = Path(__file__).parents[1]


class Process:
    """A peer in its own interpreter, which does one thing at a time."""

    def __init__(
        self,
        python: Path,
        name: str,
        variant: str,
        settings: Settings,
        texts: Mapping[str, list[str]],
        variables: Mapping[str, str],
        log: Path,
    ) -> None:
        self.log = log
        threads = str(settings.n_threads)
        with log.open("ab") as errors:
            self.process = subprocess.Popen(
                [str(python), "-m", "comparison.serve"],
                cwd=FOLDER,
                env={
                    **os.environ,
                    "OMP_NUM_THREADS": threads,
                    "RAYON_NUM_THREADS": threads,  # tokenizers
                    "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}",
                    **variables,
                },
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                encoding="utf-8",
            )
        self.send([name, variant, dataclasses.asdict(settings), texts])

    def send(self, message: list[Any]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(message, default=os.fspath) + "\n")
        self.process.stdin.flush()

    def ask(self, command: str, *arguments: str) -> dict[str, Any]:
        """Run the method `command` of `comparison.serve.Server` in the process; return its answer.

        Raises
        ------
        UnavailableError
            If the peer can't run it, or has ended. The message is the peer's, or the last line of
            its log.
        """
        assert self.process.stdout is not None
        try:
            self.send([command, *arguments])
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            status = self.process.wait()
            last = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
            raise UnavailableError(f"ended with status {status}: {' '.join(last)}")
        answer: dict[str, Any] = json.loads(line)
        if "unavailable" in answer:
            raise UnavailableError(answer["unavailable"])
        return answer

    def close(self) -> None:
        self.process.communicate()
