# SPDX-License-Identifier: Apache-2.0
"""From a file to the first vector: the time, and the peak memory of the process."""

from __future__ import annotations

import embellama

from . import workloads


class Load(workloads.Models):
    params = workloads.FILE_TYPES
    param_names = ("file_type",)

    def setup(self, paths: dict[str, str], file_type: str) -> None:
        self.path = paths[file_type]
        self.texts = workloads.texts("mixed")

    def time_load(self, paths: dict[str, str], file_type: str) -> None:
        embellama.EmbeddingModel(self.path).unload()

    def time_first_vector(self, paths: dict[str, str], file_type: str) -> None:
        with embellama.EmbeddingModel(self.path) as model:
            model.embed("What is the capital of France?")

    def peakmem_first_vector(self, paths: dict[str, str], file_type: str) -> None:
        self.time_first_vector(paths, file_type)

    def peakmem_embed_batch(self, paths: dict[str, str], file_type: str) -> None:
        with embellama.EmbeddingModel(self.path) as model:
            model.embed_batch(self.texts)


def peakmem_import() -> None:
    """The memory of the interpreter and the imports, which the figures above include."""
