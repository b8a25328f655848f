# SPDX-License-Identifier: Apache-2.0
"""Any text, any container, any number: a result or our exception, and a model that works on."""

from __future__ import annotations

import contextlib
import dataclasses
import decimal
import fractions
import inspect
import math
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import child_process
from support.tiny_model import write_tiny_bert, write_tiny_model

from embellama import (
    CacheConfig,
    EmbeddingEngine,
    EmbeddingModel,
    EmbellamaError,
    EngineConfig,
    InvalidInputError,
    ModelConfig,
    PNorm,
    TokenizationError,
)

# One of each tokenizer: WordPiece, byte-level BPE, unigram, SentencePiece.
TOKENIZERS = ["bert", "llama", "t5encoder", "gemma"]
KINDS = [*TOKENIZERS, "regex"]

# Every code point, lone surrogates too; what renderers and tokenizers trip over comes often.
CHARACTERS = st.characters(exclude_categories=()) | st.sampled_from(
    "\0\ud800\udfff\u0301\u200d\ufeff\ufffd\u202e\u2581 \n\u00df\u0130\U0001f468\U0010ffff"
)
TEXTS = (
    st.text(CHARACTERS, max_size=200)
    | st.builds(lambda base, mark, n: base + mark * n, st.text(CHARACTERS, max_size=3),
                CHARACTERS, st.integers(0, 300))
    | st.text("[CLS]SEP<s>|end of text/▁Ġ", max_size=60)
)  # fmt: skip


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, EmbeddingModel]]:
    folder = tmp_path_factory.mktemp("models")
    made = {
        name: EmbeddingModel(
            ModelConfig(write_tiny_model(folder / f"{name}.gguf", name), truncate=True)
        )
        for name in TOKENIZERS
    }
    # Byte-level BPE whose expression std::regex runs.
    path = write_tiny_model(
        folder / "regex.gguf", "modern-bert", metadata={"tokenizer.ggml.pre": "default"}
    )
    made["regex"] = EmbeddingModel(ModelConfig(path, truncate=True))
    yield made
    for model in made.values():
        model.unload()


@pytest.mark.parametrize("name", KINDS)
@settings(max_examples=40, deadline=None)
@given(texts=st.lists(TEXTS, max_size=5))
def test_any_texts(models: dict[str, EmbeddingModel], name: str, texts: list[str]) -> None:
    model = models[name]
    result = model.embed_batch(texts, on_error="nan", details=True)
    for index, (text, row) in enumerate(zip(texts, result.embeddings, strict=True)):
        if index in result.errors:
            assert isinstance(result.errors[index], (InvalidInputError, TokenizationError))
            assert np.isnan(row).all()
            with pytest.raises(InvalidInputError):
                model.embed(text)
        else:
            assert np.isfinite(row).all()
            # llama.cpp's own kernels: attention is rounded differently in another micro-batch.
            assert np.dot(model.embed(text), row) >= 1 - 1e-5
            assert 1 <= result.token_counts[index] <= 64


# What tokenizers take long for: one character without end, nothing they know, special tokens.
UNITS = [
    "a",
    "7",
    " ",
    "\n",
    "\u0301",
    "\U0001f468",
    "hello w\u00f6rld 1 ",
    "[SEP]",
    "<s>",
    "<s>a ",
]


