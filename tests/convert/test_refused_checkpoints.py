# SPDX-License-Identifier: Apache-2.0
"""Checkpoints that are refused, and the reasons that the messages give."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from support.checkpoints import (
    N_EMBD,
    N_POSITIONS,
    UNIGRAM,
    WORDPIECE,
    change_json,
    write_checkpoint,
    write_json,
    write_pooling,
)

from embellama.convert import convert_checkpoint
from embellama.errors import ModelLoadError


def edit_weights(folder: Path, **changes: Any) -> None:
    """Change the weights in place: a function of each array, or None to leave it out."""
    from safetensors.numpy import load_file

    weights = load_file(folder / "model.safetensors")
    for name, change in changes.items():
        if change is None:
            del weights[name]
        else:
            weights[name] = change(weights.get(name))
    save_file(weights, folder / "model.safetensors")


def set_config(**changes: Any) -> Any:
    return lambda folder: change_json(folder / "config.json", **changes)


def set_tokenizer(**changes: Any) -> Any:
    return lambda folder: change_json(folder / "tokenizer.json", **changes)


def set_vocabulary(**changes: Any) -> Any:
    def change(folder: Path) -> None:
        model = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]
        change_json(folder / "tokenizer.json", model={**model, **changes})

    return change


def set_weights(**changes: Any) -> Any:
    return lambda folder: edit_weights(folder, **changes)


def replace(file: str, text: str) -> Any:
    return lambda folder: (folder / file).write_text(text, encoding="utf-8")


def remove(*files: str) -> Any:
    return lambda folder: [(folder / file).unlink() for file in files]


def truncate(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def quantised_weights(folder: Path) -> None:
    edit_weights(folder, **{"embeddings.LayerNorm.bias": lambda array: array.astype(np.int8)})


def vocab_txt(text: str) -> Any:
    def change(folder: Path) -> None:
        (folder / "tokenizer.json").unlink()
        (folder / "vocab.txt").write_text(text, encoding="utf-8")

    return change


def index_naming(**weight_map: str) -> Any:
    def change(folder: Path) -> None:
        write_json(folder / "model.safetensors.index.json", {"weight_map": weight_map})

    return change


def pooling(settings: dict[str, Any], *more: str) -> Any:
    return lambda folder: write_pooling(folder, settings, *more)


VOCABULARY = {token: index for index, token in enumerate(WORDPIECE)}
BAD_CHECKPOINTS = {
    "no config": (remove("config.json"), r"config\.json: no such file"),
    "broken JSON": (replace("config.json", "{"), r"config\.json: not valid JSON"),
    "not an object": (replace("config.json", "[]"), r"config\.json: a JSON object is expected"),
    "not UTF-8": (lambda f: (f / "config.json").write_bytes(b"\xff"), r"not valid JSON"),
    "no architecture": (set_config(architectures=None), "no architectures"),
    "other architecture": (set_config(architectures=["PhiModel"]), "PhiModel is not supported"),
    "ReLU head": (set_config(architectures=["DistilBertForSequenceClassification"]), "ReLU"),
    "activation": (set_config(hidden_act="relu"), "hidden_act is 'relu'"),
    "quick GELU": (set_config(hidden_act="quick_gelu"), "hidden_act is 'quick_gelu'"),
    "relative positions": (
        set_config(position_embedding_type="relative_key"),
        "position_embedding_type is 'relative_key'",
    ),
    "decoder": (set_config(is_decoder=True), "is_decoder is True"),
    "size of a wrong type": (set_config(hidden_size="32"), "hidden_size must be a positive"),
    "negative size": (set_config(num_hidden_layers=-1), "num_hidden_layers must be a positive"),
    "too many layers": (set_config(num_hidden_layers=513), "513 layers"),
    "heads": (set_config(num_attention_heads=5), "5 attention heads"),
    "epsilon": (set_config(layer_norm_eps=float("nan")), "layer_norm_eps must be a number"),
    "labels": (set_config(id2label={"1": "one"}), "id2label must name"),
    "no weights": (remove("model.safetensors"), r"model\.safetensors: no such file"),
    "pickled weights": (pickled, "only pickled weights"),
    "truncated weights": (truncate, "not a complete safetensors file"),
    "empty weights": (replace("model.safetensors", ""), "not a complete safetensors file"),
    "int8 weights": (quantised_weights, "is of type I8"),
    "missing tensor": (
        set_weights(**{"encoder.layer.1.output.dense.bias": None}),
        r"missing, the first is encoder\.layer\.1\.output\.dense\.bias",
    ),
    "shape": (
        set_weights(**{"embeddings.LayerNorm.bias": lambda array: array[:-1]}),
        r"embeddings\.LayerNorm\.bias has the shape \(31,\)",
    ),
    "fewer layers": (set_config(num_hidden_layers=1), "has no place for the tensor"),
    "tensor twice": (
        set_weights(**{"bert.embeddings.LayerNorm.bias": lambda _: np.zeros(N_EMBD, np.float32)}),
        "are the same tensor",
    ),
    "shard missing": (index_naming(a="model-1.safetensors"), r"model-1\.safetensors: no such file"),
    "shard elsewhere": (index_naming(a="../model.safetensors"), "weight_map must map"),
    "index disagrees": (index_naming(a="model.safetensors"), "does not agree"),
    "index empty": (index_naming(), "weight_map must map"),
    "no vocabulary": (remove("tokenizer.json"), "neither tokenizer.json nor vocab.txt"),
    "broken tokenizer": (replace("tokenizer.json", "{}"), "no vocabulary of type WordPiece"),
    "word level": (set_vocabulary(type="WordLevel"), "no vocabulary of type WordPiece"),
    "malformed vocabulary": (set_vocabulary(vocab={"a": "b"}), "malformed vocabulary"),
    "empty vocabulary": (set_vocabulary(vocab={}), "no vocabulary"),
    "vocabulary too large": (
        set_vocabulary(vocab={**VOCABULARY, "surplus": len(VOCABULARY)}),
        "embeddings for 60 tokens only",
    ),
    "id twice": (set_vocabulary(vocab={**VOCABULARY, "other": 9}), "shares its id"),
    "token twice in JSON": (
        replace("tokenizer.json", '{"model": {"vocab": {"a": 0, "a": 1}}}'),
        "'a' appears twice",
    ),
    "token twice in vocab.txt": (vocab_txt("[UNK]\nthe\nthe\n"), r"'the' is in lines 2 and 3"),
    "same token to llama.cpp": (
        set_vocabulary(
            vocab={("##\u2581the" if t == "caf" else t): i for t, i in VOCABULARY.items()}
        ),
        "are both '\u2581the' to llama.cpp",
    ),
    "half a surrogate pair": (
        lambda f: (f / "tokenizer.json").write_text(
            (f / "tokenizer.json").read_text("utf-8").replace('"caf"', r'"\ud800"'), "utf-8"
        ),
        "surrogates not allowed",
    ),
    "no unknown token": (
        replace(
            "tokenizer.json",
            '{"pre_tokenizer": {"type": "BertPreTokenizer"},'
            ' "normalizer": {"type": "BertNormalizer"},'
            ' "model": {"type": "WordPiece", "vocab": {"[CLS]": 0, "[SEP]": 1}}}',
        ),
        r"the unk token '\[UNK\]' is not in the vocabulary",
    ),
    "prefix": (set_vocabulary(continuing_subword_prefix="@@"), "pieces that begin with '##' only"),
    "normalizer": (set_tokenizer(normalizer={"type": "NFKC"}), "a normalizer of type NFKC"),
    "pre-tokenizer": (set_tokenizer(pre_tokenizer={"type": "Whitespace"}), "BertPreTokenizer"),
    "malformed post-processor": (
        set_tokenizer(post_processor={"type": "TemplateProcessing", "single": [1, 2]}),
        "malformed post_processor",
    ),
    "max pooling": (pooling({"pooling_mode_max_tokens": True}), "the pooling is max"),
    "two poolings": (
        pooling({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}),
        "the pooling is mean and cls",
    ),
    "unknown module": (pooling({"pooling_mode": "mean"}, "CNN"), r"models\.CNN"),
    "broken modules": (replace("modules.json", '[{"type": 1}]'), "must be a list of modules"),
    "broken model card": (replace("README.md", "---\n: [\n---\n"), r"README\.md: the model card"),
}


@pytest.mark.parametrize(("spoil", "message"), BAD_CHECKPOINTS.values(), ids=BAD_CHECKPOINTS)
def test_bad_checkpoint(checkpoint: Path, spoil: Any, message: str) -> None:
    spoil(checkpoint)
    with pytest.raises(ModelLoadError, match=message):
        convert_checkpoint(checkpoint, checkpoint.with_suffix(".gguf"))
    assert [path.name for path in checkpoint.parent.iterdir()] == ["tiny-bert"]


@pytest.mark.parametrize(
    ("tokenizer", "spoil", "message"),
    [
        ("Unigram", set_tokenizer(normalizer={"type": "Lowercase"}), "a normalizer of type Lower"),
        ("Unigram", set_tokenizer(pre_tokenizer=None), "not SentencePiece's"),
        ("Unigram", set_vocabulary(vocab=[*UNIGRAM, ["<s>", 0.0]]), "there twice"),
        ("Unigram", set_vocabulary(vocab=[["<s>"], *UNIGRAM[1:]]), "malformed vocabulary"),
        (
            "Unigram",
            set_tokenizer(normalizer={"type": "Precompiled", "precompiled_charsmap": "%"}),
            "not base64",
        ),
        ("BPE", set_vocabulary(merges=[]), "without a list of merges"),
        ("BPE", set_tokenizer(normalizer={"type": "Lowercase"}), "not those of RoBERTa"),
        (
            "BPE",
            set_tokenizer(pre_tokenizer={"type": "ByteLevel", "add_prefix_space": True}),
            "not those of RoBERTa",
        ),
        ("BPE", set_config(pad_token_id=N_POSITIONS - 1), "none of the 24 positions"),
        ("BPE", set_config(pad_token_id="1"), "pad_token_id must be"),
    ],
)
def test_bad_roberta(tmp_path: Path, tokenizer: str, spoil: Any, message: str) -> None:
    write_checkpoint(tmp_path / "tiny", "XLMRobertaModel", tokenizer)
    spoil(tmp_path / "tiny")
    with pytest.raises(ModelLoadError, match=message):
        convert_checkpoint(tmp_path / "tiny", tmp_path / "tiny.gguf")
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]


@pytest.mark.parametrize("name", ["MPNetModel", "NewModel", "DebertaV2ForSequenceClassification"])
def test_architectures_that_no_converter_can_help(
    checkpoint: Path, tmp_path: Path, name: str
) -> None:
    change_json(checkpoint / "config.json", architectures=[name])
    with pytest.raises(ModelLoadError, match=f"llama.cpp has no graph for {name}"):
        convert_checkpoint(checkpoint, tmp_path / "tiny.gguf")
