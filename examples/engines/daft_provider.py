# SPDX-License-Identifier: Apache-2.0
"""Daft: its function embed_text, computed by embellama.

``daft_provider.py SOURCE OUTPUT [MODEL]`` reads a folder of Parquet and writes one with a column
``embedding``, of Daft's own type of vectors.
"""

from __future__ import annotations

import dataclasses
import sys
from typing import Any

import daft
from daft import DataType
from daft.ai.protocols import TextEmbedder, TextEmbedderDescriptor
from daft.ai.provider import Provider
from daft.ai.typing import EmbeddingDimensions, UDFOptions
from daft.functions import embed_text

from embellama import EmbeddingModel, model_info
from embellama.arrow import embed_texts


class EmbellamaProvider(Provider):  # type: ignore[misc]
    """What ``embed_text(..., provider=EmbellamaProvider())`` asks for an embedder."""

    @property
    def name(self) -> str:
        """The name under which a session keeps it."""
        return "embellama"

    def get_text_embedder(
        self, model: str | None = None, dimensions: int | None = None, **options: Any
    ) -> TextEmbedderDescriptor:
        """Return what Daft sends to its workers, which load the model there."""
        return EmbedderDescriptor(model or "all-MiniLM-L6-v2", dimensions, options)


@dataclasses.dataclass
class EmbedderDescriptor(TextEmbedderDescriptor):  # type: ignore[misc]
    """A model that is not loaded yet."""

    model: str
    dimensions: int | None
    options: dict[str, Any]

    def get_provider(self) -> str:
        """Return the name of the provider."""
        return "embellama"

    def get_model(self) -> str:
        """Return the name of the model."""
        return self.model

    def get_options(self) -> dict[str, Any]:
        """Return the options of embed_text."""
        return self.options

    def get_dimensions(self) -> EmbeddingDimensions:
        """Return the length and type of a vector, from the header of the model's file."""
        size = self.dimensions or model_info(self.model).embedding_length
        return EmbeddingDimensions(size, DataType.float32())

    def get_udf_options(self) -> UDFOptions:
        """One model a process: it uses all cores. Daft's batches of 64 rows would starve it."""
        return UDFOptions(concurrency=1, batch_size=self.options.get("batch_size", 8192))

    def instantiate(self) -> TextEmbedder:
        """Load the model."""
        return Embedder(self.model, self.dimensions)


class Embedder(TextEmbedder):  # type: ignore[misc]
    """A loaded model."""

    def __init__(self, model: str, dimensions: int | None) -> None:
        self._model = EmbeddingModel(model)
        self._dimensions = dimensions

    def embed_text(self, text: list[str]) -> list[Any]:
        """Return a vector for each text; a text that is missing or bad has one of NaN."""
        return list(embed_texts(self._model, text, truncate_dim=self._dimensions).embeddings)


def main(source: str, output: str, model: str = "all-MiniLM-L6-v2") -> None:
    """Write the rows of a source with their vectors."""
    frame = daft.read_parquet(source)
    vectors = embed_text(frame["text"], provider=EmbellamaProvider(), model=model)
    frame.with_column("embedding", vectors).write_parquet(output)


if __name__ == "__main__":
    main(*sys.argv[1:])
