# SPDX-License-Identifier: Apache-2.0
"""A path is what it was when it was given; ``~`` is the home directory."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from support.tiny_model import write_tiny_bert

import embellama
from embellama import EmbeddingEngine, EmbeddingModel, EngineConfig, ModelConfig, catalog
from embellama.convert import convert_checkpoint


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home directory and the working directory, with a model in both."""
    write_tiny_bert(tmp_path / "tiny.gguf")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("path", ["tiny.gguf", "./tiny.gguf", "elsewhere/../tiny.gguf"])
def test_a_model_is_loaded_again_elsewhere(
    home: Path, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = EmbeddingModel(path)
    assert model.path == home / "tiny.gguf"
    model.unload()
    monkeypatch.chdir("elsewhere")
    with model:
        assert model.embed("hello").shape == (32,)
    # A file that has changed is read anew, and still is that one.
    write_tiny_bert(home / "tiny.gguf", seed=1)
    with model:
        assert model.path == home / "tiny.gguf"


def test_an_engine_loads_a_model_elsewhere(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy("tiny.gguf", "other.gguf")
    engine = EmbeddingEngine("tiny.gguf")
    engine.load_model("other.gguf")
    monkeypatch.chdir("elsewhere")
    assert engine.embed("hello", model="other").shape == (32,)
    assert engine.model_info("other").path == home / "other.gguf"


def test_a_path_that_is_spelled_as_one_need_not_exist_yet(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = ModelConfig("./later.gguf")
    monkeypatch.chdir("elsewhere")
    shutil.copy(home / "tiny.gguf", home / "later.gguf")
    with EmbeddingModel(config) as model:
        assert model.name == "later"


def test_names_stay_names(home: Path) -> None:
    for name in ("all-MiniLM-L6-v2", "org/repo/file.gguf", "later.gguf"):
        assert ModelConfig(name).model_path == name
    # A folder is no model, and may have the name of one.
    Path("all-MiniLM-L6-v2").mkdir()
    assert ModelConfig("all-MiniLM-L6-v2").model_path == "all-MiniLM-L6-v2"


def test_a_tilde(home: Path, minilm_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("elsewhere")
    expected = home / "tiny.gguf"
    assert ModelConfig("~/tiny.gguf").model_path == str(expected)
    assert ModelConfig(Path("~/tiny.gguf")).model_path == str(expected)
    monkeypatch.setenv("EMBELLAMA_MODEL_PATH", "~/tiny.gguf")
    assert EngineConfig.from_env().model_config.model_path == str(expected)
    assert catalog.resolve("~/tiny.gguf") == expected
    assert embellama.model_info("~/tiny.gguf").path == expected
    assert catalog.provenance("~/tiny.gguf") is None
    shutil.copytree(minilm_path.with_name("all-MiniLM-L6-v2"), home / "checkpoint")
    made = convert_checkpoint("~/checkpoint", "~/made.gguf")
    assert made == home / "made.gguf"
    with pytest.raises(embellama.ModelNotFoundError, match=str(home / "none.gguf")):
        EmbeddingModel("~/none.gguf")


def test_a_relative_path_is_resolved_once(home: Path) -> None:
    assert catalog.resolve("tiny.gguf") == home / "tiny.gguf"
    assert ModelConfig("tiny.gguf") == ModelConfig(home / "tiny.gguf")
    assert os.path.isabs(ModelConfig("tiny.gguf").model_path)
