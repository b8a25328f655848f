# SPDX-License-Identifier: Apache-2.0
from enum import IntFlag

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

POOLINGS: dict[str, int]
NORMS: dict[str, int]

def pool_rows(rows: ArrayLike, pooling: str) -> NDArray[np.float32]: ...
def normalize_rows(rows: ArrayLike, norm: str | float = "l2") -> NDArray[np.float32]: ...
