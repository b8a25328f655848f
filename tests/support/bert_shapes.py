# SPDX-License-Identifier: Apache-2.0
"""BERT encoders of the shapes that published models have, with seeded random weights.

The reference maker (``data/make_bert_shapes_reference.py``) and the tests build the same files.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from support.tiny_model import shapes, write_tiny_bert

# Head sizes 16, 32, 64 and 128; the widths of MiniLM, of bge-base and of bge-large. The middle
# one's attention output and queries are of one size, as everywhere in BERT.
SHAPES = {
    "96x6": {"embedding_length": 96, "head_count": 6, "feed_forward_length": 352},
    "128x4": {"embedding_length": 128, "head_count": 4, "feed_forward_length": 512},
    "384x12": {"embedding_length": 384, "head_count": 12, "feed_forward_length": 1536},
    "768x12": {"embedding_length": 768, "head_count": 12, "feed_forward_length": 3072},
    "1024x8": {"embedding_length": 1024, "head_count": 8, "feed_forward_length": 2048},
}
FILE_TYPES = ("F32", "F16", "BF16", "Q8_0", "Q4_0")
# All types of one shape, the ends of the range of all others.
MODELS = [
    (shape, file_type)
    for shape in SHAPES
    for file_type in FILE_TYPES
    if shape == "384x12" or file_type in ("F32", "Q4_0")
]
LENGTHS = (1, 2, 17, 64)
N_TOKENS = 63


def write_bert(path: str | os.PathLike[str], shape: str, file_type: str) -> Path:
    """Write the model of a key of :data:`SHAPES`, two layers deep."""
    size = SHAPES[shape]
    size = size | {
        "head_count_kv": size["head_count"],
        "key_length": size["embedding_length"] // size["head_count"],
        "block_count": 2,
        "context_length": 64,
        "expert_count": 4,
    }
    random = np.random.Generator(np.random.PCG64(20261124))
    tensors = {}
    for name, dimensions in shapes("bert", size).items():
        values = random.standard_normal(dimensions[::-1], dtype=np.float32)
        if "norm" in name:
            values = np.float32(0.1) * values + np.float32(name.endswith("weight"))
        elif len(dimensions) == 2:
            # The spread that keeps products of the size of their factors, as training does.
            values *= np.float32(dimensions[0] ** -0.5 if name.startswith("blk") else 0.5)
        else:
            values *= np.float32(0.1)
        tensors[name] = values
    return write_tiny_bert(path, file_type=file_type, tensors=tensors, **size)


def tokens(length: int) -> np.ndarray:
    """Token ids of a text, the same in every run."""
    return np.random.Generator(np.random.PCG64(length)).integers(
        0, N_TOKENS, length, dtype=np.int32
    )
