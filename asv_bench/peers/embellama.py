# SPDX-License-Identifier: Apache-2.0
"""The embellama that is installed in the environment of compare_peers.py."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from peers import Peer as Base
from peers import Settings

# embellama is installed already.
REQUIREMENTS = ("embellama",)
VARIANTS = ("F16", "F32", "F32-exact", "Q8_0")
# ModelConfig's instruction_set sets the level.
ISA_VARIABLES: dict[str, dict[str, str]] = {"avx2": {}, "avx512": {}}


class Peer(Base):
    def __init__(self, settings: Settings, variant: str) -> None:
        import embellama

        file_type, _, exact = variant.partition("-")
        instruction_set = settings.isa
        if instruction_set is not None and not exact:
            # The fastest set comes first, and the names of a level's sets begin with the level.
            names = embellama.backend_info()["instruction_sets"]
            instruction_set = next(name for name in names if name.startswith(instruction_set))
        config = embellama.ModelConfig(
            settings.gguf[file_type],
            n_threads=settings.n_threads,
            accuracy=exact or "fast",
            instruction_set=instruction_set,
        )
        self.model = embellama.EmbeddingModel(config)

    def embed(self, texts: list[str], batch_size: int) -> NDArray[np.float32]:
        if len(texts) == 1:
            return self.model.embed(texts[0])[np.newaxis]
        return self.model.embed_batch(texts)
