# SPDX-License-Identifier: Apache-2.0
"""Reading GGUF headers, and refusing the files on which llama.cpp would end the process."""

from __future__ import annotations

import contextlib
import os
import struct
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.folders import TESTS
from support.gguf_draft import Draft, draft_of
from support.tiny_model import ARCHITECTURES, SIZES, TINY_TOKENS, write_tiny_bert, write_tiny_model

from embellama import EmbeddingModel, ModelLoadError, ModelNotFoundError
from embellama.core import Model
from embellama.gguf.architectures import EXAMINED_ARCHITECTURES
from embellama.gguf.check import check_model
from embellama.gguf.header import GGUFHeader, StringArray
from embellama.gguf.reader import read_header

Damage = Callable[[Draft], None]


@pytest.fixture(scope="module")
def bert_header(tmp_path_factory: pytest.TempPathFactory) -> GGUFHeader:
    return read_header(write_tiny_bert(tmp_path_factory.mktemp("tiny") / "tiny.gguf"))


def refused(path: Path, message: str) -> None:
    with pytest.raises(ModelLoadError, match=message) as info:
        check_model(read_header(path))
    assert str(path) in str(info.value)


def refused_bytes(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "damaged.gguf"
    path.write_bytes(content)
    refused(path, message)


def test_agrees_with_the_gguf_package(tmp_path: Path) -> None:
    extra: dict[str, Any] = {
        "a.u8": np.uint8(255),
        "a.i8": np.int8(-128),
        "a.u16": np.uint16(65535),
        "a.i16": np.int16(-32768),
        "a.i32": np.int32(-(2**31)),
        "a.u64": np.uint64(2**64 - 1),
        "a.i64": np.int64(-(2**63)),
        "a.f64": np.float64(0.1),
        "a.bool": True,
        "a.text": "Grüße",
        "a.numbers": np.arange(5, dtype=np.int32),
        "a.truths": np.array([True, False, True]),
        "general.alignment": 64,
    }
    path = write_tiny_bert(tmp_path / "tiny.gguf", file_type="Q8_0", metadata=extra)
    header, reader = read_header(path), gguf.GGUFReader(path)
    fields = {key: field for key, field in reader.fields.items() if not key.startswith("GGUF.")}
    assert list(header.metadata) == list(fields)
    for key, field in fields.items():
        value = header.metadata[key]
        expected = field.contents()
        assert (list(value) if isinstance(expected, list) else value) == expected, key
    assert header.types["a.u64"] == "u64"
    assert header.types["a.truths"] == "arr[bool]"
    assert header.types["tokenizer.ggml.tokens"] == "arr[str]"
    assert header.metadata["a.numbers"].dtype == np.int32
    assert header.metadata["a.truths"].dtype == np.bool_
    assert (header.version, header.alignment, header.architecture) == (3, 64, "bert")
    assert header.data_offset == reader.data_offset
    assert header.file_size == path.stat().st_size
    for tensor, expected in zip(header.tensors.values(), reader.tensors, strict=True):
        assert tensor.name == expected.name
        assert tensor.shape == tuple(expected.shape)
        assert tensor.type == expected.tensor_type.name
        assert tensor.n_bytes == expected.n_bytes
        assert tensor.n_elements == expected.n_elements
        assert header.data_offset + tensor.offset == expected.data_offset
    assert header.n_parameters == sum(int(tensor.n_elements) for tensor in reader.tensors)
    assert header.n_bytes == sum(int(tensor.n_bytes) for tensor in reader.tensors)


def test_string_array(tmp_path: Path, bert_header: GGUFHeader) -> None:
    tokens = bert_header.metadata["tokenizer.ggml.tokens"]
    assert isinstance(tokens, StringArray)
    assert list(tokens) == tokens[:] == TINY_TOKENS
    assert tokens[-1] == TINY_TOKENS[-1]
    assert tokens.encoded(5) == "▁a".encode()
    assert tokens.byte_lengths[:6].tolist() == [5, 5, 5, 5, 6, 4]
    with pytest.raises(IndexError):
        tokens[len(TINY_TOKENS)]
    draft = draft_of(bert_header, SIZES)
    draft.put("a.strings", 9, [b"\xff", b""], element=8)
    draft.put("a.none", 9, [], element=8)
    path = tmp_path / "strings.gguf"
    path.write_bytes(draft.encoded())
    metadata = read_header(path).metadata
    assert list(metadata["a.strings"]) == ["\ufffd", ""]
    assert metadata["a.strings"].encoded(0) == b"\xff"
    assert list(metadata["a.none"]) == []


def test_reads_version_2(tmp_path: Path, bert_header: GGUFHeader) -> None:
    content = bytearray(bert_header.path.read_bytes())
    content[4] = 2
    path = tmp_path / "v2.gguf"
    path.write_bytes(content)
    assert read_header(path).version == 2


def test_reads_only_the_header(tmp_path: Path) -> None:
    table = np.zeros((len(TINY_TOKENS), 2**18), np.float32)
    path = write_tiny_bert(tmp_path / "big.gguf", tensors={"token_embd.weight": table})
    assert path.stat().st_size > 60e6
    tracemalloc.start()
    header = read_header(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert header.tensors["token_embd.weight"].n_bytes == table.nbytes
    assert peak < 5e6


def test_header_larger_than_the_first_read(tmp_path: Path) -> None:
    tokens = [f"token {number:06}" for number in range(250_000)]
    values = np.arange(250_000, dtype=np.float32)
    path = write_tiny_bert(
        tmp_path / "large.gguf",
        metadata={"tokenizer.ggml.tokens": tokens, "tokenizer.ggml.scores": values},
    )
    metadata = read_header(path).metadata
    assert list(metadata["tokenizer.ggml.tokens"]) == tokens
    assert np.array_equal(metadata["tokenizer.ggml.scores"], values)


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="no such file"):
        read_header(tmp_path / "none.gguf")
    with pytest.raises(ModelNotFoundError, match=r"is a directory.*\.gguf"):
        read_header(tmp_path)
    os.mkfifo(tmp_path / "pipe.gguf")
    with pytest.raises(ModelLoadError, match="no regular file"):
        read_header(tmp_path / "pipe.gguf")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"G", "no GGUF file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (b"<!DOCTYPE html>", "HTML page"),
        (b"PK\x03\x04" + bytes(40), "PyTorch"),
        (b"\x08\0\0\0\0\0\0\0{}", "no GGUF file"),
        (b"GGUF", "ends at byte 4, inside the version"),
        (b"GGUF" + struct.pack("<IQQ", 1, 0, 0), "version 1 is not supported.*Convert"),
        (b"GGUF" + struct.pack("<IQQ", 4, 0, 0), "version 4 is not supported.*newer"),
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big-endian"),
        (b"GGUF" + struct.pack("<IQQ", 3, 2**63, 0), "claims to hold 9223372036854775808 tensors"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 2**64 - 1), "claims to hold .* key-values"),
    ],
)
def test_other_content(tmp_path: Path, content: bytes, message: str) -> None:
    refused_bytes(tmp_path, content, message)


