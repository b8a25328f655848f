# SPDX-License-Identifier: Apache-2.0
"""The blocks of docs/how-to/search-a-corpus.md that need a package which the tests don't."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from support.child_process import TIMEOUT
from support.folders import REPOSITORY

pytestmark = [
    pytest.mark.slow,
    # Those of the packages are theirs.
    pytest.mark.filterwarnings("default"),
]

PAGE = (REPOSITORY / "docs" / "how-to" / "search-a-corpus.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("package", ["faiss", "lancedb", "qdrant_client"])
def test_block(package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip(package, reason=f"needs {package}")
    monkeypatch.chdir(tmp_path)
    prepare = next(source for language, source in BLOCKS if language == "sh")
    subprocess.run(["bash", "-euc", prepare], check=True, timeout=TIMEOUT, capture_output=True)
    python = [source for language, source in BLOCKS if language == "python"]
    namespace: dict[str, Any] = {}
    exec(python[0], namespace)
    exec(
        next(
            source
            for source in python
            if f"import {package}" in source or f"from {package} import" in source
        ),
        namespace,
    )
    assert namespace["found"] == ["a.txt", "b.txt"]
