# SPDX-License-Identifier: Apache-2.0
"""Switches of a tokenizer are honoured as transformers has it, or refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import pytest
from support.checkpoints import WORDPIECE, change_json, write_checkpoint, write_json
from support.family_checkpoints import write_family_checkpoint

from embellama.convert import convert_checkpoint
from embellama.errors import ModelLoadError

Change = Callable[[Path], None]


def config(**values: Any) -> Change:
    return lambda folder: write_json(folder / "tokenizer_config.json", values)


def tokenizer(**values: Any) -> Change:
    return lambda folder: change_json(folder / "tokenizer.json", **values)


def normalizer(**values: Any) -> Change:
    return tokenizer(normalizer={"type": "BertNormalizer", **values})


def model(**values: Any) -> Change:
    def change(folder: Path) -> None:
        found = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]
        change_json(folder / "tokenizer.json", model={**found, **values})

    return change


def vocab_txt(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.txt").write_text("\n".join(WORDPIECE) + "\n", encoding="utf-8")


def both(*changes: Change) -> Change:
    def change(folder: Path) -> None:
        for each in changes:
            each(folder)

    return change


def unigram(*steps: dict[str, Any]) -> Change:
    return tokenizer(normalizer={"type": "Sequence", "normalizers": list(steps)})


ONE_SPACE = {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}
CASED = {"type": "BertNormalizer", "lowercase": False}


@pytest.mark.parametrize(
    ("change", "lowercase"),
    [
        # The classes of BERT heed the settings, and their defaults, not tokenizer.json.
        (both(tokenizer(normalizer=CASED), config(tokenizer_class="BertTokenizer")), True),
        (
            both(
                tokenizer(normalizer=CASED),
                config(tokenizer_class="BertTokenizerFast", do_lower_case=True),
            ),
            True,
        ),
        (config(tokenizer_class="DistilBertTokenizer", do_lower_case=False), False),
        (config(tokenizer_class="PreTrainedTokenizerFast", do_lower_case=False), True),
        (both(vocab_txt, config(do_lower_case=False)), False),
        # Without a name, the model's type says the class.
        (
            both(
                config(do_lower_case=False),
                lambda f: change_json(f / "config.json", model_type="bert"),
            ),
            False,
        ),
        (config(do_lower_case=False), True),
    ],
)
def test_whose_word_counts(tmp_path: Path, change: Change, lowercase: bool) -> None:
    write_checkpoint(tmp_path / "tiny")
    change(tmp_path / "tiny")
    output = convert_checkpoint(tmp_path / "tiny", tmp_path / "tiny.gguf")
    field = gguf.GGUFReader(output).fields["tokenizer.ggml.normalizer.lowercase"]
    assert field.contents() is lowercase


TEMPLATE = {"type": "TemplateProcessing"}
CLS, SEP, TEXT = (
    {"SpecialToken": {"id": "[CLS]"}},
    {"SpecialToken": {"id": "[SEP]"}},
    {"Sequence": {"id": "A"}},
)
REFUSED = {
    "Japanese words": (
        both(vocab_txt, config(tokenizer_class="BertJapaneseTokenizer")),
        "tokenizer_class is BertJapaneseTokenizer",
    ),
    "Japanese words, class in config.json": (
        lambda f: change_json(f / "config.json", tokenizer_class="BertJapaneseTokenizer"),
        "tokenizer_class is BertJapaneseTokenizer",
    ),
    "code": (config(auto_map={"AutoTokenizer": ["x.Slow", None]}), "code in the checkpoint"),
    "vocab.txt of another class": (
        both(vocab_txt, config(tokenizer_class="RobertaTokenizer")),
        "neither tokenizer.json nor",
    ),
    "Chinese words": (normalizer(handle_chinese_chars=False), "handle_chinese_chars is False"),
    "Chinese words by a setting": (
        config(tokenizer_class="BertTokenizer", tokenize_chinese_chars=False),
        "handle_chinese_chars is False",
    ),
    "dirty texts": (normalizer(clean_text=False), "clean_text is False"),
    "no normalizer": (tokenizer(normalizer=None), "no BertNormalizer"),
    "composed characters": (
        tokenizer(normalizer={"type": "Sequence", "normalizers": [{"type": "NFC"}, CASED]}),
        "type NFC or NFD",
    ),
    "lone accents": (
        tokenizer(
            normalizer={"type": "Sequence", "normalizers": [{"type": "StripAccents"}, CASED]}
        ),
        "StripAccents without NFD",
    ),
    "long words": (model(max_input_chars_per_word=200), "max_input_chars_per_word is 200"),
    "an added token without an id": (
        both(vocab_txt, config(added_tokens_decoder={"x": {"content": "a"}})),
        "added_tokens_decoder in tokenizer_config.json must map ids",
    ),
    "two tokens before a text": (
        tokenizer(post_processor={**TEMPLATE, "single": [CLS, CLS, TEXT, SEP]}),
        "more around a text",
    ),
    "no token after a text": (
        tokenizer(post_processor={**TEMPLATE, "single": [CLS, TEXT]}),
        "no token before or after",
    ),
    "another post-processor": (
        tokenizer(post_processor={"type": "Other"}),
        "a post-processor of type Other",
    ),
}


@pytest.mark.parametrize(("spoil", "message"), REFUSED.values(), ids=REFUSED)
def test_refused(tmp_path: Path, spoil: Change, message: str) -> None:
    write_checkpoint(tmp_path / "tiny")
    spoil(tmp_path / "tiny")
    with pytest.raises(ModelLoadError, match=message):
        convert_checkpoint(tmp_path / "tiny", tmp_path / "tiny.gguf")
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("Unigram", model(byte_fallback=True), "byte_fallback is True"),
        ("BPE", model(dropout=0.1), "dropout is 0.1"),
        ("BPE", model(ignore_merges=True), "ignore_merges together are not those"),
        ("BPE", model(end_of_word_suffix="</w>"), "end_of_word_suffix is '</w>'"),
        ("Unigram", unigram({"type": "NFKC"}), "a normalizer of type NFKC"),
        ("Unigram", unigram(ONE_SPACE, {"type": "Strip"}), "normalizers are not SentencePiece's"),
        ("Unigram", unigram({**ONE_SPACE, "content": ""}), "normalizers are not SentencePiece's"),
        ("Unigram", tokenizer(pre_tokenizer={"type": "Whitespace"}), r"\(Metaspace\)"),
        (
            "BPE",
            tokenizer(
                normalizer={"type": "NFC"},
                added_tokens=[{"id": 4, "content": "e\u0301", "special": False}],
            ),
            r"'e.' is not in NFC",
        ),
    ],
)
def test_refused_switches_of_other_models(
    tmp_path: Path, kind: str, change: Change, message: str
) -> None:
    write_checkpoint(tmp_path / "tiny", "XLMRobertaModel", kind)
    change(tmp_path / "tiny")
    with pytest.raises(ModelLoadError, match=message):
        convert_checkpoint(tmp_path / "tiny", tmp_path / "tiny.gguf")


def merges(change: Callable[[list[Any]], list[Any]]) -> Change:
    def spoil(folder: Path) -> None:
        found = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]
        change_json(folder / "tokenizer.json", model={**found, "merges": change(found["merges"])})

    return spoil


REFUSED_BPE = {
    "merges in another order": (merges(lambda found: found[::-1]), "not those of SentencePiece"),
    "a merge that is missing": (merges(lambda found: found[:-1]), "not those of SentencePiece"),
    "a merge to no token": (
        merges(lambda found: [*found, ["x", "y"]]),
        "not those of SentencePiece",
    ),
    "merged words": (model(ignore_merges=True), "ignore_merges is True"),
    "no normalizer": (tokenizer(normalizer=None), "that is not Llama's"),
    "another normalizer": (
        tokenizer(normalizer={"type": "Sequence", "normalizers": [{"type": "NFKC"}]}),
        "that is not Llama's",
    ),
    "spaces that split": (
        tokenizer(
            normalizer=None,
            pre_tokenizer={
                "type": "Metaspace",
                "replacement": "\u2581",
                "prepend_scheme": "first",
                "split": True,
            },
        ),
        "that is not Llama's",
    ),
}


@pytest.mark.parametrize(("spoil", "message"), REFUSED_BPE.values(), ids=REFUSED_BPE)
def test_refused_bpe_of_sentencepiece(tmp_path: Path, spoil: Change, message: str) -> None:
    write_family_checkpoint(tmp_path / "tiny", "mistral")
    spoil(tmp_path / "tiny")
    with pytest.raises(ModelLoadError, match=message):
        convert_checkpoint(tmp_path / "tiny", tmp_path / "tiny.gguf")
