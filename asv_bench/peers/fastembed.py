# SPDX-License-Identifier: Apache-2.0
"""fastembed: ONNX Runtime with a tokenizer, through its own API and with the same weights."""

from __future__ import annotations

import json
import shutil

import numpy as np
from numpy.typing import NDArray

from peers import PADDED_BATCH_SIZES, Settings
from peers import Peer as Base
from peers.torch import token_onnx

REQUIREMENTS = ("fastembed", "onnxruntime")
VARIANTS = ("fp32",)
ISA_VARIABLES: dict[str, dict[str, str]] = {}


class Peer(Base):
    batch_sizes = PADDED_BATCH_SIZES

    @classmethod
    def prepare(cls, settings: Settings, variant: str) -> None:
        folder = token_onnx(settings).parent
        for file in settings.checkpoint.glob("*.json"):
            shutil.copyfile(file, folder / file.name)
        # fastembed cuts texts at this file's max_length, which is 128. No other peer cuts there.
        path = folder / "tokenizer_config.json"
        config = json.loads(path.read_text(encoding="utf-8"))
        config["max_length"] = 512
        path.write_text(json.dumps(config), encoding="utf-8")

    def __init__(self, settings: Settings, variant: str) -> None:
        from fastembed import TextEmbedding

        self.model = TextEmbedding(
            "sentence-transformers/all-MiniLM-L6-v2",
            threads=settings.n_threads,
            specific_model_path=str(token_onnx(settings).parent),
        )

    def embed(self, texts: list[str], batch_size: int) -> NDArray[np.float32]:
        return np.stack(list(self.model.embed(texts, batch_size=batch_size)))
