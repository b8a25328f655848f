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


def run(
    program: str,
    *,
    timeout: float = 60,
    environment: Mapping[str, str] | None = None,
    **values: Any,
) -> str:
    """Run a program and return what it printed, once it has ended well.

    Parameters
    ----------
    program : str
        Python source; it may import :mod:`support`.
    timeout : float
        Seconds until it counts as hung, times PATIENCE.
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
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-W", "ignore::DeprecationWarning", "-c",
         head + textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=timeout * PATIENCE,
        env=os.environ | dict(environment or {}),
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, (
        f"ended with {done.returncode} after {done.stdout[-500:]!r}: {done.stderr[-3000:]}"
    )
    return done.stdout
