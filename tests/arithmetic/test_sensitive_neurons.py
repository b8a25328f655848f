# SPDX-License-Identifier: Apache-2.0
"""Texts that products of bfloat16 would falsify are computed again in float32, and only these."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import gguf
import numpy as np
import pytest
from numpy.typing import NDArray
from support.folders import DATA

import embellama
from embellama import EmbeddingModel, ModelConfig, core

TEXTS = [row["text"] for row in json.loads((DATA / "texts.json").read_text()) if row["text"]][:120]
LAYER, NEURON = 3, 7
BFLOAT16 = [
    name for name in embellama.backend_info()["instruction_sets"] if "bf16" in name or name == "amx"
]

pytestmark = pytest.mark.skipif(not BFLOAT16, reason="no instruction set here multiplies bfloat16")


def write_sensitive(source: Path, path: Path) -> None:
    """Write MiniLM with a neuron whose output is as large as a row, and which few rows reach."""
    shutil.copyfile(source, path)
    tensors = {tensor.name: tensor.data for tensor in gguf.GGUFReader(path, "r+").tensors}
    scale = tensors[f"blk.{LAYER}.attn_output_norm.weight"]
    direction = np.random.default_rng(1).normal(size=scale.shape).astype(np.float32)
    # The neuron's input has about this standard deviation, and seldom is above 0.
    deviation = 24.0
    tensors[f"blk.{LAYER}.ffn_up.weight"][NEURON] = (
        deviation * direction / np.linalg.norm(direction * scale)
    )
    tensors[f"blk.{LAYER}.ffn_up.bias"][NEURON] = -2.5 * deviation
    down = tensors[f"blk.{LAYER}.ffn_down.weight"]
    added = np.random.default_rng(2).normal(size=down.shape[0])
    down[:, NEURON] = added * 2 * np.linalg.norm(scale) / np.linalg.norm(added)


@pytest.fixture(scope="module")
def path(minilm_f32_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("sensitive") / "model.gguf"
    write_sensitive(minilm_f32_path, path)
    yield path
    path.unlink()


@pytest.fixture(scope="module")
def exact(path: Path) -> NDArray[np.float32]:
    with EmbeddingModel(ModelConfig(path, accuracy="exact")) as model:
        return model.embed_batch(TEXTS)


@pytest.mark.parametrize("instruction_set", BFLOAT16)
def test_only_texts_in_doubt_are_exact(
    path: Path, exact: NDArray[np.float32], instruction_set: str
) -> None:
    with EmbeddingModel(ModelConfig(path, instruction_set=instruction_set)) as model:
        fast = model.embed_batch(TEXTS)
        # Without a second computation, the least is 0.9993.
        assert (fast * exact).sum(axis=1).min() >= 0.9999
        in_doubt = (fast == exact).all(axis=1)
        assert 0 < in_doubt.sum() < len(TEXTS) / 4
        some = np.flatnonzero(in_doubt)[:3].tolist() + np.flatnonzero(~in_doubt)[:3].tolist()
        for index in some:
            assert (model.embed(TEXTS[index]) == fast[index]).all()
            ids = model.tokenize(TEXTS[index])
            assert (model.embed_tokens(ids) == fast[index]).all()
        alone = core.Context(
            core.Model(str(path), architecture="bert", instruction_set=instruction_set)
        )
        rows = [alone.token_vectors(model.tokenize(TEXTS[index])) for index in some]
        token_vectors = [model.embed_multi(TEXTS[index]) for index in some]
    with EmbeddingModel(ModelConfig(path, accuracy="exact")) as model:
        exact_vectors = [model.embed_multi(TEXTS[index]) for index in some]
    for place, index in enumerate(some):
        assert (token_vectors[place] == exact_vectors[place]).all() == in_doubt[index]
        normalized = rows[place] / np.linalg.norm(rows[place], axis=1, keepdims=True)
        assert np.abs(normalized - token_vectors[place]).max() < 1e-6


def test_scores_of_pairs_in_doubt_are_exact(reranker_path: Path, tmp_path: Path) -> None:
    path = tmp_path / "reranker.gguf"
    write_sensitive(reranker_path, path)

    def scores(accuracy: str) -> NDArray[np.float64]:
        with EmbeddingModel(ModelConfig(path, accuracy=accuracy)) as model:
            ranks = model.rerank("a text about food", TEXTS)
        return np.array([rank.score for rank in sorted(ranks, key=lambda rank: rank.index)])

    fast, exact = scores("fast"), scores("exact")
    in_doubt = fast == exact
    assert 0 < in_doubt.sum() < len(TEXTS) / 2
    # The scores span some units.
    assert np.abs(fast - exact).max() < 0.1
