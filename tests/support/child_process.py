# SPDX-License-Identifier: Apache-2.0
"""Programs run in a process of their own, which a signal or a hang would end."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from typing import Any

from support.folders import TESTS

# How many times longer than usual a program may take: sanitizers slow it down.
PATIENCE = int(os.environ.get("TEST_PATIENCE", "1"))
# Seconds until a program counts as hung.
TIMEOUT = 120 * PATIENCE


def run(
    program: str,
    *,
    timeout: float = TIMEOUT,
    environment: Mapping[str, str] | None = None,
    **values: Any,
) -> str:
    """Run a program and return what it printed, once it has ended well.

    Parameters
    ----------
    program : str
        Python source; it may import :mod:`support`.
    timeout : float
        Seconds until it counts as hung.
    environment : mapping, optional
        Environment variables to add to this process's own.
    **values
        Variables the program finds set, PATIENCE among them.

    Returns
    -------
    str
    """
    head = f"import sys; sys.path.insert(0, {str(TESTS)!r})\n"
    head += f"PATIENCE = {PATIENCE}\n"
    head += "".join(f"{name} = {value!r}\n" for name, value in values.items())
    return _output("-c", head + textwrap.dedent(program), timeout=timeout, environment=environment)


def run_file(name: str, *arguments: str, status: int = 0) -> str:
    """Run a file of tests/programs and return all it printed, once it has ended with `status`."""
    return _output(
        str(TESTS / "programs" / name), *arguments, status=status, stderr=subprocess.STDOUT
    )


def _output(
    *arguments: str,
    timeout: float = TIMEOUT,
    environment: Mapping[str, str] | None = None,
    status: int = 0,
    stderr: int = subprocess.PIPE,
) -> str:
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-W", "ignore::DeprecationWarning", *arguments],
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        timeout=timeout,
        env=os.environ | dict(environment or {}),
        check=False,
    )
    assert done.returncode == status, (
        f"ended with {done.returncode} after {done.stdout[-3000:]!r}: {(done.stderr or '')[-3000:]}"
    )
    return done.stdout
