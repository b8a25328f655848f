# SPDX-License-Identifier: Apache-2.0
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from embellama.core import Context, Model

class Texts:
    def __init__(self, texts: Iterable[str]) -> None: ...

def embed(model: Model, context: Context, texts: Iterable[str]) -> NDArray[np.float32]: ...
def embed_on_threads(model: Model, texts: Iterable[str], n_threads: int) -> NDArray[np.float32]: ...
def nearest(
    corpus: NDArray[np.float32], queries: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]: ...
def main(model: Model, corpus: Sequence[str], queries: Sequence[str]) -> None: ...
