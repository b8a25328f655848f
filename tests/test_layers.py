# SPDX-License-Identifier: Apache-2.0
"""Imports point down only: what docs/architecture.md draws."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "embellama"

LAYERS = [
    {"cgroups", "checksum", "cpu_features", "errors", "forking"},
    {"instruction_set", "libllama", "vector_loops"},
    {
        "config",
        "cores",
        "deadline",
        "gguf_header",
        "job_queue",
        "kernels",
        "usable_memory",
        "working_folder",
    },
    {
        "cache",
        "daemon_thread",
        "gguf_memory",
        "progress",
        "quantization",
        "results",
        "similarity",
        "texts",
    },
    {"core", "finished_rows", "gguf_check", "verification"},
    {"jobs", "batch", "convert", "partial_output"},
    {"workers"},
    {"acquisition"},
    {"catalog"},
    {"model_info"},
    {"embedder"},
    {"cached_embedder", "tuning"},
    {"loadable"},
    {"model"},
    {"engine"},
    {"__init__"},
    {"cli"},
    {"__main__"},
]
SUFFIXES = {".py", ".pyx", ".pxd", ".pyi", ".cpp", ".hpp", ".wrap"}
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}

MODULES = sorted(
    path
    for path in SOURCE.rglob("*")
    if path.suffix in {".py", ".pyx", ".pxd"} and path.name != "__init__.pxd"
)


def room(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].split(".")[0]


def imported(path: Path) -> set[str]:
    text = path.read_text()
    if path.suffix == ".py":
        names = set()
        tree = ast.parse(text)
        # An import for annotations only is none at run time.
        tree.body = [node for node in tree.body if not isinstance(node, ast.If)]
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module == "embellama":
                names |= {f"embellama.{alias.name}" for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names.add(node.module or "")
    else:
        pattern = r"^\s*(?:from (embellama[\w.]*) c?import ([\w, ]+)|c?import (embellama[\w.]+))"
        names = set()
        for package, members, whole in re.findall(pattern, text, re.MULTILINE):
            if package == "embellama":
                # Without what follows `as`.
                names |= {f"embellama.{member.split()[0]}" for member in members.split(",")}
            else:
                names.add(package or whole)
    return {name.split(".")[1] for name in names if name.startswith("embellama.")}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_point_down(path: Path) -> None:
    own = room(path)
    assert own in LEVEL, f"{path.name} has no place in LAYERS"
    for name in imported(path) - {own}:
        # Names that embellama/__init__.py exports, such as ModelConfig, are above everything.
        level = LEVEL.get(name, LEVEL["__init__"])
        assert level < LEVEL[own], f"{path.name} imports {name} from a layer not below it"


def test_core_knows_no_configuration_and_configuration_no_llama_cpp() -> None:
    for name in ("core.pyx", "kernels.pyx", "jobs.pyx", "workers.pyx"):
        assert "config" not in imported(SOURCE / name)
    assert imported(SOURCE / "config.py") == {"errors"}
    assert imported(SOURCE / "errors.py") == set()


def test_every_source_file_says_its_licence() -> None:
    top = SOURCE.parent
    for pattern in ("embellama/**/*", "tests/**/*", "subprojects/*"):
        for path in top.glob(pattern):
            if path.is_file() and path.suffix in SUFFIXES:
                assert "SPDX-License-Identifier: Apache-2.0" in path.read_text()[:200], path