def test_every_cut_is_noticed(tmp_path: Path, bert_header: GGUFHeader) -> None:
    content = bert_header.path.read_bytes()
    last = max(tensor.offset + tensor.n_bytes for tensor in bert_header.tensors.values())
    end = bert_header.data_offset + last
    path = tmp_path / "cut.gguf"
    for length in [*range(0, bert_header.data_offset, 13), bert_header.data_offset, end - 1]:
        path.write_bytes(content[:length])
        with pytest.raises(ModelLoadError, match=r"ends at byte|missing|empty|claims|no GGUF"):
            read_header(path)
    path.write_bytes(content[: end - 7])
    refused(path, f"truncated: 7 of its {end} bytes are missing. Download")


def _put(key: str, kind: int, value: Any, element: int = 0) -> Damage:
    return lambda draft: draft.put(key, kind, value, element)


def _key(key: bytes) -> Damage:
    return lambda draft: setattr(draft.key_values[1], "key", key)


def _tensor(**changes: Any) -> Damage:
    def damage(draft: Draft) -> None:
        for name, value in changes.items():
            setattr(draft.tensors[1], name, value)

    return damage


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_key(b"general.architecture"), "'general.architecture' occurs a second time"),
        (_key(b""), "key 1 at byte .* is empty"),
        (_key(b"a\0b"), "NUL"),
        (_key(b"\xff"), "not UTF-8"),
        (_key(b"k" * 65536), "65536 bytes long"),
        (_put("a", 13, 1), "unknown type 13"),
        (_put("a", 9, [1], 9), "array of arrays"),
        (_put("a", 9, [1], 13), "array of the unknown type 13"),
        (_put("a", 7, 2), "boolean with the value 2"),
        (_put("a", 9, [0, 2], 7), "booleans other than 0 and 1"),
        (_put("general.alignment", 4, 0), "power of two"),
        (_put("general.alignment", 4, 48), "power of two"),
        (_put("general.alignment", 4, 2**31), "power of two up to"),
        (_put("general.alignment", 10, 32), "'general.alignment' must be of type u32"),
        (_tensor(name=b""), "name of tensor 1 at byte .* is empty"),
        (_tensor(name=b"n" * 64), "64 bytes long; at most 63"),
        (_tensor(name=b"token_embd.weight"), "'token_embd.weight' occurs twice"),
        (_tensor(shape=[]), "0 dimensions"),
        (_tensor(shape=[1] * 5), "5 dimensions"),
        (_tensor(shape=[32, 0]), "impossible shape"),
        (_tensor(shape=[2**62, 2]), "impossible shape"),
        (_tensor(shape=[-1, 1]), "impossible shape"),
        (_tensor(kind=43), "type 43"),
        (_tensor(kind=4), "type 4"),
        (_tensor(kind=12), "Q4_K has rows of 32 elements, no multiple of 256"),
        (_tensor(offset=8), "begin at 8, expected"),
        (_tensor(offset=0), "begin at 0, expected"),
        (_tensor(shape=[2**40, 32]), "expected|missing"),
    ],
)
def test_malformed(tmp_path: Path, bert_header: GGUFHeader, damage: Damage, message: str) -> None:
    draft = draft_of(bert_header, SIZES)
    damage(draft)
    refused_bytes(tmp_path, draft.encoded(), message)


