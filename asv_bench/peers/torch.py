# SPDX-License-Identifier: Apache-2.0
"""transformers' BertModel in PyTorch, as sentence-transformers runs it.

Its float32 vectors, one text at a time, are the reference for every peer, and it writes the ONNX
files that other peers read.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from peers import PADDED_BATCH_SIZES, Settings, UnavailableError
from peers import Peer as Base
from peers.padded_batches import Tokenizer

# A plain release number also matches the build without CUDA, 2.13.0+cpu. pip prefers that build if
# one of its configured indexes or folders has it (PEP 440, local versions).
REQUIREMENTS = ("torch==2.13.0", "transformers", "onnx")
VARIANTS = ("fp32", "bf16")
# The variables of PyTorch's own kernels, of oneDNN's and of MKL's.
ISA_VARIABLES = {
    "avx2": {
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    },
    # AVX512_CORE_FP16 is all of AVX-512, VNNI and bf16 included, without AMX.
    "avx512": {
        "ATEN_CPU_CAPABILITY": "avx512",
        "ONEDNN_MAX_CPU_ISA": "AVX512_CORE_FP16",
        "MKL_ENABLE_INSTRUCTIONS": "AVX512",
    },
}


def sentence_vectors(hidden: Any, mask: Any) -> Any:
    """Mean over the tokens, then L2 normalisation, as the model's 1_Pooling and 2_Normalize say."""
    import torch

    weights = mask.unsqueeze(-1).to(torch.float32)
    means = (hidden.to(torch.float32) * weights).sum(dim=1) / weights.sum(dim=1)
    return torch.nn.functional.normalize(means, dim=1)


def pooled_onnx(settings: Settings) -> Path:
    """The file whose output ``vectors`` is what `sentence_vectors` gives."""
    return settings.exported / "pooled.onnx"


def token_onnx(settings: Settings) -> Path:
    """The file whose output is a vector per token."""
    return settings.exported / "tokens" / "model.onnx"


def export_onnx(settings: Settings, path: Path, *, pooled: bool) -> None:
    import torch
    from transformers import BertModel

    class Graph(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bert = BertModel.from_pretrained(settings.checkpoint, dtype=torch.float32)

        def forward(self, input_ids: Any, attention_mask: Any, token_type_ids: Any) -> Any:
            hidden = self.bert(input_ids, attention_mask, token_type_ids).last_hidden_state
            return sentence_vectors(hidden, attention_mask) if pooled else hidden

    inputs = ("input_ids", "attention_mask", "token_type_ids")
    output = "vectors" if pooled else "last_hidden_state"
    example = torch.ones((2, 8), dtype=torch.int64)
    unfinished = path.with_suffix(".unfinished")
    torch.onnx.export(
        Graph().eval(),
        (example, example, torch.zeros_like(example)),
        unfinished,
        input_names=list(inputs),
        output_names=[output],
        dynamic_axes={name: {0: "texts", 1: "tokens"} for name in inputs} | {output: {0: "texts"}},
        opset_version=17,
        dynamo=False,
    )
    unfinished.rename(path)


class Peer(Base):
    batch_sizes = PADDED_BATCH_SIZES

    @classmethod
    def prepare(cls, settings: Settings, variant: str) -> None:
        import torch

        if variant == "bf16" and (
            settings.isa == "avx2" or not torch.ops.mkldnn._is_mkldnn_bf16_supported()
        ):
            raise UnavailableError("oneDNN has bf16 only on processors with AVX-512")
        for path in (pooled_onnx(settings), token_onnx(settings)):
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                export_onnx(settings, path, pooled=path == pooled_onnx(settings))

    def __init__(self, settings: Settings, variant: str) -> None:
        os.environ["TRANSFORMERS_VERBOSITY"] = "error"
        import torch
        from transformers import BertModel

        torch.set_num_threads(settings.n_threads)
        dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[variant]
        self.model = BertModel.from_pretrained(settings.checkpoint, dtype=dtype).eval()
        self.tokenizer = Tokenizer(settings.checkpoint)

    def embed(self, texts: list[str], batch_size: int) -> NDArray[np.float32]:
        import torch

        vectors = np.empty((len(texts), self.model.config.hidden_size), dtype=np.float32)
        with torch.inference_mode():
            for indices, ids, mask in self.tokenizer.batches(texts, batch_size):
                attention = torch.from_numpy(mask)
                hidden = self.model(torch.from_numpy(ids), attention).last_hidden_state
                vectors[indices] = sentence_vectors(hidden, attention).numpy()
        return vectors
