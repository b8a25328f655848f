# SPDX-License-Identifier: Apache-2.0
"""A text's vector depends on the text: not on its neighbours, the order, threads or micro-batches.

How far it may, in which types and instruction sets, says :mod:`embellama.verification`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import embellama
from embellama import EmbeddingModel, ModelConfig, catalog
from embellama.verification import tolerance

INSTRUCTION_SETS = [*embellama.backend_info()["instruction_sets"], "llama.cpp"]
QUICK = [("F16", INSTRUCTION_SETS[0]), ("Q8_0", INSTRUCTION_SETS[0]), ("Q8_0", "llama.cpp")]
WORDS = "the quick brown fox jumps over a lazy dog while it rains in Paris and Rome".split()
RANDOM = np.random.default_rng(11)
TEXTS = [" ".join(RANDOM.choice(WORDS, n)) for n in (1, 1, 2, 5, 11, 12, 13, 31, 33, 64, 90, 200)]


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(
            (file_type, instruction_set),
            id=f"{file_type} {instruction_set}",
            # The fastest, and llama.cpp's own kernels, whose order of sums varies most.
            marks=[] if (file_type, instruction_set) in QUICK else pytest.mark.slow,
        )
        for file_type in ("F32", "F16", "Q8_0")
        for instruction_set in INSTRUCTION_SETS
    ],
)
def model(request: pytest.FixtureRequest) -> Iterator[tuple[EmbeddingModel, np.ndarray, float]]:
    """A model of three threads, the vectors of each text alone on one thread, the tolerance."""
    file_type, instruction_set = request.param
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
    computing._loaded().micro_batch_tokens = micro_batch_tokens
    rows = computing.embed_batch([TEXTS[i] for i in chosen])
    cosines = np.sum(rows.astype(np.float64) * expected[chosen], axis=1)
    assert 1 - cosines.min() <= allowed


def test_verify(model: tuple[EmbeddingModel, np.ndarray, float]) -> None:
    model[0].verify()