@pytest.mark.parametrize("n_bytes", [500_000, pytest.param(5_000_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("name", KINDS)
def test_megabytes(models: dict[str, EmbeddingModel], name: str, unit: str, n_bytes: int) -> None:
    model = models[name]
    text = "x" + unit * (n_bytes // len(unit.encode()))
    result = model.embed_batch(["before", text, "after"], on_error="nan", details=True)
    if name == "regex" and (" " not in unit or unit.isspace()):
        assert "more than 50000 characters" in str(result.errors.pop(1))
        assert np.isfinite(result.embeddings[[0, 2]]).all()
    else:
        assert np.isfinite(result.embeddings).all()
        assert model.count_tokens(text) >= result.token_counts[1] >= 1
    assert result.errors == {}


@pytest.mark.parametrize("name", KINDS)
def test_200_000_distinct_words(models: dict[str, EmbeddingModel], name: str) -> None:
    words = [f"w{number:x}" for number in range(200_000)]
    assert models[name].count_tokens(" ".join(words)) >= 200_000
    assert np.isfinite(models[name].embed(" ".join(words))).all()


@pytest.mark.parametrize("name", KINDS)
@settings(max_examples=30, deadline=None)
@given(parts=st.lists(st.sampled_from(["[SEP]", "<s>", "</s>", "[CLS]", " ", "a", "hello", "\0"])))
def test_special_tokens_in_a_text(
    models: dict[str, EmbeddingModel], name: str, parts: list[str]
) -> None:
    model = models[name]
    vocabulary = model._loaded().embedder.vocabulary

    def tokenize(text: str) -> list[int]:
        return vocabulary.tokenize(text, add_special=False).tolist()

    special = {}
    for part in parts:
        ids = tokenize(part)
        if part[0] in "[<" and len(ids) == 1 and vocabulary.token(ids[0]) == part:
            special[part] = ids[0]
    found = tokenize("".join(parts))
    expected = [special[part] for part in parts if part in special]
    assert [id for id in found if id in special.values()] == expected


class Shrinking(list[str]):
    """Loses its last text while it is read."""

    def __iter__(self) -> Iterator[str]:
        for text in super().__iter__():
            if len(self) > 3:
                self.pop()
            yield text


class Lying(list[str]):
    """Says it is longer than it is."""

    def __len__(self) -> int:
        return 10**6


def raising() -> Iterator[str]:
    yield "good"
    raise ZeroDivisionError


class Text(str):
    """A str that shows another face to whoever asks for its methods."""

    def __str__(self) -> str:
        raise RuntimeError("asked")

    def isspace(self) -> bool:
        return False

    def encode(self, *_: Any) -> bytes:
        return b"\xff"


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: ("a", "b"), 2),
        (lambda: {"a": 1, "b": 2}, TypeError),
        (lambda: {"a": 1, "b": 2}.keys(), 2),
        (lambda: {"a", "b", "c"}, TypeError),
        (lambda: iter(["a", "b"]), 2),
        (lambda: map(str, range(3)), 3),
        (lambda: np.array(["a", "bb"]), 2),
        (lambda: np.array(["a", "bb"], dtype=object), 2),
        (lambda: np.array(["a", "bb"] * 3)[::-2], 3),
        (lambda: np.array(["a", "bb"], dtype=np.dtypes.StringDType()), 2),
        (lambda: np.array(["a", None], dtype=np.dtypes.StringDType(na_object=None)), TypeError),
        (lambda: pandas.Series(["a", "bb"], index=[7, 7]), 2),
        (lambda: pandas.Series(["a", "bb"], dtype="string"), 2),
        (lambda: pandas.Series(["a", "bb"], dtype="category"), 2),
        (lambda: pandas.Series(["a", None], dtype="string"), TypeError),
        (lambda: pandas.Series(["a", float("nan")]), TypeError),
        (lambda: pandas.Series([b"a"]), TypeError),
        (lambda: pandas.Index(["a", "bb"]), 2),
        (lambda: Shrinking("abcdef"), 3),
        (lambda: Lying(["a"]), 1),
        (lambda: [Text("a"), "b"], 2),
        (lambda: np.array([["a"]]), TypeError),
        (lambda: np.array([b"a"]), TypeError),
        (lambda: np.array([1.0]), TypeError),
        (lambda: np.array(["a", None], dtype=object), TypeError),
        (lambda: np.array("a"), TypeError),
        (lambda: bytearray(b"abc"), TypeError),
        (lambda: memoryview(b"abc"), TypeError),
        (lambda: [["a"]], TypeError),
        (lambda: [float("nan")], TypeError),
        (lambda: 5, TypeError),
        (lambda: None, TypeError),
        (raising, ZeroDivisionError),
    ],
)
def test_containers(
    models: dict[str, EmbeddingModel], make: Callable[[], Any], expected: int | type[Exception]
) -> None:
    model = models["bert"]
    calls: list[Callable[[Any], int]] = [
        lambda texts: len(model.embed_batch(texts)),
        lambda texts: len(model.embed_documents(texts)),
        lambda texts: len(model.embed_batch_multi(texts)),
        lambda texts: sum(len(rows) for _, rows in model.embed_iter(texts, window=2)),
    ]
    for call in calls:
        if isinstance(expected, int):
            assert call(make()) == expected
        else:
            with pytest.raises(expected):
                call(make())
    assert model.embed("works on").shape == (32,)


def test_a_list_that_another_thread_changes(minilm_path: Path) -> None:
    program = """
    import threading, time, embellama
    model = embellama.EmbeddingModel(path)
    texts = ["some words"] * 3000
    stop = threading.Event()

    def change():
        while not stop.is_set():
            texts[:] = ["x" * 1000] * 100
            texts[:] = ["some words"] * 3000
            texts.clear()
            time.sleep(0)

    thread = threading.Thread(target=change)
    thread.start()
    for _ in range(40):
        rows = model.embed_batch(texts)
    stop.set()
    thread.join()
    print(model.embed("works on").shape)
    """
    assert child_process.run(program, path=str(minilm_path)) == "(384,)\n"


NUMBERS = [
    *(0, 1, 2, 3, -1, -(2**31), 2**31 - 1, 2**31, 2**32, 2**63, -(2**63) - 1, 2**64, 10**400),
    *(0.0, -0.0, 1.0, 2.5, 1e-320, 1e308, math.inf, -math.inf, math.nan),
    *(True, False, None, "1", b"1", 1j, [], (), {}, object(), decimal.Decimal(1)),
    *(fractions.Fraction(1, 3), np.int64(3), np.uint64(2**63), np.float32(2), np.float64("nan")),
    *(np.bool_(True), np.array(3), np.array([3]), np.datetime64("2026")),
]


def settings_of(kind: type) -> list[str]:
    """Names of the numeric and truth settings of a config."""
    annotations = inspect.get_annotations(kind, eval_str=True)
    return [
        field.name
        for field in dataclasses.fields(kind)
        if {int, float, bool} & {annotations[field.name], *typing.get_args(annotations[field.name])}
    ]


@pytest.fixture(scope="module")
def tiny_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bert(tmp_path_factory.mktemp("tiny") / "tiny.gguf")


def embed_with(config: ModelConfig) -> None:
    # Memory locked, threads by the hundred, contexts of any size.
    with EmbeddingModel(config) as model:
        model.embed("hello world")
        model.embed_batch(["hello", "a b c"] * 3)


@pytest.mark.parametrize("name", settings_of(ModelConfig))
def test_model_settings(tiny_path: Path, name: str) -> None:
    for value in NUMBERS:
        with contextlib.suppress(EmbellamaError, TypeError):
            embed_with(ModelConfig(tiny_path, **{name: value}))


@pytest.mark.parametrize("name", settings_of(CacheConfig))
def test_cache_settings(tiny_path: Path, name: str) -> None:
    for value in NUMBERS:
        with contextlib.suppress(EmbellamaError, TypeError):
            embed_with(ModelConfig(tiny_path, cache=CacheConfig(**{name: value})))


@pytest.mark.parametrize("name", settings_of(EngineConfig))
def test_engine_settings(tiny_path: Path, name: str) -> None:
    for value in NUMBERS:
        try:
            engine = EmbeddingEngine(EngineConfig(ModelConfig(tiny_path), **{name: value}))
            engine.embed("hello")
            engine.drop_model("tiny")
        except (EmbellamaError, TypeError):
            pass


@pytest.mark.parametrize("p", NUMBERS)
def test_norms(tiny_path: Path, p: Any) -> None:
    try:
        config = ModelConfig(tiny_path, normalization=PNorm(p))
    except (EmbellamaError, TypeError):
        return
    with EmbeddingModel(config) as model:
        vector = model.embed("hello world")
    assert np.isfinite(vector).all()
    assert 0 < np.abs(vector).max() < 1.01


@pytest.mark.parametrize("value", NUMBERS)
def test_options(models: dict[str, EmbeddingModel], value: Any) -> None:
    model = models["bert"]
    calls: list[Callable[[], Any]] = [
        lambda: model.embed_batch(["a"], timeout=value),
        lambda: model.embed_batch(["a"], truncate_dim=value),
        lambda: model.embed_batch(["a"], dtype=value),
        lambda: model.embed_batch(["a"], dtype="int8", ranges=value),
        lambda: model.embed_batch(["a"], dtype="int8", ranges=[[value] * 32] * 2),
        lambda: model.embed_batch(["a"], out=value),
        lambda: model.embed_batch(["a"], on_error=value),
        lambda: model.embed_batch(["a"], progress=value),
        lambda: next(model.embed_iter(["a"], window=value)),
        lambda: model.embed_batch_multi(["a"], timeout=value),
        lambda: model.embed_tokens(value),
        lambda: model.embed_tokens([2, value]),
        lambda: model.embed(value),
        lambda: model.tokenize(value),
        lambda: model.similarity(value, [1.0]),
    ]
    for call in calls:
        with contextlib.suppress(EmbellamaError, TypeError):
            call()
    assert np.isfinite(model.embed("works on")).all()


@pytest.mark.parametrize("truth", [True, np.bool_(True)], ids=["bool", "numpy"])
def test_a_truth_value_is_no_number(models: dict[str, EmbeddingModel], truth: Any) -> None:
    model = models["bert"]
    with pytest.raises(TypeError, match="truncate_dim must be an integer, not bool"):
        model.embed_batch(["a"], truncate_dim=truth)
    with pytest.raises(TypeError, match="window must be an integer, not bool"):
        next(model.embed_iter(["a"], window=truth))
    with pytest.raises(TypeError, match="n_ctx must be an integer, not bool"):
        ModelConfig(model.path, n_ctx=truth)
