# SPDX-License-Identifier: Apache-2.0
"""What a loaded model promises beyond its numbers: order, limits, threads, life cycle."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.tiny_model import write_tiny_model

from embellama import (
    ConfigurationError,
    EmbeddingModel,
    InvalidInputError,
    ModelConfig,
    ModelLoadError,
    OperationTimeoutError,
    PNorm,
)

WORDS = "the quick brown fox jumps over a lazy dog while it rains in Paris and Rome".split()

# The same text in another micro-batch meets other kernels of ggml (row counts, flash attention's
# tiles), which sum float16 products in another order.
NEIGHBOUR_TOLERANCE = 2e-3


def make_texts(count: int) -> list[str]:
    generator = np.random.default_rng(count)
    return [" ".join(generator.choice(WORDS, generator.integers(1, 40))) for _ in range(count)]


def test_batch_equals_single(minilm: EmbeddingModel) -> None:
    texts = make_texts(100)
    batch = minilm.embed_batch(texts)
    assert batch.shape == (100, 384)
    assert batch.dtype == np.float32
    for index in range(0, 100, 9):
        np.testing.assert_allclose(
            batch[index], minilm.embed(texts[index]), rtol=0, atol=NEIGHBOUR_TOLERANCE
        )


@settings(max_examples=10, deadline=None)
@given(st.permutations(range(24)))
def test_order_is_kept(minilm: EmbeddingModel, permutation: list[int]) -> None:
    texts = make_texts(24)
    straight = minilm.embed_batch(texts)
    shuffled = minilm.embed_batch([texts[i] for i in permutation])
    np.testing.assert_allclose(shuffled, straight[permutation], rtol=0, atol=NEIGHBOUR_TOLERANCE)


def test_vectors_have_unit_length(minilm: EmbeddingModel) -> None:
    lengths = np.linalg.norm(minilm.embed_batch(make_texts(20)).astype(np.float64), axis=1)
    np.testing.assert_allclose(lengths, 1, rtol=1e-6)


def test_empty_batch(minilm: EmbeddingModel) -> None:
    assert minilm.embed_batch([]).shape == (0, 384)


def test_details(minilm: EmbeddingModel) -> None:
    result = minilm.embed_batch(["one", "one two three"], details=True)
    assert result.token_counts.tolist() == [3, 5]
    assert result.truncated.tolist() == [False, False]


def test_any_iterable_is_taken(minilm: EmbeddingModel) -> None:
    texts = make_texts(5)
    np.testing.assert_array_equal(
        minilm.embed_batch(text for text in texts), minilm.embed_batch(texts)
    )


def test_embed_iter_streams_windows(minilm: EmbeddingModel) -> None:
    taken = 0

    def source() -> object:
        nonlocal taken
        for text in ["a"] * 2100:
            taken += 1
            yield text

    windows = minilm.embed_iter(source())
    start, rows = next(windows)
    assert (start, taken) == (0, len(rows))
    assert taken < 2100
    rest = list(windows)
    assert sum(len(r) for _, r in rest) + len(rows) == 2100
    assert rest[0][0] == len(rows)


def test_limits(minilm: EmbeddingModel) -> None:
    assert minilm.embedding_dimensions == 384
    assert minilm.max_sequence_length == 512
    assert minilm.effective_max_tokens == 510
    fits = "word " * 510
    assert minilm.count_tokens(fits) == 512
    assert minilm.embed(fits).shape == (384,)
    with pytest.raises(InvalidInputError, match=r"text 1 has 513 tokens, 512 is the limit") as info:
        minilm.embed_batch(["fine", fits + "word"])
    assert info.value.index == 1


@pytest.mark.parametrize(
    ("metadata", "tensors", "words"),
    [
        ({"model": "llama", "add_eos_token": False}, {}, "bos_token'.* is taken, a BOS before"),
        ({"add_bos_token": None, "add_eos_token": False}, {}, "bos_token'.* no BOS before a text"),
        ({}, {}, "no key 'tokenizer.ggml.add_eos_token'.* is taken, no EOS behind a text"),
        (
            {"pre": "roberta-bpe", "add_eos_token": True},
            {"cls.weight": np.ones((32, 32)), "cls.output.weight": np.ones((1, 32))}
            | {"cls.norm.weight": np.ones(32)},
            "no key 'tokenizer.ggml.add_sep_token'.* a SEP between a query and a document",
        ),
        ({"add_eos_token": True}, {}, None),
    ],
)
def test_special_tokens_that_the_file_leaves_open_are_told(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    metadata: dict[str, object],
    tensors: dict[str, np.ndarray],
    words: str | None,
) -> None:
    kind = "gemma" if metadata.get("model") == "llama" else "modern-bert"
    path = write_tiny_model(
        tmp_path / "tiny.gguf",
        kind,
        metadata={f"tokenizer.ggml.{key}": value for key, value in metadata.items()},
        tensors=tensors,
    )
    with EmbeddingModel(ModelConfig(path, pooling="rank" if tensors else "mean")):
        told = [record.message for record in caplog.records if "no key" in record.message]
    assert len(told) == (words is not None)
    if words is not None:
        assert re.search(words, told[0])


@pytest.mark.parametrize("by_vocabulary", [False, True])
def test_the_end_token_of_a_causal_model_counts(tmp_path: Path, by_vocabulary: bool) -> None:
    path = write_tiny_model(
        tmp_path / "tiny.gguf",
        "qwen3",
        metadata={"qwen3.pooling_type": 3, "tokenizer.ggml.add_eos_token": by_vocabulary},
    )
    with EmbeddingModel(path) as model:
        assert (model.max_sequence_length, model.effective_max_tokens) == (64, 62)
        # A token for each letter, between <s> and </s>.
        fits = "a" * model.effective_max_tokens
        ids = model.tokenize(fits)
        assert (len(ids), ids[0], ids[-1]) == (64, 0, 1)
        rows = model.embed_multi(fits, special_tokens=False)
        np.testing.assert_array_equal(rows, model.embed_multi(fits)[1:-1])
        with pytest.raises(InvalidInputError, match="65 tokens, 64 is the limit"):
            model.embed(fits + "a")
        # A text that ends with the token has it once.
        spelled = model.embed_multi(f"{fits[1:]}</s>", special_tokens=False)
        assert len(spelled) == 61 + by_vocabulary
    with EmbeddingModel(ModelConfig(path, pooling="mean")) as model:
        assert model.effective_max_tokens == 63 - by_vocabulary
        assert len(model.embed_multi("ab", special_tokens=False)) == 2


@pytest.mark.parametrize(
    ("truncate", "n_ctx", "kept"),
    [(True, 512, 512), (True, 100, 100), (10, None, 10), (1000, None, 512)],
)
def test_truncation_keeps_the_final_special_token(
    minilm_path: Path, truncate: bool | int, n_ctx: int | None, kept: int
) -> None:
    with EmbeddingModel(ModelConfig(minilm_path, truncate=truncate, n_ctx=n_ctx)) as model:
        result = model.embed_batch(["word " * 600, "short"], details=True)
        assert result.token_counts.tolist() == [kept, 3]
        assert result.truncated.tolist() == [True, False]
        # Cut tokens + [SEP] are the tokens of the shorter text.
        shorter = model.embed("word " * (kept - 2))
        np.testing.assert_allclose(result.embeddings[0], shorter, rtol=0, atol=NEIGHBOUR_TOLERANCE)


def test_special_token_text_is_parsed_unless_told_otherwise(
    minilm: EmbeddingModel, minilm_path: Path
) -> None:
    assert minilm.tokenize("a [SEP] b").tolist() == [101, 1037, 102, 1038, 102]
    with EmbeddingModel(ModelConfig(minilm_path, parse_special=False)) as model:
        assert 102 not in model.tokenize("a [SEP] b")[:-1]


def test_n_ctx_shortens_the_limit(minilm_path: Path) -> None:
    with EmbeddingModel(ModelConfig(minilm_path, n_ctx=8)) as model:
        assert model.max_sequence_length == 8
        assert model.embed("one two three four five six").shape == (384,)
        with pytest.raises(InvalidInputError, match="9 tokens, 8 is the limit"):
            model.embed("one two three four five six seven")
    with pytest.raises(ConfigurationError, match="n_ctx=513"):
        EmbeddingModel(ModelConfig(minilm_path, n_ctx=513))


def test_a_gpu_is_never_silently_ignored(minilm_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no GPU backend"):
        EmbeddingModel(ModelConfig(minilm_path, n_gpu_layers=1))


@pytest.mark.parametrize(
    "settings",
    [
        {"n_threads": 1},
        {"n_threads": 5},
        {"n_seq_max": 1},
        {"micro_batch_tokens": 1},
        {"micro_batch_tokens": 3, "n_seq_max": 200},
        {"micro_batch_tokens": 2000},
        {"use_mmap": False},
    ],
)
def test_settings_change_the_speed_only(
    minilm: EmbeddingModel, minilm_path: Path, settings: dict[str, int]
) -> None:
    texts = make_texts(30)
    with EmbeddingModel(ModelConfig(minilm_path, **settings)) as model:
        np.testing.assert_allclose(
            model.embed_batch(texts), minilm.embed_batch(texts), rtol=0, atol=NEIGHBOUR_TOLERANCE
        )


def test_normalizations_share_the_direction(minilm: EmbeddingModel, minilm_path: Path) -> None:
    text = "the same text"
    unit = minilm.embed(text)
    peaks = {"none": None, "max_abs": 32760.0, "l2": None}
    for mode, peak in peaks.items():
        with EmbeddingModel(ModelConfig(minilm_path, normalization=mode)) as model:
            vector = model.embed(text).astype(np.float64)
        np.testing.assert_allclose(vector / np.linalg.norm(vector), unit, atol=1e-6)
        if peak:
            assert np.abs(vector).max() == pytest.approx(peak)
    with EmbeddingModel(ModelConfig(minilm_path, normalization=PNorm(1))) as model:
        assert np.abs(model.embed(text)).sum() == pytest.approx(1, rel=1e-5)


def test_many_threads_never_mix_rows(minilm: EmbeddingModel) -> None:
    texts = make_texts(40)
    expected = minilm.embed_batch(texts)
    wrong: list[str] = []

    def caller(seed: int) -> None:
        generator = np.random.default_rng(seed)
        for _ in range(5):
            chosen = generator.integers(0, len(texts), generator.integers(1, 6))
            rows = minilm.embed_batch([texts[i] for i in chosen])
            if np.abs(rows - expected[chosen]).max() > NEIGHBOUR_TOLERANCE:
                wrong.append(f"{seed}: {chosen}")

    threads = [threading.Thread(target=caller, args=(seed,)) for seed in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_life_cycle(minilm_path: Path) -> None:
    model = EmbeddingModel(minilm_path)
    before = model.embed("hello")
    model.unload()
    model.unload()
    assert not model.is_loaded
    for call in (
        model.embed,
        model.tokenize,
        model.count_tokens,
        lambda text: model.embed_batch([text]),
    ):
        with pytest.raises(ModelLoadError, match="unloaded"):
            call("hello")
    assert model.embedding_dimensions == 384
    model.load()
    model.load()
    np.testing.assert_array_equal(model.embed("hello"), before)
    with model:
        pass
    assert not model.is_loaded
    assert "unloaded" in repr(model)


def test_unload_waits_for_calls_under_way(minilm_path: Path) -> None:
    model = EmbeddingModel(minilm_path)
    results: list[object] = []
    texts = make_texts(300)

    def caller() -> None:
        try:
            results.append(model.embed_batch(texts))
        except ModelLoadError as error:
            results.append(error)

    threads = [threading.Thread(target=caller) for _ in range(4)]
    for thread in threads:
        thread.start()
    model.unload()
    for thread in threads:
        thread.join()
    assert len(results) == 4


def test_timeout(minilm: EmbeddingModel) -> None:
    with pytest.raises(OperationTimeoutError, match=r"not finished within 0\.05 seconds"):
        minilm.embed_batch(["word " * 500] * 200, timeout=0.05)
    assert minilm.embed("works on").shape == (384,)


@pytest.mark.parametrize("timeout", [-1, float("nan")])
def test_bad_timeouts(minilm: EmbeddingModel, timeout: float) -> None:
    with pytest.raises(ConfigurationError, match="timeout"):
        minilm.embed_batch(["a"], timeout=timeout)
    with pytest.raises(TypeError, match="timeout"):
        minilm.embed_batch(["a"], timeout="1")  # type: ignore[arg-type]


def test_progress_callback(minilm: EmbeddingModel) -> None:
    calls: list[tuple[int, int]] = []
    minilm.embed_batch(make_texts(50), progress=lambda done, total: calls.append((done, total)))
    assert calls[-1] == (50, 50)
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)


def test_progress_callback_may_raise(minilm: EmbeddingModel) -> None:
    def stop(done: int, total: int) -> None:
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        minilm.embed_batch(["word " * 400] * 100, progress=stop)
    assert minilm.embed("works on").shape == (384,)


def test_log_is_silent_unless_asked_for(
    minilm_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, "embellama.llama_cpp"):
        EmbeddingModel(minilm_path).unload()
    assert any("llama_model_loader" in record.message for record in caplog.records)
    program = f"import embellama; embellama.EmbeddingModel({str(minilm_path)!r}).embed('x')"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("", "")


def test_unload_never_frees_under_a_caller(minilm_path: Path) -> None:
    """Calls that end and begin at the moment of unload() must each finish or be refused."""
    stop = threading.Event()
    unexpected: list[BaseException] = []
    model = EmbeddingModel(minilm_path)

    def caller() -> None:
        while not stop.is_set():
            try:
                model.embed("a")
            except ModelLoadError:
                pass
            except BaseException as error:
                unexpected.append(error)

    threads = [threading.Thread(target=caller) for _ in range(6)]
    for thread in threads:
        thread.start()
    for _ in range(15):
        model.unload()
        model.load()
    stop.set()
    for thread in threads:
        thread.join()
    model.unload()
    assert not unexpected
