# SPDX-License-Identifier: Apache-2.0
"""The objects that calls return if they return more than an array."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Generic

import numpy as np
from numpy.typing import NDArray

from embellama.errors import EmbellamaError

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    Vectors = TypeVar("Vectors", default=NDArray[Any])
else:
    from typing import TypeVar

    Vectors = TypeVar("Vectors")

__all__ = ["EmbeddingResult", "RerankResult"]


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class EmbeddingResult(Generic[Vectors]):
    """Vectors, with details about each text.

    Attributes
    ----------
    embeddings : numpy.ndarray, shape (N, D)
        One row per text, in input order. Of ``embed_multi`` and ``embed_batch_multi``: a list of
        arrays, one per text.
    token_counts : numpy.ndarray of int32, shape (N,)
        Tokens of each text, special ones included; 0 for a text that was refused before any
        computation.
    truncated : numpy.ndarray of bool, shape (N,)
        Which texts were cut.
    errors : Mapping of int to EmbellamaError
        Why a text has a row of NaN, by the index of the text; empty unless ``on_error="nan"``.

    Examples
    --------
    >>> import embellama
    >>> model = embellama.EmbeddingModel("all-MiniLM-L6-v2")
    >>> result = model.embed_batch(["a cat", ""], on_error="nan", details=True)
    >>> result.token_counts.tolist(), result.errors
    ([4, 0], {1: InvalidInputError('all-MiniLM-L6-v2: text 1 is empty: leave it out')})
    >>> len(result), result
    (2, <EmbeddingResult: 2 texts, 384 x float32, 4 tokens, 1 error>)
    """

    embeddings: Vectors
    token_counts: NDArray[np.int32]
    truncated: NDArray[np.bool_]
    errors: Mapping[int, EmbellamaError] = dataclasses.field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.token_counts)

    def __repr__(self) -> str:
        vectors: Any = self.embeddings
        parts = [_counted(len(self), "text")]
        if isinstance(vectors, list):
            parts.append(_counted(sum(map(len, vectors)), "vector"))
            vectors = vectors[0] if vectors else None
        if vectors is not None:
            parts.append(f"{vectors.shape[-1]} x {vectors.dtype}")
        parts.append(_counted(int(self.token_counts.sum()), "token"))
        if n_truncated := int(self.truncated.sum()):
            parts.append(f"{n_truncated} truncated")
        if self.errors:
            parts.append(_counted(len(self.errors), "error"))
        return f"<EmbeddingResult: {', '.join(parts)}>"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


@dataclasses.dataclass(frozen=True, repr=False)
class RerankResult:
    """A document and how well it answers the query.

    Attributes
    ----------
    index : int
        Position of the document in the call.
    score : float
        A larger score is better; ``EmbeddingModel.score_kind`` says what kind of score it is.
    document : str
        The text itself.
    token_count : int or None
        Tokens of the document with the query; None without ``details=True``.
    truncated : bool or None
        Whether the document was cut; None without ``details=True``.

    Examples
    --------
    >>> import math, embellama
    >>> best = embellama.RerankResult(index=2, score=3.0, document="Cats sleep all day.")
    >>> round(1 / (1 + math.exp(-best.score)), 3)  # of a logit, the probability
    0.953
    """

    index: int
    score: float
    document: str
    token_count: int | None = None
    truncated: bool | None = None

    def __repr__(self) -> str:
        known = {name: value for name, value in vars(self).items() if value is not None}
        return f"RerankResult({', '.join(f'{name}={value!r}' for name, value in known.items())})"
