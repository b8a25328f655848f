# SPDX-License-Identifier: Apache-2.0
"""OpenVINO on the ONNX export: float32, the bf16 precision hint, and NNCF's int8."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from peers import PADDED_BATCH_SIZES, Settings, UnavailableError
from peers import Peer as Base
from peers.padded_batches import Tokenizer
from peers.torch import pooled_onnx

REQUIREMENTS = ("openvino", "nncf", "tokenizers")
VARIANTS = ("fp32", "bf16", "int8")
ISA_VARIABLES = {
    "avx2": {"ONEDNN_MAX_CPU_ISA": "AVX2"},
    "avx512": {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_FP16"},
}


def int8_model(settings: Settings) -> Path:
    return settings.exported / "openvino-int8.xml"


def inputs(ids: NDArray[np.int64], mask: NDArray[np.int64]) -> dict[str, NDArray[np.int64]]:
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}


def quantize(settings: Settings) -> None:
    """Quantise after training; texts of the README calibrate the ranges of the activations."""
    import nncf
    import openvino

    texts = (settings.checkpoint / "README.md").read_text(encoding="utf-8").splitlines()
    batches = Tokenizer(settings.checkpoint).batches([text for text in texts if text], 1)
    samples = [inputs(ids, mask) for _, ids, mask in batches]
    quantized = nncf.quantize(
        openvino.Core().read_model(pooled_onnx(settings)),
        nncf.Dataset(samples),
        model_type=nncf.ModelType.TRANSFORMER,
        subset_size=len(samples),
    )
    openvino.save_model(quantized, int8_model(settings))


class Peer(Base):
    batch_sizes = PADDED_BATCH_SIZES

    @classmethod
    def prepare(cls, settings: Settings, variant: str) -> None:
        import openvino

        # These are the capabilities of the processor, whatever ONEDNN_MAX_CPU_ISA says.
        capabilities = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if variant == "bf16" and (settings.isa == "avx2" or "BF16" not in capabilities):
            raise UnavailableError("OpenVINO has bf16 only on processors with AVX-512")
        if variant == "int8" and not int8_model(settings).exists():
            quantize(settings)

    def __init__(self, settings: Settings, variant: str) -> None:
        import openvino

        self.openvino = openvino
        self.tokenizer = Tokenizer(settings.checkpoint)
        core = openvino.Core()
        path = int8_model(settings) if variant == "int8" else pooled_onnx(settings)
        options: dict[str, Any] = {"INFERENCE_NUM_THREADS": settings.n_threads}
        # Without a hint OpenVINO uses bf16 where the processor has it, which is right for the
        # parts of the int8 model that are not quantised.
        if variant == "bf16":
            options["INFERENCE_PRECISION_HINT"] = "bf16"
        elif variant == "fp32" or settings.isa == "avx2":
            options["INFERENCE_PRECISION_HINT"] = "f32"
        # All threads compute a single text together. Batches run in parallel, one stream per
        # thread.
        self.one = core.compile_model(path, "CPU", options | {"PERFORMANCE_HINT": "LATENCY"})
        self.streams = core.compile_model(
            path, "CPU", options | {"NUM_STREAMS": settings.n_threads}
        )
        self.n_dims = self.one.output(0).partial_shape[1].get_length()

    def embed(self, texts: list[str], batch_size: int) -> NDArray[np.float32]:
        if len(texts) == 1:
            (_, ids, mask) = next(self.tokenizer.batches(texts, 1))
            return self.one(inputs(ids, mask))[0]
        vectors = np.empty((len(texts), self.n_dims), dtype=np.float32)

        def store(request: Any, indices: list[int]) -> None:
            vectors[indices] = request.get_output_tensor().data

        queue = self.openvino.AsyncInferQueue(self.streams)
        queue.set_callback(store)
        for indices, ids, mask in self.tokenizer.batches(texts, batch_size):
            queue.start_async(inputs(ids, mask), indices)
        queue.wait_all()
        return vectors
