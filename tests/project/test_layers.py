# SPDX-License-Identifier: Apache-2.0
"""Imports point down only: what docs/architecture.md draws."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from support.folders import REPOSITORY

SOURCE = REPOSITORY / "embellama"

# A folder is one room, and so is a module at the top with its declarations.
LAYERS = [
    {"errors", "libllama", "runtime"},
    {"encoder", "environment", "instruction_set", "keywords", "machine"},
    {"progress", "results", "settings", "token_ids", "vectors"},
    {"config", "files", "utf8", "vector_loops", "vector_similarity"},
    {"gguf", "rows"},
    {"kernels", "native"},
    {"core", "quantization"},
    {"batch", "workers"},
    {"convert"},
    {"obtaining"},
    {"catalog"},
    {"file_info"},
    {"embedding"},
    {"model_methods"},
    {"model"},
    {"engine_methods"},
    {"arrow", "vector_settings"},
    {"corpus"},
    {"ray"},
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
    if path.suffix in {".py", ".pyx", ".pxd", ".cpp", ".hpp"} and path.parent.name != "ggml"
)


def room(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].split(".")[0]


def imported_modules(path: Path) -> set[str]:
    """The modules of embellama that a module imports, without the package's own name."""
    text = path.read_text()
    names = set()
    if path.suffix == ".py":
        tree = ast.parse(text)
        # What is imported for annotations only is not imported at run time.
        tree.body = [node for node in tree.body if not isinstance(node, ast.If)]
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module == "embellama":
                names |= {f"embellama.{alias.name}" for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names.add(node.module or "")
    elif path.suffix in {".pyx", ".pxd"}:
        members = r"[\w, ]+|\([\w,\s]+\)"
        pattern = rf"^\s*(?:from (embellama[\w.]*) c?import ({members})|c?import (embellama[\w.]+))"
        for package, members, whole in re.findall(pattern, text, re.MULTILINE):
            if package == "embellama":
                # Without what follows `as`.
                listed = members.strip("() \n,").split(",")
                names |= {f"embellama.{member.split()[0]}" for member in listed}
            else:
                names.add(package or whole)
    return {name.removeprefix("embellama.") for name in names if name.startswith("embellama.")}


def included_headers(path: Path) -> set[Path]:
    """The headers of embellama that a C++ file includes, or a Cython file declares."""
    names = re.findall(r'(?:#include|cdef extern from) "([\w./]+)"', path.read_text())
    # C++ names a header from its own folder, Cython from the package's.
    found = {(folder / name).resolve() for name in names for folder in (path.parent, SOURCE)}
    return {header for header in found if header.is_file() and SOURCE in header.parents}


def rooms_below(path: Path) -> set[str]:
    used = {name.split(".")[0] for name in imported_modules(path)}
    return (used | {room(header) for header in included_headers(path)}) - {room(path)}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_and_includes_point_down(path: Path) -> None:
    own = room(path)
    assert own in LEVEL, f"{path.name} has no place in LAYERS"
    for name in rooms_below(path):
        # Names that embellama/__init__.py exports, such as ModelConfig, are above everything.
        level = LEVEL.get(name, LEVEL["__init__"])
        assert level < LEVEL[own], f"{path.name} uses {name} from a layer not below it"


def test_no_module_needs_one_that_needs_it() -> None:
    uses = {
        ".".join(path.relative_to(SOURCE).with_suffix("").parts): imported_modules(path)
        for path in MODULES
        if path.suffix == ".py" and path.name != "__init__.py"
    }

    def visit(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, f"a circle: {' -> '.join([*way, name])}"
        for used in uses.get(name, ()):
            visit(used, (*way, name))

    for name in uses:
        visit(name, ())


def test_core_knows_no_configuration_and_configuration_no_llama_cpp() -> None:
    for name in ("core.pyx", "kernels.pyx", "workers.pyx"):
        assert "config" not in imported_modules(SOURCE / name)
    assert imported_modules(SOURCE / "config.py") == {
        "environment",
        "errors",
        "keywords",
        "settings",
    }
    assert imported_modules(SOURCE / "errors.py") == set()


def test_libllama_declares_and_does_nothing() -> None:
    files = [path for path in (SOURCE / "libllama").iterdir() if path.is_file()]
    assert {path.suffix for path in files} <= {".pxd", ".py"}


def test_every_source_file_says_its_licence() -> None:
    top = SOURCE.parent
    for pattern in ("embellama/**/*", "tests/**/*", "subprojects/*", "build_backend/*"):
        for path in top.glob(pattern):
            if path.is_file() and path.suffix in SUFFIXES:
                assert "SPDX-License-Identifier: Apache-2.0" in path.read_text()[:200], path
