# SPDX-License-Identifier: Apache-2.0
"""Real weights for the tests: MiniLM through the catalog, in the types that are compared."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import embellama
from embellama import catalog

MINILM = "all-MiniLM-L6-v2"


@pytest.fixture(scope="session")
def minilm_path() -> Path:
    return catalog.resolve(MINILM, file_type="F16")


@pytest.fixture(scope="session")
def minilm_f32_path() -> Path:
    return catalog.resolve(MINILM, file_type="F32")


@pytest.fixture(scope="session", params=["F32", "F16", "Q8_0"])
def typed_minilm(request: pytest.FixtureRequest) -> Iterator[tuple[str, embellama.EmbeddingModel]]:
    with embellama.EmbeddingModel(catalog.resolve(MINILM, file_type=request.param)) as model:
        yield request.param, model


@pytest.fixture(scope="session")
def minilm(minilm_path: Path) -> Iterator[embellama.EmbeddingModel]:
    with embellama.EmbeddingModel(minilm_path) as model:
        yield model
