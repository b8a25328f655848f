# SPDX-License-Identifier: Apache-2.0
"""One text and many, by file type, length and threads, and their distance from the reference."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import embellama

from . import workloads

DATA = Path(__file__).parents[2] / "tests" / "data"


class OneText(workloads.Models):
    params = (workloads.FILE_TYPES, tuple(workloads.MIXES), workloads.THREADS)
    param_names = ("file_type", "length", "n_threads")
    # Long enough that one time slice of another process does not move the median.
    sample_time = 0.05

    def setup(self, paths: dict[str, str], file_type: str, length: str, n_threads: int) -> None:
        config = embellama.ModelConfig(paths[file_type], n_threads=n_threads)
        self.model = embellama.EmbeddingModel(config)
        self.text = workloads.texts(length)[0]
        self.model.embed(self.text)

    def time_embed(
        self, paths: dict[str, str], file_type: str, length: str, n_threads: int
    ) -> None:
        self.model.embed(self.text)

    def teardown(self, paths: dict[str, str], file_type: str, length: str, n_threads: int) -> None:
        self.model.unload()


class Batch(workloads.Models):
    """Seconds for the texts of a mix: `workloads.MIXES` says how many they are."""

    params = (workloads.FILE_TYPES, tuple(workloads.MIXES), workloads.THREADS)
    param_names = ("file_type", "mix", "n_threads")
    repeat = (3, 7, 4.0)
    number = 1
    warmup_time = 0

    def setup(self, paths: dict[str, str], file_type: str, mix: str, n_threads: int) -> None:
        config = embellama.ModelConfig(paths[file_type], n_threads=n_threads)
        self.model = embellama.EmbeddingModel(config)
        self.texts = workloads.texts(mix)
        self.model.embed_batch(self.texts)

    def time_embed_batch(
        self, paths: dict[str, str], file_type: str, mix: str, n_threads: int
    ) -> None:
        self.model.embed_batch(self.texts)

    def teardown(self, paths: dict[str, str], file_type: str, mix: str, n_threads: int) -> None:
        self.model.unload()


def unit_length(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    values = vectors.astype(np.float64)
    lengths: NDArray[np.float64] = np.linalg.norm(values, axis=1, keepdims=True)
    return values / lengths


class Accuracy(workloads.Models):
    """The distance of our vectors from those of sentence-transformers in float32, and our time.

    asv treats larger values as worse, so the distance is 1 - cosine.
    """

    params = workloads.FILE_TYPES
    param_names = ("file_type",)
    repeat = (3, 7, 4.0)
    number = 1
    warmup_time = 0

    def setup(self, paths: dict[str, str], file_type: str) -> None:
        self.model = embellama.EmbeddingModel(paths[file_type])
        reference = np.load(DATA / "minilm_reference.npz")
        records = json.loads((DATA / "texts.json").read_text(encoding="utf-8"))
        text_of = {record["name"]: record["text"] for record in records}
        self.texts = [text_of[name] for name in reference["names"].tolist()]
        self.reference = unit_length(reference["vectors"])
        self.model.embed_batch(self.texts)

    def distances(self) -> NDArray[np.float64]:
        # For unit vectors 1 - cosine is half the squared distance, which has a far smaller
        # rounding error.
        difference = unit_length(self.model.embed_batch(self.texts)) - self.reference
        distances: NDArray[np.float64] = (difference * difference).sum(axis=1) / 2
        return distances

    def track_largest_cosine_distance(self, paths: dict[str, str], file_type: str) -> float:
        return float(self.distances().max())

    def track_mean_cosine_distance(self, paths: dict[str, str], file_type: str) -> float:
        return float(self.distances().mean())

    track_largest_cosine_distance.unit = "1 - cosine"  # type: ignore[attr-defined]
    track_mean_cosine_distance.unit = "1 - cosine"  # type: ignore[attr-defined]

    def time_reference_texts(self, paths: dict[str, str], file_type: str) -> None:
        self.model.embed_batch(self.texts)

    def teardown(self, paths: dict[str, str], file_type: str) -> None:
        self.model.unload()
