# SPDX-License-Identifier: Apache-2.0
"""An editable install is refused where it could not rebuild; .ci/long makes one that can."""

from __future__ import annotations

import subprocess
import sys

import pytest
from support.child_process import TIMEOUT
from support.folders import REPOSITORY

COMMAND = "pip install --no-build-isolation -e ."


def test_a_build_in_isolation_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(REPOSITORY / "build_backend"))
    import meson_python

    with pytest.raises(SystemExit, match=f"{COMMAND}$"):
        meson_python.get_requires_for_build_editable()
    # A wheel's requirements are what meson-python says.
    assert isinstance(meson_python.get_requires_for_build_wheel(), list)


@pytest.mark.slow
def test_pip_shows_why() -> None:
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--no-deps", "-e", REPOSITORY]
    done = subprocess.run(command, capture_output=True, text=True, timeout=3 * TIMEOUT, check=False)
    assert done.returncode == 1
    assert COMMAND in done.stdout + done.stderr


def test_who_imports_the_sources_is_told_the_same_command() -> None:
    program = f"import sys; sys.path.insert(0, {str(REPOSITORY)!r}); import embellama"
    # -S: without site-packages, where an editable install would be found first.
    done = subprocess.run(
        [sys.executable, "-S", "-c", program], capture_output=True, text=True, check=False
    )
    assert COMMAND in done.stderr
    assert COMMAND in (REPOSITORY / "CONTRIBUTING.md").read_text()
