# SPDX-License-Identifier: Apache-2.0
"""What a vector depends on beside its text: what a stopped run compares before it goes on."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from embellama.files.checksum import known_sha256
from embellama.model import EmbeddingModel

__all__ = ["cut_at_tokens", "vector_settings"]


def vector_settings(model: EmbeddingModel, *, prompt: str, n_dimensions: int) -> dict[str, Any]:
    """Return everything that a vector depends on, except its text and where the text is cut."""
    config = model.config
    return {
        "embellama_version": version("embellama"),
        "model": known_sha256(model.path),
        "pooling": model.pooling.value,
        "normalize": str(config.normalization),
        "accuracy": config.accuracy.value,
        "parse_special": config.parse_special,
        "keys_in_float16": config.keys_in_float16,
        "layer_norm_before_cut": model.info.layer_norm_before_cut,
        "prompt": prompt,
        "dimensions": n_dimensions,
    }


def cut_at_tokens(model: EmbeddingModel) -> int | None:
    """Return at how many tokens the model cuts a text; None if it refuses one that is too long."""
    config = model.config
    if config.truncate is False:
        return None
    if config.truncate is True:
        return config.n_ctx or model.info.max_seq_length
    return min(config.truncate, model.max_sequence_length)
