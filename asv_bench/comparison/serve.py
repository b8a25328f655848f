# SPDX-License-Identifier: Apache-2.0
"""The program in a peer's process: for each line, a JSON list with a command, it writes its answer.

`comparison.process.Process` starts it in the peer's own environment, from the folder above. Each
answer is a JSON object.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from peers import Peer, Settings, UnavailableError

# Runs of each batch size; the best of them counts.
TUNING_RUNS = 2


def memory_mb(process_id: int, key: str) -> float:
    """Return VmRSS, or VmHWM for the peak, in 10**6 bytes; see proc_pid_status(5)."""
    status = Path(f"/proc/{process_id}/status").read_text(encoding="ascii")
    found = re.search(rf"^{key}:\s+(\d+) kB$", status, re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024 / 1e6


class Server:
    def __init__(self, name: str, variant: str, settings: Settings, texts: dict[str, Any]) -> None:
        self.module = importlib.import_module(f"peers.{name}")
        self.variant = variant
        self.settings = settings
        self.texts: dict[str, list[str]] = texts
        # The memory of an interpreter with numpy, which any such library needs.
        self.bare_mb = memory_mb(os.getpid(), "VmRSS")
        self.peer: Peer
        self.batch_sizes: dict[str, int] = {}

    def over_bare(self, key: str) -> float:
        bare_mb = self.bare_mb if self.peer.process_id == os.getpid() else 0.0
        return memory_mb(self.peer.process_id, key) - bare_mb

    def prepare(self) -> dict[str, Any]:
        self.module.Peer.prepare(self.settings, self.variant)
        return {}

    def load(self, text: str) -> dict[str, Any]:
        """Return the seconds to the first vector, with the import of the library."""
        start = time.perf_counter()
        self.peer = self.module.Peer(self.settings, self.variant)
        self.peer.time([text], 1)
        return {"seconds": time.perf_counter() - start, "resident_mb": self.over_bare("VmRSS")}

    def versions(self) -> dict[str, Any]:
        versions: dict[str, Any] = self.module.Peer.versions(self.module.REQUIREMENTS)
        return versions

    def tune(self, workload: str) -> dict[str, Any]:
        """Find the fastest batch size for a workload, and warm up."""
        if workload == "one" or not self.peer.batch_sizes:
            self.round(workload)
            return {}
        texts = self.texts[workload]
        seconds = {
            size: min(self.peer.time(texts, size) for _ in range(TUNING_RUNS))
            for size in self.peer.batch_sizes
            if size <= len(texts)
        }
        self.batch_sizes[workload] = min(seconds, key=seconds.__getitem__)
        return {"batch_size": self.batch_sizes[workload]}

    def round(self, workload: str) -> dict[str, Any]:
        """Return the seconds for all texts; for the workload "one" the median of single texts."""
        texts = self.texts[workload]
        if workload == "one":
            return {"seconds": self.peer.time_one(texts)}
        return {"seconds": self.peer.time(texts, self.batch_sizes.get(workload, 1))}

    def vectors(self, workload: str, path: str) -> dict[str, Any]:
        texts = self.texts[workload]
        if workload == "one":
            vectors = np.concatenate([self.peer.embed([text], 1) for text in texts])
        else:
            vectors = self.peer.embed(texts, self.batch_sizes.get(workload, 1))
        np.save(path, vectors)
        return {}

    def peak(self) -> dict[str, Any]:
        return {"peak_mb": self.over_bare("VmHWM")}


def main() -> None:
    # Libraries print to standard output, so the answers go to a copy of it, which they don't know.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    name, variant, settings, texts = json.loads(sys.stdin.readline())
    for key in ("checkpoint", "exported"):
        settings[key] = Path(settings[key])
    settings["gguf"] = {file_type: Path(path) for file_type, path in settings["gguf"].items()}
    server = Server(name, variant, Settings(**settings), texts)
    for line in sys.stdin:
        command, *arguments = json.loads(line)
        try:
            answer = getattr(server, command)(*arguments)
        except UnavailableError as error:
            answer = {"unavailable": str(error)}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
