# SPDX-License-Identifier: Apache-2.0
"""Token ids as they come from a caller, checked before anything is computed."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from embellama.errors import InvalidInputError

__all__ = ["token_ids"]


def token_ids(ids: ArrayLike, model: str, n_vocabulary: int) -> NDArray[np.int32]:
    """Return the token ids of one text, if the vocabulary has them all.

    Raises
    ------
    InvalidInputError
        If they are not integers of shape (T,), or the vocabulary lacks one.
    """
    try:
        array = np.asarray(ids)
    except ValueError as error:
        raise InvalidInputError(f"{model}: ids must be integers: {error}") from None
    if array.ndim != 1 or (array.dtype.kind not in "iu" and array.size):
        raise InvalidInputError(
            f"{model}: ids must be integers of shape (T,), not {array.dtype} {array.shape}"
        )
    if array.size and (array.min() < 0 or array.max() >= n_vocabulary):
        raise InvalidInputError(f"{model}: token ids go from 0 to {n_vocabulary - 1}")
    return np.ascontiguousarray(array, dtype=np.int32)
