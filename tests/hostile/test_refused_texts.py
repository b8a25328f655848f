# SPDX-License-Identifier: Apache-2.0
"""A text that only the tokenizer can refuse is a bad text like the others, wherever it stands."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.tiny_model import write_tiny_model

from embellama import (
    CacheConfig,
    EmbeddingEngine,
    EmbeddingModel,
    EmbellamaError,
    EngineConfig,
    ModelConfig,
    TokenizationError,
)

# std::regex would recurse for each of the characters.
REFUSED = "a" * 60_000
GOOD = "hello world"


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(
        tmp_path_factory.mktemp("regex") / "regex.gguf",
        "modern-bert",
        metadata={"tokenizer.ggml.pre": "default"},
    )


@pytest.fixture(scope="module", params=["plain", "cached vectors", "cached tokens"])
def model(path: Path, request: pytest.FixtureRequest) -> Iterator[EmbeddingModel]:
    cache = {
        "plain": None,
        "cached vectors": CacheConfig(),
        "cached tokens": CacheConfig(embedding_cache_size=0, token_cache_size=100),
    }[request.param]
    with EmbeddingModel(ModelConfig(path, cache=cache)) as model:
        yield model


# Each gets texts, the third of which is refused.
CALLS: dict[str, Callable[[EmbeddingModel, list[str]], Any]] = {
    "embed_batch": lambda model, texts: model.embed_batch(texts),
    "embed_documents": lambda model, texts: model.embed_documents(texts),
    "embed_iter": lambda model, texts: list(model.embed_iter(texts)),
    "embed_iter in windows": lambda model, texts: list(model.embed_iter(texts, window=2)),
    "embed_batch_multi": lambda model, texts: model.embed_batch_multi(texts),
    "aembed_batch": lambda model, texts: asyncio.run(model.aembed_batch(texts)),
}


@pytest.mark.parametrize("name", CALLS)
def test_the_error_names_the_place_in_the_callers_list(model: EmbeddingModel, name: str) -> None:
    with pytest.raises(TokenizationError, match=r"regex: text 2: .*more than 50000") as info:
        CALLS[name](model, [GOOD, "more", REFUSED, GOOD, REFUSED])
    assert info.value.index == 2
    assert model.embed(GOOD).shape == (32,)


ALONE: dict[str, Callable[[EmbeddingModel], Any]] = {
    "embed": lambda model: model.embed(REFUSED),
    "embed_query": lambda model: model.embed_query(REFUSED),
    "embed_multi": lambda model: model.embed_multi(REFUSED),
    "tokenize": lambda model: model.tokenize(REFUSED),
    "count_tokens": lambda model: model.count_tokens(REFUSED),
}


@pytest.mark.parametrize("name", ALONE)
def test_a_lone_text_has_no_place(model: EmbeddingModel, name: str) -> None:
    with pytest.raises(TokenizationError, match=r"regex: the text: .*more than 50000") as info:
        ALONE[name](model)
    assert info.value.index is None


def test_a_lone_surrogate_in_a_text_to_tokenize(model: EmbeddingModel) -> None:
    with pytest.raises(ValueError, match=r"regex: the text.* lone surrogate .U.D800") as info:
        model.tokenize("a\ud800")
    assert info.value.index is None  # type: ignore[attr-defined]


def test_rows_of_nan(model: EmbeddingModel) -> None:
    texts = ["", GOOD, REFUSED, "hello", REFUSED, " ", "a" * 49_000]
    result = model.embed_batch(texts, on_error="nan", details=True)
    assert list(result.errors) == [0, 2, 4, 5, 6]
    assert isinstance(result.errors[2], TokenizationError)
    for index, error in result.errors.items():
        assert f"text {index}" in str(error)
        assert error.index == index  # type: ignore[attr-defined]
    assert np.flatnonzero(np.isnan(result.embeddings).any(axis=1)).tolist() == [0, 2, 4, 5, 6]
    np.testing.assert_allclose(result.embeddings[1], model.embed(GOOD), atol=1e-5)
    np.testing.assert_allclose(result.embeddings[3], model.embed("hello"), atol=1e-5)
    assert result.token_counts[[0, 2, 4, 5, 6]].tolist() == [0] * 5
    assert result.token_counts[1] == model.count_tokens(GOOD)


def test_engine(path: Path) -> None:
    engine = EmbeddingEngine(EngineConfig(ModelConfig(path)))
    with pytest.raises(TokenizationError) as info:
        engine.embed_batch([GOOD, REFUSED])
    assert info.value.index == 1


def test_rerank(tmp_path: Path) -> None:
    head = {"cls.weight": (32, 32), "cls.output.weight": (1, 32)}
    path = write_tiny_model(
        tmp_path / "reranker.gguf",
        "modern-bert",
        metadata={"tokenizer.ggml.pre": "default", "modern-bert.pooling_type": 4},
        tensors={name: np.ones(shape, dtype=np.float32) for name, shape in head.items()},
    )
    with EmbeddingModel(path) as model:
        with pytest.raises(TokenizationError, match=r"text 1: .*more than 50000") as info:
            model.rerank("hello", [GOOD, REFUSED])
        assert info.value.index == 1
        with pytest.raises(TokenizationError, match=r"the text: .*more than 50000"):
            model.rerank(REFUSED, [GOOD])
        assert len(model.rerank("hello", [GOOD])) == 1


@pytest.mark.parametrize(
    "bad", ["", "word " * 600, "\ud800", 3], ids=["empty", "long", "surrogate", "number"]
)
@pytest.mark.parametrize(
    "call",
    [
        lambda model, bad: model.embed(bad),
        lambda model, bad: model.embed_batch(["a cat", bad]),
        lambda model, bad: model.embed_batch_multi(["a cat", bad]),
        lambda model, bad: list(model.embed_iter(["a cat", bad])),
        lambda model, bad: model.embed_batch([bad] * 3, on_error="nan"),
    ],
    ids=["embed", "embed_batch", "embed_batch_multi", "embed_iter", "nan"],
)
def test_an_error_is_in_no_cycle(
    minilm: EmbeddingModel, call: Callable[[EmbeddingModel, Any], object], bad: object
) -> None:
    """It would keep the batch's arrays until the garbage collector comes: a service grows."""

    def errors() -> list[object]:
        return [each for each in gc.get_objects() if isinstance(each, (EmbellamaError, TypeError))]

    gc.collect()
    gc.disable()
    try:
        # scipy, which other tests import, holds a TypeError of its own as a module's variable.
        others = errors()
        with contextlib.suppress(EmbellamaError, TypeError):
            call(minilm, bad)
        left = [each for each in errors() if all(each is not other for other in others)]
    finally:
        gc.enable()
    assert not left


def test_command(path: Path, tmp_path: Path) -> None:
    corpus = tmp_path / "texts.jsonl"
    corpus.write_text("".join(json.dumps({"text": text}) + "\n" for text in [GOOD, REFUSED, GOOD]))
    command = [sys.executable, "-m", "embellama", "embed", "-m", path, "-i", corpus]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"line 2 of {corpus}" in done.stderr
    command += ["--on-error", "nan"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert f"line 2 of {corpus}" in done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["embedding"] is None for row in rows] == [False, True, False]
