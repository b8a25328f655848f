# SPDX-License-Identifier: Apache-2.0
"""What holds for every architecture that llama.cpp computes, on small models of random weights."""

from __future__ import annotations

import logging
import random
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from support.tiny_model import TINY_BPE_TOKENS, TINY_MERGES, write_tiny_model

from embellama import EmbeddingModel, ModelConfig, PoolingStrategy, ResourceLimitError, model_info
from embellama.convert import FILE_TYPES
from embellama.core import Context, Model, Vocabulary, quantize
from embellama.gguf.header import CONVERTED_BY
from embellama.gguf.memory import key_value_bytes

ARCHITECTURES = [
    *("bert", "nomic-bert", "nomic-bert-moe", "jina-bert-v2", "jina-bert-v3", "modern-bert"),
    *("neo-bert", "eurobert", "t5encoder", "gemma-embedding", "llama-embed"),
    *("llama", "qwen3", "gemma3"),
]
CAUSAL = ["llama", "qwen3", "gemma3"]


def texts(n: int = 24) -> list[str]:
    generator = random.Random(0)
    letters = "abcdefg hij klm nopqrst"
    lengths = [1, 5, 20, 60, 100, 200, *(generator.randint(1, 90) for _ in range(n - 6))]
    return ["a" + "".join(generator.choice(letters) for _ in range(length)) for length in lengths]


def difference_of_batch_and_single(config: ModelConfig) -> float:
    with EmbeddingModel(config) as model:
        batch = model.embed_batch(texts())
        single = np.stack([model.embed(text) for text in texts()])
        return float(np.abs(batch - single).max())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_vector_does_not_depend_on_its_neighbours(architecture: str, tmp_path: Path) -> None:
    """Sums of float32 in another order differ by some 1e-7; a rounding in between by 1e-4."""
    path = write_tiny_model(tmp_path / "model.gguf", architecture)
    config = ModelConfig(path, truncate=True, pooling="mean")
    assert difference_of_batch_and_single(config) <= 2e-6


def write_dequantised(path: Path, source: Path, architecture: str, **sizes: int) -> Path:
    tensors = {
        tensor.name: gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        for tensor in gguf.GGUFReader(source).tensors
    }
    return write_tiny_model(path, architecture, tensors=tensors, **sizes)


