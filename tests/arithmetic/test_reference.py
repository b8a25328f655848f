# SPDX-License-Identifier: Apache-2.0
"""Tokens and vectors against Hugging Face's own, made by the scripts in tests/data."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from support.folders import DATA

from embellama import EmbeddingModel, ModelConfig, catalog

TEXTS = {row["name"]: row["text"] for row in json.loads((DATA / "texts.json").read_text())}
TOKENS = json.loads((DATA / "minilm_tokens.json").read_text())
REFERENCE = np.load(DATA / "minilm_reference.npz")

# Least cosine of any text, and of the texts on average, by llama.cpp alone. F32 leaves room for
# the order of sums, F16 for weights and activations rounded by 2**-11, and for ARM, where some
# products are added in float16 (ggml_vec_dot_f16 in vec.cpp): 0.9999986 on average was measured.
# Weights in Q8_0 alone cost 0.0005; the rest is that llama.cpp rounds the activations to 8 bits
# too, most visibly where a text is little more than [UNK]. test_encoder.py has the same of
# embellama's own encoder.
COSINE = {"F32": (0.999999, 0.9999999), "F16": (0.99999, 0.999998), "Q8_0": (0.998, 0.999)}


@pytest.mark.parametrize("name", TEXTS)
def test_tokens_equal_hugging_face(minilm: EmbeddingModel, name: str) -> None:
    assert minilm.tokenize(TEXTS[name]).tolist() == TOKENS[name]


@pytest.mark.parametrize("file_type", COSINE)
def test_vectors_equal_sentence_transformers(file_type: str) -> None:
    names = REFERENCE["names"].tolist()
    path = catalog.resolve("all-MiniLM-L6-v2", file_type=file_type)
    with EmbeddingModel(ModelConfig(path, instruction_set="llama.cpp")) as model:
        vectors = model.embed_batch([TEXTS[name] for name in names])
    cosines = np.sum(vectors.astype(np.float64) * REFERENCE["vectors"], axis=1)
    worst = int(np.argmin(cosines))
    least, average = COSINE[file_type]
    assert cosines[worst] >= least, names[worst]
    assert cosines.mean() >= average


@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
def test_pooled_vectors_equal_transformers(minilm_f32_path: Path, pooling: str) -> None:
    names = REFERENCE["pooled_names"].tolist()
    config = ModelConfig(minilm_f32_path, pooling=pooling, normalization="none", accuracy="exact")
    with EmbeddingModel(config) as model:
        vectors = model.embed_batch([TEXTS[name] for name in names])
    # Values of size 1, summed over 384 to 1536 products in another order.
    np.testing.assert_allclose(vectors, REFERENCE[pooling], rtol=0, atol=2e-5)


@pytest.mark.parametrize("settings", [{"accuracy": "exact"}, {"instruction_set": "llama.cpp"}])
def test_float32_is_exact(minilm_f32_path: Path, settings: dict[str, str]) -> None:
    names = REFERENCE["names"].tolist()
    with EmbeddingModel(ModelConfig(minilm_f32_path, **settings)) as model:
        vectors = model.embed_batch([TEXTS[name] for name in names])
    # 2**-24 is 6e-8; the reference itself is within 2e-7 of a computation in float64.
    np.testing.assert_allclose(vectors, REFERENCE["vectors"], rtol=0, atol=2e-6)
