# SPDX-License-Identifier: Apache-2.0
"""What a user of the local Hub does: each call in a process of its own, with its own caches."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from support.child_process import TIMEOUT
from support.hub_server import HubServer, serving

RESOLVE = """
import sys
from embellama import catalog
from embellama.errors import EmbellamaError
try:
    print(catalog.resolve(sys.argv[1], file_type=sys.argv[2] or None, progress=False))
except EmbellamaError as error:
    print(f"{type(error).__name__}: {error}")
"""


class Hub(NamedTuple):
    """A server, and embellama's cache beside huggingface_hub's."""

    server: HubServer
    cache: Path
    hub_cache: Path

    def resolve(self, name: str, file_type: str = "", **environment: str) -> str:
        """What catalog.resolve returns in a process of its own, or raises."""
        command = [sys.executable, "-c", RESOLVE, name, file_type]
        done = self.run(command, **environment)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def command(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run embellama."""
        return self.run([sys.executable, "-m", "embellama", *arguments], **environment)

    def run(self, command: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a program for which the server is the Hub."""
        return subprocess.run(
            command,
            env={**os.environ, **self.server.environment, **environment},
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )


@contextmanager
def local_hub(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Run a server, and have both caches in a folder; this process itself is offline."""
    for name in [name for name in os.environ if name.startswith("HF_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("EMBELLAMA_CACHE", str(folder / "cache"))
    monkeypatch.setenv("HF_HOME", str(folder / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with serving() as server:
        yield Hub(server, folder / "cache" / "models", folder / "hub" / "hub")
