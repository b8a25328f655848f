# SPDX-License-Identifier: Apache-2.0
"""From the options of a command to a model's settings, prompts and dimensions."""

from __future__ import annotations

from typing import Any, Literal

from embellama import catalog
from embellama.config import ModelConfig
from embellama.embedding.prompts import prompt_for
from embellama.errors import DimensionMismatchError
from embellama.model import EmbeddingModel

__all__ = ["configuration", "kept_dimensions", "prompt_of", "prompted"]


def configuration(
    model: str, *, file_type: str | None, quiet: bool, **settings: Any
) -> ModelConfig:
    """The settings of the model that the command was given, obtained if it is not here."""
    return ModelConfig(catalog.resolve(model, file_type=file_type, progress=not quiet), **settings)


def prompt_of(embedding_model: EmbeddingModel, kind: Literal["query", "document"]) -> str:
    """The model's prompt for queries or documents; empty if it has none."""
    return prompt_for(kind, embedding_model.config, embedding_model.info)


def prompted(prompt: str, text: str) -> str:
    """Put the prompt before a text. A text of white space is left, so that it is refused."""
    return prompt + text if text.strip() else text


def kept_dimensions(embedding_model: EmbeddingModel, truncate_dim: int | None) -> int:
    """How many dimensions of the model's vectors are kept.

    Raises
    ------
    DimensionMismatchError
        If the model has fewer than are to be kept.
    """
    n_dimensions = embedding_model.embedding_dimensions
    if truncate_dim is not None and truncate_dim > n_dimensions:
        raise DimensionMismatchError(
            f"{embedding_model.name} has {n_dimensions} dimensions: --truncate-dim can't be "
            f"{truncate_dim}"
        )
    return truncate_dim or n_dimensions
