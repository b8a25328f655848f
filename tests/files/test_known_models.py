# SPDX-License-Identifier: Apache-2.0
"""What the catalog knows of a model is used when it is named, by whatever name."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from support.checkpoints import write_checkpoint
from support.tiny_model import write_tiny_model

from embellama import EmbeddingModel, ModelConfig, catalog, model_info
from embellama.convert import convert_checkpoint
from embellama.errors import ModelNotFoundError

TEXTS = ["hello world", "a text about something else", "hello"]


def in_hub_cache(folder: Path, repository: str) -> Path:
    """A place for a GGUF file as huggingface_hub's cache has them."""
    path = folder / f"models--{repository.replace('/', '--')}" / "snapshots" / ("5" * 40)
    path.mkdir(parents=True)
    return path / "model.gguf"


@pytest.mark.parametrize("accuracy", ["fast", "exact"])
def test_a_layer_norm_before_the_cut(tmp_path: Path, accuracy: str) -> None:
    """The formula of nomic-embed-text-v1.5's model card: layer_norm, cut, normalise."""
    path = write_tiny_model(in_hub_cache(tmp_path, "nomic-ai/nomic-embed-text-v1.5-GGUF"), "bert")
    own = tmp_path / "own.gguf"
    own.write_bytes(path.read_bytes())
    key = {"embellama.layer_norm_before_cut": True}
    stated = write_tiny_model(tmp_path / "stated.gguf", "bert", metadata=key)
    with EmbeddingModel(ModelConfig(path, accuracy=accuracy, normalization="none")) as model:
        raw = model.embed_batch(TEXTS).astype(np.float64)
    deviations = np.sqrt(raw.var(axis=1, keepdims=True) + 1e-5)
    cut = ((raw - raw.mean(axis=1, keepdims=True)) / deviations)[:, :16]
    expected = cut / np.linalg.norm(cut, axis=1, keepdims=True)
    with EmbeddingModel(ModelConfig(path, accuracy=accuracy)) as model:
        assert model.info.layer_norm_before_cut
        found = model.embed_batch(TEXTS, truncate_dim=16)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
        # What is not cut has no layer norm.
        plain = raw / np.linalg.norm(raw, axis=1, keepdims=True)
        np.testing.assert_allclose(model.embed_batch(TEXTS), plain, rtol=0, atol=1e-6)
        np.testing.assert_allclose(
            model.embed_batch(TEXTS, truncate_dim=32), plain, rtol=0, atol=1e-6
        )
        as_bits = model.embed_batch(TEXTS, truncate_dim=16, dtype="ubinary")
        np.testing.assert_array_equal(as_bits, np.packbits(found > 0, axis=1))
    with EmbeddingModel(ModelConfig(stated, accuracy=accuracy)) as model:
        np.testing.assert_array_equal(model.embed_batch(TEXTS, truncate_dim=16), found)
    with EmbeddingModel(ModelConfig(own, accuracy=accuracy)) as model:
        assert not model.info.layer_norm_before_cut
        plain_cut = plain[:, :16] / np.linalg.norm(plain[:, :16], axis=1, keepdims=True)
        found = model.embed_batch(TEXTS, truncate_dim=16)
        np.testing.assert_allclose(found, plain_cut, rtol=0, atol=1e-6)


def test_the_pooling_of_a_file_that_says_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = in_hub_cache(tmp_path, "BAAI/bge-small-en-v1.5")
    write_tiny_model(path, "bert", metadata={"bert.pooling_type": None})
    info = model_info(path)
    assert (info.pooling.value, info.pooling_source) == ("cls", "the catalog")
    with EmbeddingModel(path) as model, EmbeddingModel(ModelConfig(path, pooling="cls")) as cls:
        np.testing.assert_array_equal(model.embed("hello world"), cls.embed("hello world"))
    assert not [record for record in caplog.records if "how the model pools" in record.message]

    stated = write_tiny_model(path, "bert", metadata={"bert.pooling_type": 1})
    info = model_info(stated)
    assert (info.pooling.value, info.pooling_source) == ("mean", "the file")

    own = write_tiny_model(tmp_path / "own.gguf", "bert", metadata={"bert.pooling_type": None})
    assert model_info(own).pooling_source == "a guess"
    with caplog.at_level(logging.WARNING), EmbeddingModel(own):
        assert "the file does not say how the model pools" in caplog.text


def test_prompts_say_where_they_come_from(tmp_path: Path) -> None:
    path = write_tiny_model(in_hub_cache(tmp_path, "intfloat/multilingual-e5-small"), "bert")
    info = model_info(path)
    assert info.query_prompt == ("query: ", "the catalog, from mteb 2.26.24")
    with EmbeddingModel(path) as model:
        prompted = model.embed("query: hello")
        np.testing.assert_array_equal(model.embed_query("hello"), prompted)
        prompted = model.embed("passage: hello")
        np.testing.assert_array_equal(model.embed_documents(["hello"])[0], prompted)
    keys = {"embellama.prompt.query": "find: ", "embellama.prompt.passage": "this: "}
    own = write_tiny_model(tmp_path / "own.gguf", "bert", metadata=keys)
    assert model_info(own).query_prompt == ("find: ", "the file")
    assert model_info(own).document_prompt == ("this: ", "the file")
    none = write_tiny_model(tmp_path / "none.gguf", "bert")
    assert model_info(none).query_prompt == ("", "")


def test_a_file_of_the_cache_is_the_model_it_was_made_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMBELLAMA_CACHE", str(tmp_path))
    folder = tmp_path / "models" / "BAAI--bge-small-en-v1.5"
    folder.mkdir(parents=True)
    write_checkpoint(tmp_path / "checkpoint")
    path = convert_checkpoint(tmp_path / "checkpoint", folder / "any.gguf")
    assert catalog.find(str(path)) is None
    (folder / "SOURCE.json").write_text(json.dumps({"repository": "BAAI/bge-small-en-v1.5"}))
    assert model_info(path).entry is catalog.find("bge-small-en-v1.5") is not None


def test_names_of_the_files_that_a_known_model_is_taken_from() -> None:
    entry = catalog.find("nomic-embed-text-v1.5")
    for name in (
        "nomic-ai/nomic-embed-text-v1.5-GGUF",
        "nomic-ai/nomic-embed-text-v1.5-GGUF:Q8_0",
        "hf://nomic-ai/nomic-embed-text-v1.5-GGUF/nomic-embed-text-v1.5.f16.gguf",
        "nomic-ai/nomic-embed-text-v1.5@main",
    ):
        assert catalog.find(name) is entry
    assert catalog.find("other/nomic-embed-text-v1.5-GGUF") is None


def test_what_is_near_is_suggested_and_nothing_else() -> None:
    for typed, meant in {
        "bge-small": "bge-small-en-v1.5",
        "all-minilm-l6-v3": "all-MiniLM-L6-v2",
        "nomic-embed-text": "nomic-embed-text-v1.5",
        "e5-large": "multilingual-e5-large",
    }.items():
        with pytest.raises(ModelNotFoundError, match=f"did you mean '{meant}'"):
            catalog.resolve(typed)
    for typed in ("jina-embeddings-v3", "text-embedding-3-small", "my-model", "bge"):
        with pytest.raises(ModelNotFoundError) as caught:
            catalog.resolve(typed)
        assert "did you mean" not in str(caught.value)
    with pytest.raises(ModelNotFoundError, match=r"llama\.cpp has no graph for MPNet"):
        catalog.resolve("all-mpnet-base-v2")
