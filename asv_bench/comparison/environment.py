# SPDX-License-Identifier: Apache-2.0
"""A virtual environment for each peer, made once and kept."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from peers import UnavailableError


def python_of(folder: Path, name: str, requirements: Sequence[str]) -> Path:
    """Return the interpreter of an environment in `folder` that has `requirements`.

    Raises
    ------
    UnavailableError
        If pip can't install them.
    """
    key = hashlib.sha256(" ".join([sys.version, *requirements]).encode()).hexdigest()[:8]
    environment = folder / f"{name}-{key}"
    python = environment / "bin" / "python"
    complete = environment / "complete"
    if complete.exists():
        return python
    shutil.rmtree(environment, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    # A source distribution is built for this processor, as users would build it.
    result = subprocess.run(
        [str(python), "-m", "pip", "install", "--disable-pip-version-check", *requirements],
        capture_output=True,
        text=True,
    )
    log = folder / f"{environment.name}.log"
    log.write_text(result.stdout + result.stderr, encoding="utf-8")
    if result.returncode != 0:
        errors = [line for line in result.stderr.splitlines() if line.lower().startswith("error")]
        raise UnavailableError(f"pip: {' '.join(errors) or 'failed'} ({log.name})")
    complete.touch()
    return python
