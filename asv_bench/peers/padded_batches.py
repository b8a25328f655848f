# SPDX-License-Identifier: Apache-2.0
"""Token ids in padded batches of texts of similar length, as sentence-transformers makes them.

sentence-transformers sorts by characters and calls the tokenizer once per batch. The peers get
batches sorted by tokens, after one call for all texts, because that wastes less.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


class Tokenizer:
    def __init__(self, checkpoint: Path) -> None:
        from tokenizers import Tokenizer as HuggingFaceTokenizer

        self.tokenizer = HuggingFaceTokenizer.from_file(str(checkpoint / "tokenizer.json"))
        self.tokenizer.enable_truncation(512)
        self.tokenizer.no_padding()

    def batches(
        self, texts: list[str], batch_size: int
    ) -> Iterator[tuple[list[int], NDArray[np.int64], NDArray[np.int64]]]:
        """Yield the indices of the texts of a batch, their ids and their attention mask."""
        ids = [encoding.ids for encoding in self.tokenizer.encode_batch_fast(texts)]
        order = sorted(range(len(texts)), key=lambda index: len(ids[index]), reverse=True)
        for start in range(0, len(order), batch_size):
            indices = order[start : start + batch_size]
            padded = np.zeros((len(indices), len(ids[indices[0]])), dtype=np.int64)
            mask = np.zeros_like(padded)
            for row, index in enumerate(indices):
                padded[row, : len(ids[index])] = ids[index]
                mask[row, : len(ids[index])] = 1
            yield indices, padded, mask
