# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime, in float32 and with its own dynamic quantisation to int8."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from peers import PADDED_BATCH_SIZES, Settings
from peers import Peer as Base
from peers.padded_batches import Tokenizer
from peers.torch import pooled_onnx

REQUIREMENTS = ("onnxruntime", "onnx", "tokenizers")
VARIANTS = ("fp32", "int8")
ISA_VARIABLES: dict[str, dict[str, str]] = {}


def model_path(settings: Settings, variant: str) -> Path:
    if variant == "fp32":
        return pooled_onnx(settings)
    return settings.exported / "pooled-int8.onnx"


class Peer(Base):
    batch_sizes = PADDED_BATCH_SIZES

    @classmethod
    def prepare(cls, settings: Settings, variant: str) -> None:
        path = model_path(settings, variant)
        if path.exists():
            return
        from onnxruntime.quantization import QuantType, quantize_dynamic

        unfinished = path.with_suffix(".unfinished")
        # One scale per channel: the default, one per matrix, has a mean cosine of 0.957 instead of
        # 0.992.
        quantize_dynamic(
            pooled_onnx(settings), unfinished, weight_type=QuantType.QInt8, per_channel=True
        )
        unfinished.rename(path)

    def __init__(self, settings: Settings, variant: str) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = settings.n_threads
        self.session = onnxruntime.InferenceSession(
            model_path(settings, variant), options, providers=["CPUExecutionProvider"]
        )
        self.tokenizer = Tokenizer(settings.checkpoint)

    def embed(self, texts: list[str], batch_size: int) -> NDArray[np.float32]:
        vectors = np.empty((len(texts), self.session.get_outputs()[0].shape[1]), dtype=np.float32)
        for indices, ids, mask in self.tokenizer.batches(texts, batch_size):
            inputs = {
                "input_ids": ids,
                "attention_mask": mask,
                "token_type_ids": np.zeros_like(ids),
            }
            vectors[indices] = self.session.run(["vectors"], inputs)[0]
        return vectors
