# SPDX-License-Identifier: Apache-2.0
"""The release of llama.cpp stands in the wrap; what else has to agree with it."""

from __future__ import annotations

import configparser
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.folders import REPOSITORY

import embellama

SUBPROJECTS = REPOSITORY / "subprojects"


def wrap() -> configparser.SectionProxy:
    parser = configparser.ConfigParser()
    parser.read(SUBPROJECTS / "llama.cpp.wrap")
    return parser["wrap-git"]


RELEASE = wrap()["revision"]
# docs/install.md and the docstring show it as what an example prints, and the examples are run.
SHOWN = {"CHANGELOG.md", "docs/install.md", "embellama/core.pyx", "subprojects/llama.cpp.wrap"}


def test_the_library_is_built_from_it() -> None:
    assert embellama.backend_info()["llama_cpp"] == RELEASE


def test_it_is_what_the_package_index_is_asked_for() -> None:
    text = (SUBPROJECTS / "fetch_llama_cpp.py").read_text()
    asked = re.findall(r"xllamacpp[-=]+[\d.]*?(\d+)[/\"]", text)
    assert [f"b{number}" for number in asked] == [RELEASE] * 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("PEP517_BACKEND_PATH", str(REPOSITORY / "build_backend")),
        ("_PYPROJECT_HOOKS_BACKEND_PATH_JSON", json.dumps([str(REPOSITORY / "build_backend")])),
    ],
)
def test_it_is_fetched_while_embellama_is_built(tmp_path: Path, variable: str, value: str) -> None:
    """Frontends name the folder of our build backend in a variable: older ones and newer ones."""
    script = shutil.copy(SUBPROJECTS / "fetch_llama_cpp.py", tmp_path)
    subprocess.run([sys.executable, script], env=os.environ | {variable: value}, check=True)
    assert (tmp_path / "packagecache" / "llama.cpp" / "LICENSE").is_file()


def test_every_patch_is_applied() -> None:
    patches = SUBPROJECTS / "packagefiles" / "llama.cpp" / "patches"
    applied = [name.strip() for name in wrap()["diff_files"].split(",")]
    assert sorted(applied) == sorted(f"llama.cpp/patches/{path.name}" for path in patches.iterdir())


def test_the_changelog_names_it() -> None:
    newest = re.search(r"llama\.cpp (b\d+)", (REPOSITORY / "CHANGELOG.md").read_text())
    assert newest is not None
    assert newest[1] == RELEASE


@pytest.mark.parametrize("pattern", ["*.*", "docs/**/*.md", "embellama/**/*.*", "subprojects/*.*"])
def test_it_stands_nowhere_else(pattern: str) -> None:
    for path in REPOSITORY.glob(pattern):
        name = str(path.relative_to(REPOSITORY))
        if path.is_file() and path.suffix not in {".so", ".pyc"} and name not in SHOWN:
            assert RELEASE not in path.read_text(encoding="utf-8", errors="replace"), name
