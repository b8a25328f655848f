# SPDX-License-Identifier: Apache-2.0
"""Every code block of the README and of docs/ runs, and prints what stands below it.

The blocks of a page run in order, in a folder of their own: ```python in one namespace, ```sh in a
shell, ```cython compiled before, under the name in its first line. A ```text right after a block is
what it prints, ``...`` for what differs from run to run.
"""

from __future__ import annotations

import contextlib
import doctest
import importlib
import importlib.metadata
import io
import linecache
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.child_process import TIMEOUT
from support.folders import REPOSITORY
from support.installation import EDITABLE

from embellama import catalog

PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
LANGUAGES = {"python", "sh", "cython"}

BLOCK = re.compile(
    r"^(?P<elsewhere><!-- run elsewhere: [^>]+ -->\n)?"
    r"```(?P<language>\w+)\n(?P<source>.*?)^```\n"
    r"(?:\n```text\n(?P<printed>.*?)^```\n)?",
    re.MULTILINE | re.DOTALL,
)


def blocks(page: Path) -> list[re.Match[str]]:
    text = page.read_text(encoding="utf-8")
    found = [match for match in BLOCK.finditer(text) if not match["elsewhere"]]
    return [match for match in found if match["language"] in LANGUAGES]


def assert_prints(match: re.Match[str], printed: str, where: str) -> None:
    expected = match["printed"]
    if expected is not None:
        options = doctest.ELLIPSIS
        checker = doctest.OutputChecker()
        assert checker.check_output(expected, printed, options), (
            f"{where} printed\n{printed}\ninstead of\n{expected}"
        )


def compile_cython(match: re.Match[str], folder: Path) -> None:
    name = re.match(r"# (\w+)\.pyx\n", match["source"])
    assert name is not None, "the first line names the file"
    (folder / f"{name[1]}.pyx").write_text(match["source"])
    program = (
        "from Cython.Build import cythonize\n"
        "from setuptools import setup\n"
        f"setup(name='page', ext_modules=cythonize(['{name[1]}.pyx']))\n"
    )
    (folder / "setup.py").write_text(program)
    command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    subprocess.run(command, cwd=folder, env={**os.environ, "CFLAGS": "-O0"}, check=True)


def run_sh(match: re.Match[str], where: str) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", match["source"]],
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert (done.returncode, done.stderr) == (0, ""), where
    assert_prints(match, done.stdout, where)


def run_python(match: re.Match[str], namespace: dict[str, object], where: str) -> None:
    # For tracebacks, and for what looks at its own source.
    source = match["source"]
    linecache.cache[where] = (len(source), None, source.splitlines(keepends=True), where)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(source, where, "exec"), namespace)
    assert_prints(match, printed.getvalue(), where)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_page(
    page: Path,
    smollm2_path: Path,
    reranker_path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "smollm2.gguf").symlink_to(smollm2_path)
    (tmp_path / "reranker.gguf").symlink_to(reranker_path)
    (tmp_path / "texts.txt").write_text("A cat sat on the mat.\nInterest rates rose again.\n")
    for file in page.parent.glob("*.jsonl"):
        shutil.copy(file, tmp_path)
    namespace: dict[str, object] = {"__name__": "page"}
    found = blocks(page)
    for match in found:
        if match["language"] == "cython":
            if EDITABLE:
                pytest.skip("Cython finds no declarations in an editable installation")
            compile_cython(match, tmp_path)
    importlib.invalidate_caches()
    for number, match in enumerate(found, start=1):
        where = f"{page.relative_to(REPOSITORY)}, block {number}"
        if match["language"] == "python":
            run_python(match, namespace, where)
        elif match["language"] == "sh":
            run_sh(match, where)


def test_the_tables_of_models_are_those_of_the_catalog() -> None:
    """`python docs/models_table.py` writes them."""
    program = runpy.run_path(str(REPOSITORY / "docs" / "models_table.py"))
    page = program["PAGE"].read_text(encoding="utf-8")
    assert page == program["page_with_tables"](page)
    for entry in catalog.known_models():
        assert f"[{entry.name}]({entry.url})" in page


def test_the_pages_of_families_are_those_of_the_catalog() -> None:
    """`python docs/models/family_pages.py` writes them."""
    pages = runpy.run_path(str(REPOSITORY / "docs" / "models" / "family_pages.py"))["pages"]()
    for path, text in pages.items():
        assert path.read_text(encoding="utf-8") == text, path
    for entry in catalog.known_models():
        assert f"{entry.architecture}.md" in {path.name for path in pages}


def test_extras_that_pages_name_exist() -> None:
    metadata = importlib.metadata.metadata("embellama")
    extras = set(metadata.get_all("Provides-Extra"))
    for page in PAGES:
        for names in re.findall(
            r'"(?:embellama|\.)\[([\w,-]+)\]', page.read_text(encoding="utf-8")
        ):
            assert set(names.split(",")) <= extras, page


def test_what_does_not_run_here_says_where() -> None:
    """A fence of another language, or one that the pattern above misses, would go untested."""
    for page in PAGES:
        fences = re.findall(r"^```(\w+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
        elsewhere = page.read_text(encoding="utf-8").count("<!-- run elsewhere: ")
        assert set(fences) <= {*LANGUAGES, "text"}, page
        assert sum(fence in LANGUAGES for fence in fences) == len(blocks(page)) + elsewhere, page


@pytest.mark.slow
@pytest.mark.parametrize("name", ["life_of_a_text", "map", "packing", "rates"])
def test_drawing(name: str, tmp_path: Path) -> None:
    """Those that measure take minutes, and nothing here could compare their figures."""
    script = REPOSITORY / "docs" / "drawings" / f"{name}.py"
    subprocess.run([sys.executable, str(script)], cwd=tmp_path, check=True, timeout=3 * TIMEOUT)
    assert (tmp_path / f"{name}.svg").read_text().count("<path") > 20
    assert (REPOSITORY / "docs" / "drawings" / f"{name}.svg").exists()
