# SPDX-License-Identifier: Apache-2.0
"""Texts that must raise our exceptions and leave the model working."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embellama import (
    EmbeddingModel,
    InvalidInputError,
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        (" \t\n", "white space only"),
        ("\u3000\u2003", "white space only"),
        ("a\ud800b", "lone surrogate"),
        ("\udfff", "lone surrogate"),
    ],
)
def test_bad_texts(minilm: EmbeddingModel, text: str, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        minilm.embed(text)
    with pytest.raises(InvalidInputError, match=message) as info:
        minilm.embed_batch(["good", "good", text, "good"])
    assert info.value.index == 2
    assert "text 2" in str(info.value)
    assert minilm.embed("works on").shape == (384,)


@pytest.mark.parametrize("text", [None, 1, 1.5, b"bytes", [["list"]], object(), np.float32(1)])
def test_wrong_types(minilm: EmbeddingModel, text: Any) -> None:
    with pytest.raises(TypeError, match="must be a str"):
        minilm.embed(text)
    with pytest.raises(TypeError, match="text 1 must be a str"):
        minilm.embed_batch(["good", text])
    assert minilm.embed("works on").shape == (384,)


@pytest.mark.parametrize("texts", ["one str", b"bytes"])
def test_one_string_is_no_batch(minilm: EmbeddingModel, texts: Any) -> None:
    with pytest.raises(TypeError, match="iterable of str"):
        minilm.embed_batch(texts)
    with pytest.raises(TypeError, match="iterable of str"):
        next(minilm.embed_iter(texts))


@pytest.mark.parametrize("texts", [None, 3])
def test_no_iterable(minilm: EmbeddingModel, texts: Any) -> None:
    with pytest.raises(TypeError):
        minilm.embed_batch(texts)


def test_a_generator_that_raises(minilm: EmbeddingModel) -> None:
    def source() -> Any:
        yield "good"
        raise KeyError("source")

    with pytest.raises(KeyError, match="source"):
        minilm.embed_batch(source())
    assert minilm.embed("works on").shape == (384,)


def test_embed_iter_names_the_index_in_the_whole_stream(minilm: EmbeddingModel) -> None:
    texts = ["good"] * 2500
    texts[2400] = "word " * 600
    with pytest.raises(InvalidInputError, match="text 2400 has 602 tokens") as info:
        list(minilm.embed_iter(texts))
    assert info.value.index == 2400


def test_nul_is_dropped(minilm: EmbeddingModel) -> None:
    assert minilm.tokenize("hel\0lo").tolist() == minilm.tokenize("hello").tolist()
    assert minilm.embed("\0").shape == (384,)


def test_numpy_strings_are_str(minilm: EmbeddingModel) -> None:
    assert minilm.embed_batch(np.array(["a", "b"])).shape == (2, 384)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=300))
def test_any_text_embeds_or_raises_ours(minilm: EmbeddingModel, text: str) -> None:
    try:
        vector = minilm.embed(text)
    except InvalidInputError:
        assert not text.strip() or minilm.count_tokens(text) > 512
    else:
        assert np.isfinite(vector).all()


def test_one_huge_word(minilm: EmbeddingModel) -> None:
    assert minilm.tokenize("a" * 5_000_000).tolist() == [101, 100, 102]
