# SPDX-License-Identifier: Apache-2.0
"""Texts to token ids: the vocabulary alone, and one text through the whole API."""

from __future__ import annotations

import embellama
from embellama.core import Model, Vocabulary

from . import workloads


class Tokenize(workloads.Models):
    """The texts of a mix one after the other, on one thread."""

    params = tuple(workloads.MIXES)
    param_names = ("mix",)

    def setup(self, paths: dict[str, str], mix: str) -> None:
        self.vocabulary = Vocabulary(Model(paths["F16"]))
        self.texts = workloads.texts(mix)

    def time_tokenize(self, paths: dict[str, str], mix: str) -> None:
        for text in self.texts:
            self.vocabulary.tokenize(text)


class TokenizeOne(workloads.Models):
    """One text, handed to a worker and back."""

    params = tuple(workloads.MIXES)
    param_names = ("length",)

    def setup(self, paths: dict[str, str], length: str) -> None:
        self.model = embellama.EmbeddingModel(paths["F16"])
        self.text = workloads.texts(length)[0]

    def time_tokenize(self, paths: dict[str, str], length: str) -> None:
        self.model.tokenize(self.text)

    def teardown(self, paths: dict[str, str], length: str) -> None:
        self.model.unload()
