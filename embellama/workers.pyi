# SPDX-License-Identifier: Apache-2.0
import enum
from typing import final

import numpy as np
from numpy.typing import NDArray

from embellama.core import Model, Vocabulary
from embellama.embedding.call import Call
from embellama.embedding.rows import Rows
from embellama.errors import EmbellamaError

class Failure(enum.IntEnum):
    NONE = 0
    NOT_FINITE = 1
    NOT_COMPUTED = 2

@final
class Workers:
    def __init__(
        self,
        model: Model,
        name: str,
        *,
        n_threads: int,
        micro_batch_tokens: int,
        n_sequences: int,
        ranks: bool = False,
        half_keys: bool = False,
        layer_norm_before_cut: bool = False,
    ) -> None: ...
    @property
    def model(self) -> Model: ...
    @property
    def name(self) -> str: ...
    @property
    def vocabulary(self) -> Vocabulary: ...
    def close(self) -> None: ...
    def stop(self) -> None: ...
    def tokenize(
        self,
        texts: tuple[str, ...],
        call: Call,
        *,
        add_special: bool = True,
        parse_special: bool = True,
        limit: int = 0,
        final_id: int = -1,
    ) -> tuple[
        NDArray[np.int32],
        NDArray[np.int64],
        NDArray[np.bool_],
        dict[int, tuple[type[EmbellamaError], str]],
    ]: ...
    @property
    def micro_batch_tokens(self) -> int: ...
    @micro_batch_tokens.setter
    def micro_batch_tokens(self, n_tokens: int) -> None: ...
    def embed(
        self,
        ids: NDArray[np.int32],
        offsets: NDArray[np.int64],
        order: NDArray[np.int32],
        bounds: NDArray[np.int32],
        rows: Rows,
        call: Call,
        *,
        pooling: str = "mean",
        norm: str = "l2",
        p: float = 2.0,
    ) -> tuple[NDArray[np.int8], Exception | None]: ...
    def embed_short(
        self,
        text: str,
        *,
        n_dims: int,
        longest: int,
        pooling: str = "mean",
        norm: str = "l2",
        p: float = 2.0,
        parse_special: bool = True,
        limit: int = 0,
        final_id: int = -1,
    ) -> NDArray[np.float32] | None: ...