@pytest.mark.parametrize("file_type", ["F16", "BF16", "Q8_0", "Q4_0", "Q5_1"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_exact_multiplies_the_weights_of_the_file(
    architecture: str, file_type: str, tmp_path: Path
) -> None:
    """llama.cpp rounds activations to 16 bits for F16 and BF16, and to 8 bits for smaller types.

    A file with the same weights in float32 is computed without rounding, up to the order of sums.
    """
    assert_exact(tmp_path, architecture, file_type)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_exact_widens_matrices_of_any_sides(architecture: str, tmp_path: Path) -> None:
    """The panels of the encoder hold multiples of 32."""
    sizes = {"embedding_length": 48, "key_length": 24, "feed_forward_length": 80}
    assert_exact(tmp_path, architecture, "F16", **sizes)


@pytest.mark.parametrize(
    ("architecture", "file_type"),
    [("bert", "Q4_K_M"), ("qwen3", "Q6_K"), ("nomic-bert-moe", "Q4_K_M")],
)
def test_exact_widens_other_types(architecture: str, file_type: str, tmp_path: Path) -> None:
    """Panels would take seven times the memory of Q4_K, whose blocks hold 256 weights."""
    sizes = {"embedding_length": 256, "key_length": 128, "feed_forward_length": 512}
    source = write_tiny_model(tmp_path / "source.gguf", architecture, **sizes)
    quantize(str(source), str(tmp_path / "model.gguf"), FILE_TYPES[file_type])
    assert_exact_file(tmp_path / "model.gguf", architecture, **sizes)


def assert_exact(folder: Path, architecture: str, file_type: str, **sizes: int) -> None:
    path = folder / "model.gguf"
    write_tiny_model(path, architecture, file_type=file_type, **sizes)
    assert_exact_file(path, architecture, **sizes)


def assert_exact_file(path: Path, architecture: str, **sizes: int) -> None:
    config = ModelConfig(path, truncate=True, pooling="mean", accuracy="exact")
    assert difference_of_batch_and_single(config) <= 2e-6
    same = config.replace(
        model_path=write_dequantised(path.with_name("f32.gguf"), path, architecture, **sizes)
    )
    with EmbeddingModel(config) as model, EmbeddingModel(same) as reference:
        largest = np.abs(model.embed_batch(texts()) - reference.embed_batch(texts())).max()
    assert largest <= 2e-6


def write_causal_model(path: Path, architecture: str) -> Path:
    metadata = {f"{architecture}.attention.causal": True, f"{architecture}.pooling_type": 3}
    return write_tiny_model(path, architecture, metadata=metadata)


@pytest.mark.parametrize("architecture", CAUSAL)
def test_nor_does_that_of_a_causal_model(architecture: str, tmp_path: Path) -> None:
    path = write_causal_model(tmp_path / "model.gguf", architecture)
    assert difference_of_batch_and_single(ModelConfig(path, truncate=True)) <= 2e-6


@pytest.mark.parametrize("architecture", CAUSAL)
def test_keys_in_float16_are_rounded(architecture: str, tmp_path: Path) -> None:
    exact = ModelConfig(write_causal_model(tmp_path / "model.gguf", architecture), truncate=True)
    rounded = exact.replace(keys_in_float16=True)
    with EmbeddingModel(exact) as model, EmbeddingModel(rounded) as half:
        largest = np.abs(model.embed_batch(texts()) - half.embed_batch(texts())).max()
    assert 1e-6 < largest < 1e-2


def test_keys_and_values_that_do_not_fit_raise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Linux would grant the memory, and end the process when it is used."""
    path = write_causal_model(tmp_path / "model.gguf", "qwen3")
    monkeypatch.setattr("embellama.embedding.embedder._LONG_TEXT_TOKENS", 8)
    with EmbeddingModel(path) as model:
        vector = model.embed("hello")
        n_tokens = model.count_tokens("hello hello hello hello hello")
        needed = key_value_bytes(model.info.header, n_tokens)
        # Keys and values of 2 layers, 2 heads and 16 dimensions, in 4 bytes.
        assert needed == 2 * 2 * 2 * 16 * 4 * n_tokens
        usable = "embellama.embedding.embedder.usable_memory"
        monkeypatch.setattr(usable, lambda: needed - 1)
        with pytest.raises(ResourceLimitError, match="keys_in_float16=True"):
            model.embed_batch(["hello", "hello hello hello hello hello"])
        np.testing.assert_array_equal(model.embed("hello"), vector)
        monkeypatch.setattr(usable, lambda: needed)
        assert model.embed_batch(["hello hello hello hello hello"]).shape[0] == 1


def first_vectors(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The first token's vector in two texts that differ in the last token."""
    model = Model(str(path))
    vocabulary, context = Vocabulary(model), Context(model)
    first = context.token_vectors(vocabulary.tokenize("hello a"))[0]
    other = context.token_vectors(vocabulary.tokenize("hello b"))[0]
    model.close()
    return first, other


@pytest.mark.parametrize("architecture", ["llama-embed", "gemma-embedding", "t5encoder"])
def test_those_never_causal_see_the_whole_text(architecture: str, tmp_path: Path) -> None:
    """Their converters do not say that they are not causal."""
    metadata = {f"{architecture}.attention.causal": None}
    path = write_tiny_model(tmp_path / "model.gguf", architecture, metadata=metadata)
    assert not model_info(path).is_causal
    first, other = first_vectors(path)
    assert np.abs(first - other).max() > 1e-4


@pytest.mark.parametrize("architecture", CAUSAL)
def test_a_causal_model_does_not_look_ahead(architecture: str, tmp_path: Path) -> None:
    first, other = first_vectors(write_causal_model(tmp_path / "model.gguf", architecture))
    np.testing.assert_allclose(first, other, atol=1e-6)


@pytest.mark.parametrize(
    ("architecture", "pooling"),
    [
        ("t5encoder", PoolingStrategy.MEAN),
        ("llama-embed", PoolingStrategy.MEAN),
        ("gemma-embedding", PoolingStrategy.MEAN),
        ("qwen3", PoolingStrategy.LAST),
        ("bert", PoolingStrategy.MEAN),
    ],
)
def test_pooling_where_the_file_says_nothing(
    architecture: str, pooling: PoolingStrategy, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    silent = [f"{architecture}.pooling_type"]
    if architecture != "bert":
        silent.append(f"{architecture}.attention.causal")
    path = write_tiny_model(tmp_path / "model.gguf", architecture, metadata=dict.fromkeys(silent))
    with caplog.at_level(logging.WARNING, "embellama"), EmbeddingModel(path) as model:
        assert model.pooling is pooling
    told = [text for text in caplog.messages if "how the model pools" in text]
    if architecture in ("qwen3", "bert"):
        assert len(told) == 1
        assert f"pooling={pooling.value!r}" in told[0]
    else:
        assert told == []
    caplog.clear()
    with EmbeddingModel(ModelConfig(path, pooling="mean")):
        assert not [text for text in caplog.messages if "how the model pools" in text]


def test_a_guessed_pooling_is_told_without_any_configuration(tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "model.gguf", "bert", metadata={"bert.pooling_type": None})
    code = "import sys, embellama; embellama.EmbeddingModel(sys.argv[1])"
    result = subprocess.run(
        [sys.executable, "-c", code, path], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert len(result.stderr.splitlines()) == 1
    assert "pooling='mean'" in result.stderr


@pytest.mark.parametrize("pre", ["qwen2", "modern-bert", "olmo", "gpt-2"])
def test_nfc_where_the_tokenizer_begins_with_it(pre: str, tmp_path: Path) -> None:
    """As the normalizer "NFC" in tokenizer.json of Qwen, ModernBERT and OLMo; GPT-2 has none."""
    metadata = {"tokenizer.ggml.pre": pre}
    model = Model(str(write_tiny_model(tmp_path / "model.gguf", "qwen3", metadata=metadata)))
    vocabulary = Vocabulary(model)
    for text in ("cafe\u0301", "\u1112\u1161\u11ab", "a\u0323\u0307", "plain", ""):
        composed = unicodedata.normalize("NFC", text)
        assert vocabulary.normalized(text) == (text if pre == "gpt-2" else composed)
    model.close()


def test_tokens_of_a_decomposed_text(tmp_path: Path) -> None:
    """A letter that the vocabulary has composed only, through every way to its token."""
    pieces = [*TINY_BPE_TOKENS, "\u00c3\u00a9"]  # the two bytes of an e with an acute accent
    metadata = {
        "tokenizer.ggml.pre": "qwen2",
        "tokenizer.ggml.tokens": [*pieces, "\u00c3", "\u00a9"],
        "tokenizer.ggml.token_type": [1] * (len(pieces) + 2),
        "tokenizer.ggml.merges": [*TINY_MERGES, "\u00c3 \u00a9"],
    }
    embeddings = np.random.default_rng(0).standard_normal((len(pieces) + 2, 32), np.float32)
    path = write_tiny_model(
        tmp_path / "model.gguf",
        "qwen3",
        metadata=metadata,
        tensors={"token_embd.weight": embeddings},
    )
    with EmbeddingModel(ModelConfig(path, pooling="mean")) as model:
        composed = model.tokenize("caf\u00e9")
        assert model.tokenize("cafe\u0301").tolist() == composed.tolist()
        expected = model.embed_tokens(composed)
        np.testing.assert_allclose(model.embed("cafe\u0301"), expected, atol=1e-6)
        np.testing.assert_allclose(model.embed_batch(["cafe\u0301"])[0], expected, atol=1e-6)


@pytest.mark.parametrize(
    ("architecture", "words", "good"),
    [
        ("neo-bert", "keys and values", {"metadata": {CONVERTED_BY: "embellama 1"}}),
        (
            "nomic-bert-moe",
            "bias of the experts",
            {"tensors": {"blk.1.ffn_down.bias": np.zeros(32, np.float32)}},
        ),
        (
            "gemma-embedding",
            "dense modules",
            {"tensors": {"dense_2.weight": np.eye(32, dtype=np.float32)}},
        ),
    ],
)
def test_what_a_file_can_not_show_is_told(
    architecture: str,
    words: str,
    good: dict[str, Any],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = write_tiny_model(tmp_path / "model.gguf", architecture)
    with caplog.at_level(logging.WARNING, "embellama"), EmbeddingModel(ModelConfig(path)) as model:
        doubts = model.info.doubts(model.pooling)
    assert any(words in record.getMessage() for record in caplog.records)
    ours = write_tiny_model(tmp_path / "ours.gguf", architecture, **good)
    remaining = model_info(ours).doubts(PoolingStrategy.MEAN)
    assert [words in each for each in doubts if each not in remaining] == [True]
