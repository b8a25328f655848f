# SPDX-License-Identifier: Apache-2.0
"""Texts to token ids: all workers on many texts, and one text the whole way through the API."""

from __future__ import annotations

import embellama
from embellama.core import Model
from embellama.workers import Workers

from . import workloads


class Tokenize(workloads.Models):
    params = (tuple(workloads.MIXES), workloads.THREADS)
    param_names = ("mix", "n_threads")

    def setup(self, paths: dict[str, str], mix: str, n_threads: int) -> None:
        self.workers = Workers(
            Model(paths["F16"]), n_threads=n_threads, micro_batch_tokens=256, n_sequences=256
        )
        # About the same number of characters for every mix.
        self.texts = tuple(workloads.texts(mix) * 8)
        self.workers.tokenize(self.texts)

    def time_tokenize(self, paths: dict[str, str], mix: str, n_threads: int) -> None:
        self.workers.tokenize(self.texts)

    def teardown(self, paths: dict[str, str], mix: str, n_threads: int) -> None:
        self.workers.close()


class TokenizeOne(workloads.Models):
    params = tuple(workloads.MIXES)
    param_names = ("length",)

    def setup(self, paths: dict[str, str], length: str) -> None:
        self.model = embellama.EmbeddingModel(paths["F16"])
        self.text = workloads.texts(length)[0]

    def time_tokenize(self, paths: dict[str, str], length: str) -> None:
        self.model.tokenize(self.text)

    def teardown(self, paths: dict[str, str], length: str) -> None:
        self.model.unload()
