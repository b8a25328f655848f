# SPDX-License-Identifier: Apache-2.0
"""Whether a model computes right on the machine it runs on."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np

from embellama.config import ModelConfig, NormalizationMode, PoolingStrategy
from embellama.core import Model
from embellama.errors import (
    ConfigurationError,
    EmbeddingGenerationError,
    ModelLoadError,
    ModelNotFoundError,
)
from embellama.file_info import ModelInfo
from embellama.files.checksum import has_recorded_sha256, record_path

__all__ = ["ENCODER_TOLERANCE", "tolerance", "verify"]

SENTENCE = "The quick brown fox jumps over the lazy dog."
# Several lengths and scripts, so that they meet in micro-batches of several shapes.
TEXTS = [
    SENTENCE,
    "a",
    "Wie hoch ist der Mont Blanc?",
    "\u6771\u4eac\u306f\u65e5\u672c\u306e\u9996\u90fd\u3067\u3059\u3002",
    "def add(a, b):\n    return a + b",
    "All happy families are alike; each unhappy family is unhappy in its own way. " * 8,
    *("one two three four five six seven eight nine ten " * n for n in range(1, 10)),
]

# How far from sentence-transformers' float32 a known vector may lie (1 - cosine), by the type of
# most weights.
TOLERANCE = {"F32": 1e-5, "F16": 1e-4, "BF16": 1e-3}
QUANTISED_TOLERANCE = 2e-2
# The encoder adds the products of a text in one order, whatever texts stand beside it and whichever
# thread adds them, so only the rounding of the cosine itself is left. llama.cpp's own kernels add
# in another order in another micro-batch. With float weights that is float noise; with quantised
# ones, whose activations are rounded to 8 bits, up to a step of those.
ENCODER_TOLERANCE = 1e-6

# The first values of sentence-transformers' float32 vector of SENTENCE, of unit length.
KNOWN = {
    "all-MiniLM-L6-v2": [0.043934, 0.058934, 0.048178, 0.077548, 0.026744, -0.037630],
}


def tolerance(file_type: str, instruction_set: str) -> float:
    """Return how far a text's vectors alone and in any batch may lie apart (1 - cosine).

    Parameters
    ----------
    file_type : str
        The type of most of the weights, such as ``"Q8_0"``.
    instruction_set : str
        What computes; ``"llama.cpp"`` for its own kernels.

    Returns
    -------
    float

    Examples
    --------
    >>> from embellama.embedding.verification import tolerance
    >>> tolerance("Q8_0", "llama.cpp"), tolerance("Q8_0", "avx2")
    (0.02, 1e-06)
    """
    if instruction_set != "llama.cpp":
        return ENCODER_TOLERANCE
    return TOLERANCE.get(file_type, QUANTISED_TOLERANCE)


class Verifiable(Protocol):
    """What the checks read of an ``EmbeddingModel``, which calls them."""

    @property
    def name(self) -> str: ...
    @property
    def path(self) -> Path: ...
    @property
    def config(self) -> ModelConfig: ...
    @property
    def info(self) -> ModelInfo: ...
    @property
    def pooling(self) -> PoolingStrategy: ...
    @property
    def core_model(self) -> Model: ...
    @property
    def max_sequence_length(self) -> int: ...
    def count_tokens(self, text: str) -> int: ...
    def embed_batch(self, texts: list[str]) -> Any: ...


def verify(model: Verifiable) -> None:
    """Raise unless a model's file is what it was, and it computes as it should.

    Parameters
    ----------
    model : Verifiable
        An :class:`embellama.EmbeddingModel`.

    Raises
    ------
    EmbeddingGenerationError, ModelLoadError, ModelNotFoundError, ConfigurationError
        As :meth:`embellama.EmbeddingModel.verify`.
    """
    if model.pooling in (PoolingStrategy.RANK, PoolingStrategy.NONE):
        raise ConfigurationError(
            f"{model.name}: verify() compares the vectors of texts, which a model with pooling "
            f"{model.pooling.name} has not"
        )
    _check_file(model)
    file_type = model.info.file_type
    allowed = tolerance(file_type, model.core_model.instruction_set)
    texts = [text for text in TEXTS if model.count_tokens(text) <= model.max_sequence_length]
    _check_batches(model, texts or ["a"], allowed)
    entry = model.info.entry
    is_plain = (
        model.config.normalization is NormalizationMode.L2
        and model.pooling is model.info.pooling
        and isinstance(model.config.truncate, bool)
        and SENTENCE in texts
    )
    if entry is not None and entry.name in KNOWN and is_plain:
        _check_known_vector(model, entry.name, file_type)


def _check_file(model: Verifiable) -> None:
    """Raise if the file is not what the record beside it says."""
    path = model.path
    try:
        changed = record_path(path).is_file() and not has_recorded_sha256(path)
    except FileNotFoundError:
        raise ModelNotFoundError(f"{path}: no such file") from None
    except OSError as error:
        raise ModelLoadError(f"{path}: the file cannot be read: {error}") from error
    if changed:
        raise ModelLoadError(
            f"{path}: has changed since it was made; delete it, then obtain it again"
        )


def _check_batches(model: Verifiable, texts: list[str], allowed: float) -> None:
    """Raise unless texts have the same vectors together and alone."""
    together = model.embed_batch(texts).astype(np.float64)
    alone = np.concatenate([model.embed_batch([text]) for text in texts]).astype(np.float64)
    lengths = np.linalg.norm(together, axis=1) * np.linalg.norm(alone, axis=1)
    distances = 1 - np.einsum("ij,ij->i", together, alone) / lengths
    worst = int(np.argmax(distances))
    if not distances[worst] <= allowed:
        raise EmbeddingGenerationError(
            f"{model.name}: {texts[worst][:40]!r} has another vector in a batch than alone (1 - "
            f"cosine is {distances[worst]:.1e}, {allowed:.0e} is allowed): report this, with what "
            "embellama.backend_info() says"
        )


def _check_known_vector(model: Verifiable, known: str, file_type: str) -> None:
    """Raise unless the model gives the vector that the model `known` is known for."""
    expected = np.array(KNOWN[known])
    found = model.embed_batch([SENTENCE])[0, : len(expected)]
    difference = float(np.abs(found - expected).max())
    allowed = TOLERANCE.get(file_type, QUANTISED_TOLERANCE) ** 0.5
    if not difference <= allowed:
        raise EmbeddingGenerationError(
            f"{model.name}: the vector of {SENTENCE!r} differs from {known}'s known one by "
            f"{difference:.1e} ({allowed:.0e} is allowed): the file is damaged or another model"
        )
