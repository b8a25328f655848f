# SPDX-License-Identifier: Apache-2.0
"""What the files of sentence-transformers say travels in the GGUF, and is used."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from support.checkpoints import change_json, write_checkpoint, write_json

import embellama
from embellama import EmbeddingModel, ModelConfig
from embellama.convert import convert_checkpoint
from embellama.errors import ModelLoadError

Spoil = Callable[[Path], None]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    write_checkpoint(tmp_path / "tiny")
    return tmp_path / "tiny"


def write_modules(checkpoint: Path, *modules: tuple[str, str], pooling: Any = None) -> None:
    write_json(
        checkpoint / "modules.json",
        [{"path": path, "type": f"sentence_transformers.models.{kind}"} for kind, path in modules],
    )
    for kind, path in modules:
        if kind == "Pooling":
            (checkpoint / path).mkdir(exist_ok=True)
            write_json(checkpoint / path / "config.json", pooling or {"pooling_mode": "cls"})


def convert(checkpoint: Path, output: Path) -> dict[str, Any]:
    convert_checkpoint(checkpoint, output, file_type="F32")
    return {name: field.contents() for name, field in gguf.GGUFReader(output).fields.items()}


def test_prompts_are_put_before_queries_and_documents(checkpoint: Path, tmp_path: Path) -> None:
    write_json(
        checkpoint / "config_sentence_transformers.json",
        {
            "prompts": {"query": "the ", "passage": "world ", "clustering": None},
            "default_prompt_name": "query",
            "similarity_fn_name": "dot",
        },
    )
    output = tmp_path / "tiny.gguf"
    metadata = convert(checkpoint, output)
    assert metadata["embellama.default_prompt_name"] == "query"
    assert metadata["embellama.similarity_fn_name"] == "dot"
    assert embellama.model_info(output).prompts == {"query": "the ", "passage": "world "}
    with EmbeddingModel(output) as model:
        np.testing.assert_array_equal(model.embed_query("hello"), model.embed("the hello"))
        np.testing.assert_array_equal(
            model.embed_documents(["hello"])[0], model.embed("world hello")
        )
        assert not np.allclose(model.embed("hello"), model.embed_query("hello"))
    with EmbeddingModel(ModelConfig(output, query_prompt="")) as model:
        np.testing.assert_array_equal(model.embed_query("hello"), model.embed("hello"))


@pytest.mark.parametrize(
    "write_limit",
    [
        lambda folder: write_json(
            folder / "sentence_bert_config.json", {"max_seq_length": 6, "do_lower_case": False}
        ),
        lambda folder: write_json(folder / "sentence_roberta_config.json", {"max_seq_length": 6}),
        lambda folder: change_json(folder / "tokenizer_config.json", model_max_length=6),
    ],
)
def test_truncation_stops_where_sentence_transformers_does(
    checkpoint: Path, tmp_path: Path, write_limit: Spoil
) -> None:
    write_limit(checkpoint)
    output = tmp_path / "tiny.gguf"
    convert(checkpoint, output)
    info = embellama.model_info(output)
    assert (info.max_seq_length, info.context_length) == (6, 24)
    text = "a b c d e f g h"
    with EmbeddingModel(ModelConfig(output, truncate=True)) as model:
        short = model.embed(text)
        np.testing.assert_allclose(short, model.embed("a b c d"), atol=1e-6)
    # n_ctx says otherwise.
    with EmbeddingModel(ModelConfig(output, truncate=True, n_ctx=24)) as model:
        assert not np.allclose(short, model.embed(text), atol=1e-4)


@pytest.mark.parametrize("limit", [24, 512, 10**30])
def test_a_limit_beyond_the_network_is_none(checkpoint: Path, tmp_path: Path, limit: int) -> None:
    change_json(checkpoint / "tokenizer_config.json", model_max_length=limit)
    assert "embellama.max_seq_length" not in convert(checkpoint, tmp_path / "tiny.gguf")
    assert embellama.model_info(tmp_path / "tiny.gguf").max_seq_length == 24


def test_the_old_layout(tmp_path: Path) -> None:
    checkpoint = tmp_path / "model"
    checkpoint.mkdir()
    write_checkpoint(checkpoint / "0_Transformer")
    write_json(checkpoint / "config.json", {"__version__": "2.0.0"})
    write_json(checkpoint / "0_Transformer" / "sentence_bert_config.json", {"max_seq_length": 9})
    write_modules(checkpoint, ("Transformer", "0_Transformer"), ("Pooling", "1_Pooling"))
    metadata = convert(checkpoint, tmp_path / "outer.gguf")
    assert metadata["bert.pooling_type"] == 2
    assert metadata["embellama.max_seq_length"] == 9
    assert metadata["general.name"] == "Model"
    convert(checkpoint / "0_Transformer", tmp_path / "inner.gguf")
    assert (tmp_path / "inner.gguf").read_bytes() == (tmp_path / "outer.gguf").read_bytes()


def test_do_lower_case_comes_before_the_tokenizer(checkpoint: Path, tmp_path: Path) -> None:
    write_json(checkpoint / "sentence_bert_config.json", {"do_lower_case": True})
    change_json(
        checkpoint / "tokenizer.json", normalizer={"type": "BertNormalizer", "lowercase": False}
    )
    metadata = convert(checkpoint, tmp_path / "tiny.gguf")
    assert metadata["tokenizer.ggml.normalizer.lowercase"] is True
    assert metadata["tokenizer.ggml.normalizer.strip_accents"] is False


def settings(**values: Any) -> Spoil:
    return lambda folder: write_json(folder / "sentence_bert_config.json", values)


def sentence_transformers(**values: Any) -> Spoil:
    return lambda folder: write_json(folder / "config_sentence_transformers.json", values)


def modules(*modules: tuple[str, str], pooling: Any = None) -> Spoil:
    return lambda folder: write_modules(folder, *modules, pooling=pooling)


REFUSED = {
    "prompts that are a list": (sentence_transformers(prompts=["a"]), "prompts must map"),
    "a prompt that is a number": (sentence_transformers(prompts={"query": 1}), "prompts must map"),
    "a prompt of a strange name": (sentence_transformers(prompts={"a\nb": ""}), "prompts must map"),
    "a default without its prompt": (
        sentence_transformers(default_prompt_name="query"),
        "default_prompt_name is 'query'",
    ),
    "a similarity that is no name": (
        sentence_transformers(similarity_fn_name=3),
        "similarity_fn_name must be a name",
    ),
    "cut vectors": (sentence_transformers(truncate_dim=8), "give truncate_dim to embed_batch"),
    "a limit that is no number": (settings(max_seq_length="512"), "max_seq_length must be a pos"),
    "a limit of nothing": (settings(max_seq_length=0), "max_seq_length must be a positive"),
    "lower case in some way": (settings(do_lower_case="yes"), "do_lower_case must be true or"),
    "an unknown setting": (settings(scaling=2), "the setting scaling is not understood"),
    "another task": (settings(transformer_task="fill-mask"), "transformer_task is 'fill-mask'"),
    "an argument that matters": (
        settings(model_args={"torch_dtype": "float16", "rope_scaling": {}}),
        "model_args sets rope_scaling",
    ),
    "two networks": (modules(("Transformer", ""), ("Transformer", "a")), "several modules Trans"),
    "two poolings": (
        modules(("Transformer", ""), ("Pooling", "1"), ("Pooling", "2")),
        "several modules Pooling",
    ),
    "prompts left out of the pooling": (
        modules(
            ("Transformer", ""),
            ("Pooling", "1_Pooling"),
            pooling={"pooling_mode": "mean", "include_prompt": False},
        ),
        "include_prompt is false",
    ),
    "joined poolings": (
        modules(
            ("Transformer", ""), ("Pooling", "1_Pooling"), pooling={"pooling_mode": ["cls", "max"]}
        ),
        "the pooling is cls and max",
    ),
    "weights by position": (
        modules(
            ("Transformer", ""),
            ("Pooling", "1_Pooling"),
            pooling={"pooling_mode_weightedmean_tokens": True},
        ),
        "the pooling is weightedmean",
    ),
}


@pytest.mark.parametrize(("spoil", "message"), REFUSED.values(), ids=REFUSED)
def test_refused(checkpoint: Path, tmp_path: Path, spoil: Spoil, message: str) -> None:
    spoil(checkpoint)
    with pytest.raises(ModelLoadError, match=message):
        convert_checkpoint(checkpoint, tmp_path / "tiny.gguf")
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]


def test_a_file_with_an_impossible_limit_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    output = tmp_path / "tiny.gguf"
    write_json(checkpoint / "sentence_bert_config.json", {"max_seq_length": 7})
    convert(checkpoint, output)
    key = b"embellama.max_seq_length"
    data = output.read_bytes()
    at = data.index(key) + len(key) + 4
    output.write_bytes(data[:at] + (99).to_bytes(4, "little") + data[at + 4 :])
    with pytest.raises(ModelLoadError, match=r"max_seq_length' is 99, not from 1 to 24"):
        embellama.model_info(output)
