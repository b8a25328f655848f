# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embellama import ConfigurationError
from embellama.batch import plan

lengths_lists = st.lists(st.integers(1, 600), max_size=300)


def micro_batches(order: np.ndarray, bounds: np.ndarray) -> list[np.ndarray]:
    return [order[a:b] for a, b in itertools.pairwise(bounds)]


@given(
    lengths=lengths_lists,
    max_tokens=st.integers(1, 1024),
    max_texts=st.integers(1, 256),
    n_workers=st.integers(1, 16),
)
def test_every_text_once_and_no_limit_passed(
    lengths: list[int], max_tokens: int, max_texts: int, n_workers: int
) -> None:
    counts = np.array(lengths, dtype=np.int32)
    order, bounds = plan(counts, max_tokens=max_tokens, max_texts=max_texts, n_workers=n_workers)
    assert sorted(order.tolist()) == list(range(len(lengths)))
    assert bounds[0] == 0
    assert bounds[-1] == len(lengths)
    for texts in micro_batches(order, bounds):
        assert 1 <= len(texts) <= max_texts
        assert len(texts) == 1 or counts[texts].sum() <= max_tokens


@given(lengths=lengths_lists, max_tokens=st.integers(600, 2048))
def test_waste_is_bounded(lengths: list[int], max_tokens: int) -> None:
    """Neighbours would not fit together, so two of them hold more than the budget."""
    counts = np.array(lengths, dtype=np.int32)
    order, bounds = plan(counts, max_tokens=max_tokens, max_texts=256, n_workers=1)
    batches = micro_batches(order, bounds)
    budget = max_tokens
    if batches:
        total = int(counts.sum())
        budget = min(max_tokens, max(-(-total // -(-total // max_tokens)), 32))
    for first, second in itertools.pairwise(batches):
        assert len(first) == 256 or counts[first].sum() + counts[second[0]] > budget


def test_few_texts_are_shared_among_the_workers() -> None:
    order, bounds = plan(np.full(8, 20, dtype=np.int32), max_tokens=256, max_texts=256, n_workers=2)
    assert [len(texts) for texts in micro_batches(order, bounds)] == [4, 4]


def test_long_texts_come_first() -> None:
    order, _ = plan(np.array([3, 500, 20]), max_tokens=256, max_texts=256)
    assert order.tolist() == [1, 2, 0]


def test_texts_without_tokens() -> None:
    order, bounds = plan(np.zeros(3, dtype=np.int64), max_tokens=4, max_texts=2)
    assert order.tolist() == [0, 1, 2]
    assert bounds.tolist() == [0, 2, 3]


def test_nothing_to_plan() -> None:
    order, bounds = plan(np.array([], dtype=np.int32), max_tokens=256, max_texts=256)
    assert order.tolist() == []
    assert bounds.tolist() == [0]


@pytest.mark.parametrize("name", ["max_tokens", "max_texts", "n_workers"])
def test_a_limit_that_no_text_keeps(name: str) -> None:
    for value in (0, -1):
        limits = {"max_tokens": 256, "max_texts": 256, "n_workers": 1, name: value}
        with pytest.raises(ConfigurationError, match=f"{name} must be at least 1, not {value}"):
            plan(np.array([3, 500, 20]), **limits)
