# SPDX-License-Identifier: Apache-2.0
from enum import IntFlag
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

class Pooling(IntFlag):
    POOL_NONE = 0
    POOL_MEAN = 1
    POOL_CLS = 2
    POOL_LAST = 3
    POOL_MAX = 4
    POOL_MEAN_SQRT = 5

class Norm(IntFlag):
    NORM_NONE = 0
    NORM_MAX_ABS = 1
    NORM_L2 = 2
    NORM_P = 3

class RowType(IntFlag):
    ROW_FLOAT32 = 0
    ROW_FLOAT16 = 1
    ROW_INT8 = 2
    ROW_UINT8 = 3
    ROW_BINARY = 4
    ROW_UBINARY = 5

POOLINGS: dict[str, int]
NORMS: dict[str, int]
ROW_TYPES: dict[str, int]

def pool_rows(rows: ArrayLike, pooling: str) -> NDArray[np.float32]: ...
def normalize_rows(
    rows: ArrayLike, norm: str | float = "l2", *, out: NDArray[np.float32] | None = None
) -> NDArray[np.float32]: ...
def quantize_rows(
    rows: NDArray[np.float32],
    dtype: str,
    out: NDArray[Any],
    levels: NDArray[np.float32] | None = None,
) -> None: ...
