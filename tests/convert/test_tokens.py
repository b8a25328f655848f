# SPDX-License-Identifier: Apache-2.0
"""Odd texts have the tokens that Hugging Face's tokenizers gives them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.folders import TESTS
from support.odd_texts import odd_texts
from support.tiny_model import TINY_TOKENS, write_tiny_bert
from support.tokenizer_checkpoints import (
    TOKENIZERS,
    has_plain_reference,
    reference_name,
    write_tokenizer_checkpoint,
)

from embellama import EmbeddingModel
from embellama.convert import convert_checkpoint
from embellama.core import Model, Vocabulary

# All differences that remain. tokenizers looks for tokens and then composes characters (NFC).
# llama.cpp composes nothing, so embellama does it first, and a mark joins the ">" of a token.
COMPOSED = "cab cafe \U0001f680 123 covid19<|end|>\u0338 \u0302\u0301 \xbc2.5 "
KNOWN = {
    name: [COMPOSED]
    for name in TOKENIZERS
    if name.startswith(("modernbert", "qwen3"))  # begin with NFC
}

REFERENCE = TESTS / "data" / "token_reference.npz"


def texts_that_differ(vocabulary: Vocabulary, name: str, *, parse_special: bool) -> list[str]:
    texts = odd_texts()
    with np.load(REFERENCE) as reference:
        ids, lengths = reference[name], reference[f"{name} lengths"]
    expected = np.split(ids, np.cumsum(lengths)[:-1])
    found = [vocabulary.tokenize(text, parse_special=parse_special) for text in texts]
    return [
        text
        for text, mine, theirs in zip(texts, found, expected, strict=True)
        if not np.array_equal(mine, theirs)
    ]


@pytest.mark.parametrize("name", TOKENIZERS)
def test_tokens(tmp_path: Path, name: str) -> None:
    write_tokenizer_checkpoint(tmp_path / "tiny", name)
    output = convert_checkpoint(tmp_path / "tiny", tmp_path / "tiny.gguf")
    vocabulary = Vocabulary(Model(str(output)))
    reference = reference_name(name)
    found = texts_that_differ(vocabulary, reference, parse_special=True)
    assert found == KNOWN.get(name, [])
    if has_plain_reference(name):
        found = texts_that_differ(vocabulary, f"{reference} plain", parse_special=False)
        assert found == []


def test_tokens_of_a_real_vocabulary(minilm: EmbeddingModel) -> None:
    with np.load(REFERENCE) as reference:
        ids, lengths = reference["MiniLM"], reference["MiniLM lengths"]
    tokens = [minilm.tokenize(text) for text in odd_texts()]
    np.testing.assert_array_equal([len(each) for each in tokens], lengths)
    np.testing.assert_array_equal(np.concatenate(tokens), ids)


def test_added_tokens_of_files_of_llama_cpp(tmp_path: Path) -> None:
    # Its converter puts the mark of a word before them, too, and says nothing of their switches.
    tokens = [*TINY_TOKENS, "\u2581COVID19"]
    types = [4 if token.endswith("19") else 3 if token[0] == "[" else 1 for token in tokens]
    metadata = {"tokens": tokens, "token_type": np.array(types, dtype=np.int32)}
    path = write_tiny_bert(
        tmp_path / "tiny.gguf",
        metadata={f"tokenizer.ggml.{key}": value for key, value in metadata.items()},
        tensors={"token_embd.weight": np.ones((len(tokens), 32), dtype=np.float32)},
    )
    vocabulary = Vocabulary(Model(str(path)))
    found = [vocabulary.token(index) for index in vocabulary.tokenize("a covid19, b COVID19[SEP]")]
    wanted = ["[CLS]", "\u2581a", tokens[-1], "\u2581,", "\u2581b", tokens[-1], "[SEP]", "[SEP]"]
    assert found == wanted
