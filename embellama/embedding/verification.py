# SPDX-License-Identifier: Apache-2.0
"""Whether a model computes right on the machine it runs on."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from embellama.errors import EmbeddingGenerationError

__all__ = ["SENTENCE", "TEXTS", "check_batches", "check_known_vector", "tolerance"]

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
# The encoder adds the products of a text in one order, whatever stands beside it and whichever
# thread adds them: what is left is the rounding of the cosine itself. In llama.cpp's own kernels
# other micro-batches mean other orders of sums: float noise for the float types, and up to a step
# of the 8 bits that it rounds activations to with quantised weights.
ENCODER_TOLERANCE = 1e-6

# The first values of sentence-transformers' float32 vector of SENTENCE, of unit length.
KNOWN = {
    "all-MiniLM-L6-v2": [0.043934, 0.058934, 0.048178, 0.077548, 0.026744, -0.037630],
}


def tolerance(file_type: str, instruction_set: str) -> float:
    """Return how far the same text may lie apart (1 - cosine) alone and in any batch.

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


def check_batches(
    name: str,
    texts: list[str],
    allowed: float,
    embed_batch: Callable[[list[str]], NDArray[np.float32]],
) -> None:
    """Raise EmbeddingGenerationError unless texts have the same vectors together and alone."""
    together = embed_batch(texts).astype(np.float64)
    alone = np.concatenate([embed_batch([text]) for text in texts]).astype(np.float64)
    lengths = np.linalg.norm(together, axis=1) * np.linalg.norm(alone, axis=1)
    distances = 1 - np.einsum("ij,ij->i", together, alone) / lengths
    worst = int(np.argmax(distances))
    if not distances[worst] <= allowed:
        raise EmbeddingGenerationError(
            f"{name}: {texts[worst][:40]!r} has another vector in a batch than alone (1 - cosine "
            f"is {distances[worst]:.1e}, {allowed:.0e} is allowed): report this, with what "
            "embellama.backend_info() says"
        )


def check_known_vector(
    name: str, known: str, file_type: str, embed_batch: Callable[[list[str]], NDArray[np.float32]]
) -> None:
    """Raise EmbeddingGenerationError unless the model `known` gives the vector it is known for."""
    expected = np.array(KNOWN[known])
    found = embed_batch([SENTENCE])[0, : len(expected)]
    difference = float(np.abs(found - expected).max())
    allowed = TOLERANCE.get(file_type, QUANTISED_TOLERANCE) ** 0.5
    if not difference <= allowed:
        raise EmbeddingGenerationError(
            f"{name}: the vector of {SENTENCE!r} differs from {known}'s known one by "
            f"{difference:.1e} ({allowed:.0e} is allowed): the file is damaged or another model"
        )
