# SPDX-License-Identifier: Apache-2.0
"""llama-cpp-python as released, with its own build of llama.cpp and its own ``embed``."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from peers import Peer as Base
from peers import Settings

REQUIREMENTS = ("llama-cpp-python",)
VARIANTS = ("F16",)
ISA_VARIABLES: dict[str, dict[str, str]] = {}


class Peer(Base):
    def __init__(self, settings: Settings, variant: str) -> None:
        from llama_cpp import Llama

        self.model = Llama(
            str(settings.gguf[variant]),
            embedding=True,
            n_threads=settings.n_threads,
            n_threads_batch=settings.n_threads,
            verbose=False,
        )

    def embed(self, texts: list[str], batch_size: int) -> NDArray[np.float32]:
        return np.array(self.model.embed(texts, normalize=True), dtype=np.float32)
