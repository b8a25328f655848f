# SPDX-License-Identifier: Apache-2.0
"""A text's vector depends on the text: not on its neighbours, the order, threads or micro-batches.

How far it may, in which types and instruction sets, says :mod:`embellama.embedding.verification`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.tiny_model import write_tiny_bert

import embellama
from embellama import EmbeddingModel, ModelConfig, catalog, model_info
from embellama.convert import FILE_TYPES
from embellama.core import quantize
from embellama.embedding.verification import tolerance

INSTRUCTION_SETS = [*embellama.backend_info()["instruction_sets"], "llama.cpp"]
FAST, OTHER = INSTRUCTION_SETS[0], "llama.cpp"
QUICK = [("F16", FAST), ("Q8_0", FAST), ("Q8_0", OTHER), ("BF16", OTHER)]
QUICK += [("Q4_K_M", FAST), ("Q4_K_M", OTHER), ("Q6_K", OTHER)]
# MiniLM's rows are no multiples of 256, the block of these types: it gets few of them.
BLOCKS_OF_256 = ["Q2_K", "Q3_K_M", "Q4_K_M", "Q5_K_M", "Q6_K", "IQ4_XS"]
WORDS = "the quick brown fox jumps over a lazy dog while it rains in Paris and Rome".split()
RANDOM = np.random.default_rng(11)
TEXTS = [" ".join(RANDOM.choice(WORDS, n)) for n in (1, 1, 2, 5, 11, 12, 13, 31, 33, 64, 90, 200)]


def write_quantized(folder: Path, file_type: str) -> Path:
    """Quantise a BERT of random weights whose rows are whole blocks of all types."""
    sizes = {"embedding_length": 256, "head_count": 4, "head_count_kv": 4, "key_length": 64}
    sizes |= {"feed_forward_length": 512, "context_length": 2048}
    source, path = write_tiny_bert(folder / "F32.gguf", **sizes), folder / f"{file_type}.gguf"
    quantize(str(source), str(path), FILE_TYPES[file_type])
    assert not {"Q4_0", "Q5_0", "Q5_1", "Q8_0", "IQ4_NL"} & set(model_info(path).tensor_types)
    return path


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(
            (file_type, instruction_set),
            id=f"{file_type} {instruction_set}",
            # The fastest, and llama.cpp's own kernels, whose order of sums varies most.
            marks=[] if (file_type, instruction_set) in QUICK else pytest.mark.slow,
        )
        for file_type in ("F32", "F16", "BF16", "Q8_0", *BLOCKS_OF_256)
        # The encoder computes with blocks of 256 as with F32, once they are loaded.
        for instruction_set in ([FAST, OTHER] if file_type in BLOCKS_OF_256 else INSTRUCTION_SETS)
    ],
)
def model(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[EmbeddingModel, np.ndarray, float]]:
    """A model of three threads, the vectors of each text alone on one thread, the tolerance."""
    file_type, instruction_set = request.param
    if file_type in BLOCKS_OF_256:
        path = write_quantized(tmp_path_factory.mktemp("quantized"), file_type)
    else:
        path = catalog.resolve("all-MiniLM-L6-v2", file_type=file_type)
    config = ModelConfig(path, instruction_set=instruction_set)
    with EmbeddingModel(config.replace(n_threads=1)) as alone:
        expected = np.stack([alone.embed(text) for text in TEXTS])
    with EmbeddingModel(config.replace(n_threads=3)) as threads:
        yield threads, expected, tolerance(file_type, instruction_set)


@settings(max_examples=5, deadline=None)
@given(
    chosen=st.lists(st.integers(0, len(TEXTS) - 1), min_size=1, max_size=20),
    micro_batch_tokens=st.sampled_from([1, 16, 100, 256, 3000]),
)
def test_a_vector_depends_on_its_text_only(
    model: tuple[EmbeddingModel, np.ndarray, float], chosen: list[int], micro_batch_tokens: int
) -> None:
    computing, expected, allowed = model
    computing._loaded().embedder.micro_batch_tokens = micro_batch_tokens
    rows = computing.embed_batch([TEXTS[i] for i in chosen])
    cosines = np.sum(rows.astype(np.float64) * expected[chosen], axis=1)
    assert 1 - cosines.min() <= allowed


def test_verify(model: tuple[EmbeddingModel, np.ndarray, float]) -> None:
    model[0].verify()


@pytest.mark.parametrize("settings", [{"n_ctx": 5}, {"n_ctx": 64}, {"truncate": 4}])
def test_verify_with_texts_that_do_not_fit(settings: dict[str, Any]) -> None:
    with EmbeddingModel(ModelConfig("all-MiniLM-L6-v2", **settings)) as model:
        model.verify()