@pytest.mark.parametrize("element", [8, 10])
def test_claims_take_no_memory(tmp_path: Path, bert_header: GGUFHeader, element: int) -> None:
    draft = draft_of(bert_header, SIZES)
    draft.put("a", 9, [], element)
    content = draft.encoded().replace(
        struct.pack("<IQ", element, 0), struct.pack("<IQ", element, 2**40), 1
    )
    tracemalloc.start()
    refused_bytes(tmp_path, content, "claims to hold|ends at byte")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5e6


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_any_bytes(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.getbasetemp()
    base = folder / "hypothesis.gguf"
    if not base.exists():
        write_tiny_bert(base)
    content = bytearray(base.read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(4, 6000))
        content[at : at + 8] = data.draw(st.binary(min_size=1, max_size=8))
    path = folder / "any.gguf"
    path.write_bytes(content)
    # Any other exception fails the test.
    with contextlib.suppress(ModelLoadError):
        check_model(read_header(path))


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_whole_models_load(tmp_path: Path, architecture: str) -> None:
    path = write_tiny_model(tmp_path / "tiny.gguf", architecture)
    header = read_header(path)
    check_model(header)
    with EmbeddingModel(path) as model:
        assert np.isfinite(model.embed("hello world")).all()


def test_examined_architectures_are_tested() -> None:
    assert set(ARCHITECTURES) == EXAMINED_ARCHITECTURES


def test_minilm(minilm_path: Path) -> None:
    header = read_header(minilm_path)
    check_model(header)
    assert header.architecture == "bert"
    assert header.n_parameters == 22_565_376
    assert len(header.metadata["tokenizer.ggml.tokens"]) == 30_522


@pytest.mark.parametrize(
    ("architecture", "metadata", "message"),
    [
        ("bert", {"general.type": "adapter"}, "of the kind 'adapter'"),
        ("bert", {"general.architecture": "bertt"}, "'bertt' is unknown.*mean 'bert'"),
        ("bert", {"general.architecture": "clip"}, "mmproj"),
        ("bert", {"general.architecture": "dream"}, "diffusion"),
        ("bert", {"general.architecture": "wavtokenizer-dec"}, "speech"),
        ("bert", {"general.name": "a\0b"}, "'general.name' holds a NUL"),
        ("bert", {"general.alignment": 16}, "maps multiples of 32"),
        ("bert", {"split.count": np.uint16(2)}, "one of 2 parts.*llama-gguf-split --merge"),
        ("bert", {"bert.block_count": None}, "'bert.block_count' is missing"),
        ("bert", {"bert.block_count": 0}, "not from 1 to 512"),
        ("bert", {"bert.block_count": 513}, "not from 1 to 512"),
        ("bert", {"bert.block_count": np.int32(2)}, "must be of type u32, not i32"),
        ("bert", {"bert.context_length": 0}, "context_length' is 0"),
        ("bert", {"bert.embedding_length_out": 64}, "have 32 dimensions"),
        ("bert", {"bert.pooling_type": 5}, "not from 0 to 4"),
        ("bert", {"bert.pooling_type": 4}, "'cls.output.weight' is missing"),
        ("bert", {"bert.classifier.activation": "relu"}, "not gelu, silu or tanh"),
        ("bert", {"bert.classifier.output_labels": ["x"] * 33}, "33 labels for 32 scores"),
        ("bert", {"bert.rope.scaling.type": "dynamic"}, "'dynamic', which is unknown"),
        ("bert", {"bert.attention.layer_norm_epsilon": -1.0}, "not a small positive number"),
        ("bert", {"bert.attention.layer_norm_epsilon": float("nan")}, "not a small positive"),
        ("bert", {"bert.attention.layer_norm_epsilon": None}, "epsilon' is missing"),
        ("bert", {"bert.attention.causal": 1}, "must be of type bool"),
        ("bert", {"bert.attention.head_count": 0}, "impossible numbers of heads"),
        ("bert", {"bert.attention.head_count": 64}, "impossible numbers of heads"),
        ("bert", {"bert.attention.head_count": 4}, "4 heads of 16 dimensions are not 32"),
        ("bert", {"bert.attention.head_count_kv": 3}, "no multiple of its 3 key-value"),
        (
            "bert",
            {"bert.attention.head_count": np.array([2, 4], dtype=np.int32)},
            "layers differ in their number of heads",
        ),
        ("bert", {"bert.attention.value_length": 8}, "keys of 16 and values of 8"),
        ("bert", {"bert.expert_used_count": 1}, "1 of 0 experts are used"),
        ("bert", {"bert.expert_group_count": 1}, "0 experts are in 1 groups"),
        ("bert", {"bert.nextn_predict_layers": 1}, "text generation only"),
        ("modern-bert", {"modern-bert.decision.block_count": 1}, "decision model"),
        ("modern-bert", {"modern-bert.attention.sliding_window_pattern": 1}, "no layer a window"),
        ("modern-bert", {"modern-bert.hidden_activation": "relu"}, "'relu', which has no gate"),
        ("nomic-bert", {"nomic-bert.rope.dimension_count": 18}, "18 of 16 dimensions"),
        ("nomic-bert", {"nomic-bert.rope.dimension_count": 7}, "odd"),
        ("nomic-bert-moe", {"nomic-bert-moe.expert_used_count": 5}, "5 of 4 experts"),
        ("qwen3", {"qwen3.rope.dimension_count": 8}, "8 of 16 dimensions"),
        ("gemma-embedding", {"gemma-embedding.attention.sliding_window_pattern": 0}, "each layer"),
        ("gemma2", {"gemma2.attention.sliding_window_pattern": 1}, "no layer a window"),
        ("t5encoder", {"t5encoder.attention.relative_buckets_count": 3}, "not from 4 to 511"),
        ("jina-bert-v2", {"jina-bert-v2.attention.head_count_kv": 1}, "as many key-value heads"),
        ("jina-bert-v2", {"jina-bert-v2.feed_forward_length": 32}, "has the shape"),
    ],
)
def test_refused_models(
    tmp_path: Path, architecture: str, metadata: dict[str, Any], message: str
) -> None:
    name = metadata.pop("general.architecture", None)
    path = write_tiny_model(tmp_path / "tiny.gguf", architecture, metadata=metadata)
    if name is not None:
        draft = draft_of(read_header(path), SIZES)
        draft.put("general.architecture", 8, name)
        path.write_bytes(draft.encoded())
    refused(path, message)


@pytest.mark.parametrize(
    ("tensors", "activation", "message"),
    [
        ({"dense_2.weight": (16, 33)}, None, "'dense_2' does not fit"),
        ({"dense_2.weight": (16, 32), "dense_3.weight": (8, 32)}, None, "'dense_3' does not fit"),
        ({"dense_2.weight": (16, 32), "dense_2.bias": (32,)}, None, "'dense_2' does not fit"),
        ({"dense_2.weight": (32,)}, None, "'dense_2' does not fit"),
        ({"dense_2.bias": (32,)}, None, "'dense_2.weight' is missing"),
        ({"dense_2.weight": (16, 32)}, "relu", "is 'relu', not tanh"),
        ({}, "tanh", "'dense_2.weight' is missing"),
    ],
)
def test_dense_modules_that_do_not_fit(
    tmp_path: Path, tensors: dict[str, tuple[int, ...]], activation: str | None, message: str
) -> None:
    path = write_tiny_bert(
        tmp_path / "tiny.gguf",
        metadata={"embellama.dense_2.activation": activation},
        tensors={name: np.ones(shape, np.float32) for name, shape in tensors.items()},
    )
    refused(path, message)


@pytest.mark.parametrize(
    ("shape", "activation"), [((16, 33), None), ((16, 64), None), ((16, 32), "relu")]
)
def test_nor_does_core_compute_them(
    tmp_path: Path, shape: tuple[int, ...], activation: str | None
) -> None:
    """embellama.core loads a file unchecked, and must not read out of bounds."""
    path = write_tiny_bert(
        tmp_path / "tiny.gguf",
        metadata={"embellama.dense_2.activation": activation},
        tensors={"dense_2.weight": np.ones(shape, np.float32)},
    )
    with pytest.raises(ModelLoadError, match="the module dense_2 does not fit"):
        Model(str(path))


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("blk.0.attn_q.weight", "I32", "I32, with which llama.cpp cannot compute"),
        ("blk.0.attn_q.bias", "F16", "'blk.0.attn_q.bias' is of type F16"),
        ("token_types.weight", "F16", "'token_types.weight' is of type F16"),
        ("blk.1.layer_output_norm.weight", "F16", "of type F16"),
    ],
)
def test_tensor_types(
    tmp_path: Path, bert_header: GGUFHeader, name: str, kind: str, message: str
) -> None:
    draft = draft_of(bert_header, SIZES)
    tensor = next(tensor for tensor in draft.tensors if tensor.name == name.encode())
    tensor.kind = {"F16": 1, "I32": 26}[kind]
    tensor.data = tensor.data[: len(tensor.data) // (2 if kind == "F16" else 1)]
    refused_bytes(tmp_path, draft.encoded(), message)


def test_no_tensors(tmp_path: Path, bert_header: GGUFHeader) -> None:
    draft = draft_of(bert_header, SIZES)
    draft.tensors.clear()
    refused_bytes(tmp_path, draft.encoded(), "no weights, only a vocabulary")


def test_head_without_scores_for_its_labels(tmp_path: Path) -> None:
    path = write_tiny_bert(
        tmp_path / "tiny.gguf",
        metadata={"bert.classifier.output_labels": ["a", "b"], "bert.pooling_type": 4},
        tensors={"cls.output.weight": np.zeros((1, 32), np.float32)},
    )
    refused(path, "2 labels for 1 scores")


ZEROS = np.zeros(len(TINY_TOKENS), dtype=np.float32)


def bytes_of(values: list[int]) -> np.ndarray:
    return np.array(values, dtype=np.uint8)


def _replaced(index: int, token: str) -> list[str]:
    return [*TINY_TOKENS[:index], token, *TINY_TOKENS[index + 1 :]]


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"model": None}, "no tokenizer"),
        ({"model": "rwkv"}, "'rwkv' is not supported"),
        ({"model": "no_vocab"}, "'no_vocab' is not supported"),
        ({"tokens": None}, "no vocabulary"),
        ({"tokens": _replaced(9, "▁a")}, "'▁a' a second time, as token 9"),
        # llama.cpp reads tokens as C strings and gives empty ones a name.
        ({"tokens": _replaced(9, "▁a\0x")}, "'▁a' a second time"),
        ({"tokens": [*_replaced(9, ""), "[EMPTY_9]"]}, r"'\[EMPTY_9\]' a second time"),
        ({"tokens": _replaced(9, "x" * 513)}, "token 9 is 513 bytes long"),
        ({"token_type": np.ones(3, dtype=np.int32)}, "3 entries for 63 tokens"),
        ({"token_type": np.full(63, 6, dtype=np.int32)}, "of the type BYTE"),
        ({"token_type": np.ones(63, dtype=np.float32)}, "must be of type"),
        ({"scores": np.full(63, np.nan, dtype=np.float32)}, "NaN"),
        (
            {"tokens": [f"\u2581{token}" for token in TINY_TOKENS]},
            "shifted, as llama.cpp's converter does it with CamemBERT.*Convert the checkpoint",
        ),
        ({"bos_token_id": None}, "needs 'tokenizer.ggml.bos_token_id', an id below 63"),
        ({"seperator_token_id": 63}, "seperator_token_id', an id below 63"),
        ({"unknown_token_id": None}, "unknown_token_id"),
        ({"model": "gpt2", "pre": "whitespace", "merges": ["a b"]}, "'whitespace' does not fit"),
        ({"model": "gpt2", "merges": ["a b"], "add_bos_token": True, "bos_token_id": 99}, None),
        ({"model": "gpt2", "pre": "glm4", "add_bos_token": True, "bos_token_id": 99}, "bos_token"),
        ({"model": "t5", "scores": None}, "scores' is missing, which a Unigram tokenizer needs"),
        (
            {"model": "t5", "scores": ZEROS, "precompiled_charsmap": bytes_of([9, 0, 0, 0])},
            "cut short",
        ),
        (
            {
                "model": "t5",
                "scores": ZEROS,
                "precompiled_charsmap": bytes_of([0] * 4 + [65] * 600),
            },
            "600 bytes in place of a character",
        ),
    ],
)
def test_vocabularies(tmp_path: Path, metadata: dict[str, Any], message: str | None) -> None:
    values = {f"tokenizer.ggml.{key}": value for key, value in metadata.items()}
    path = write_tiny_bert(tmp_path / "tiny.gguf", metadata=values)
    if message is None:
        check_model(read_header(path))  # the default id, 11, is in range
    else:
        refused(path, message)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ids": np.array([3, 63], dtype=np.int32)}, "ids that are not below 63"),
        ({"ids": np.array([3, -1], dtype=np.int32)}, "ids that are not below 63"),
        ({"ids": np.array([3, 3], dtype=np.int32)}, "has an id twice"),
        ({"ids": np.array([3, 4], dtype=np.uint32)}, "must be of type"),
        ({"lstrip": None}, "lstrip' is not one switch for each"),
        ({"normalized": np.ones(3, dtype=bool)}, "normalized' is not one switch for each"),
        ({"in_vocabulary": np.ones(2, dtype=np.uint8)}, "must be of type"),
    ],
)
def test_added_tokens(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    names = ("single_word", "lstrip", "rstrip", "normalized", "in_vocabulary")
    values = {"ids": np.array([3, 4], dtype=np.int32), **dict.fromkeys(names, np.ones(2, bool))}
    metadata = {f"embellama.added_tokens.{key}": v for key, v in (values | changes).items()}
    path = write_tiny_bert(tmp_path / "tiny.gguf", metadata=metadata)
    with pytest.raises(ModelLoadError, match=message):
        check_model(read_header(path))


def test_a_gate_where_llama_cpp_does_not_look_for_it(tmp_path: Path) -> None:
    """jina-embeddings-v2-base-code by llama.cpp's converter: cosine -0.13 to the right vectors."""
    width, n_inner = SIZES["embedding_length"], SIZES["feed_forward_length"]
    tensors: dict[str, np.ndarray | None] = {}
    for layer in range(SIZES["block_count"]):
        tensors[f"blk.{layer}.ffn_gate.weight"] = None
        tensors[f"blk.{layer}.ffn_up.weight"] = np.ones((2 * n_inner, width), np.float32)
        for name in ("attn_q_norm", "attn_k_norm"):
            tensors[f"blk.{layer}.{name}.weight"] = np.ones(width, np.float32)
    path = write_tiny_model(tmp_path / "tiny.gguf", "jina-bert-v2", tensors=tensors)
    refused(path, "and its vectors would be wrong")


@pytest.mark.parametrize(
    ("architecture", "sizes"),
    [
        ("qwen3", {"embedding_length": 65536, "head_count": 1, "head_count_kv": 1}),
        ("bert", {"feed_forward_length": 65536}),
        ("gemma2", {"head_count": 16, "head_count_kv": 16, "key_length": 1024}),
        ("t5encoder", {"embedding_length": 512, "head_count": 512, "head_count_kv": 512}),
        ("bert", {"block_count": 512}),
    ],
    ids=["wide", "wide inner layer", "large cache", "many heads", "many layers"],
)
def test_small_files_that_take_much_memory(
    tmp_path: Path, architecture: str, sizes: dict[str, int]
) -> None:
    path = write_tiny_model(tmp_path / "tiny.gguf", architecture, file_type="Q4_0", **sizes)
    refused(path, "each thread would take up to .* MiB of memory")


def test_more_strings_than_memory_for_them(tmp_path: Path, bert_header: GGUFHeader) -> None:
    draft = draft_of(bert_header, SIZES)
    draft.put("a", 9, [b""] * 400_000, element=8)
    refused_bytes(tmp_path, draft.encoded(), "memory for 36.... strings")


@pytest.mark.slow
def test_fuzzer_finds_nothing() -> None:
    fuzzer = str(TESTS / "fuzz" / "fuzz_gguf.py")
    command = [sys.executable, fuzzer, "--cases", "2000"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout
    assert "\n0 findings" in result.stdout
