# SPDX-License-Identifier: Apache-2.0
"""Which file of the cache is meant where no type of the weights is named."""

from __future__ import annotations

from pathlib import Path

from embellama.files.checksum import is_as_recorded
from embellama.gguf.architectures import OVERFLOWING_IN_FLOAT16
from embellama.gguf.reader import read_header

__all__ = ["DEFAULT_TYPES", "is_intact_default"]

# What the converter chooses from.
DEFAULT_TYPES = ("F16", "BF16", "F32")


def is_intact_default(gguf: Path) -> bool:
    """Whether a file with one of the default types is as it was made, and may be the default.

    The converter chooses F32 only for networks that overflow in float16. For others, someone has
    named it.

    Raises
    ------
    OSError
        If it can't be read.
    ModelLoadError
        If it is no GGUF file.
    """
    return is_as_recorded(gguf) and (
        not gguf.name.endswith("-F32.gguf")
        or read_header(gguf).architecture in OVERFLOWING_IN_FLOAT16
    )
