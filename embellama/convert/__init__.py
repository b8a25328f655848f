# SPDX-License-Identifier: Apache-2.0
"""Hugging Face checkpoints become GGUF files, without torch.

The files are those that llama.cpp's ``convert_hf_to_gguf.py`` writes: the same tensors, types and
metadata. If that script would write a file whose results differ from those of the checkpoint, this
package either adds what is missing or raises a ModelLoadError.
"""

from __future__ import annotations

from embellama.convert.checkpoint import convert_checkpoint
from embellama.convert.file_types import FILE_TYPES

__all__ = ["FILE_TYPES", "convert_checkpoint"]
