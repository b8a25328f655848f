# SPDX-License-Identifier: Apache-2.0
"""The types of weights a GGUF file may be written with."""

from __future__ import annotations

from types import MappingProxyType

from embellama.errors import ConfigurationError

# Name -> enum llama_ftype of llama.h. The types that need an importance matrix (IQ1_*, IQ2_*,
# IQ3_XXS, IQ3_XS, Q2_K_S) or a model trained for them (TQ*, MXFP4_MOE, NVFP4, Q1_0, Q2_0) are
# left out.
FILE_TYPES = MappingProxyType(
    {
        "F32": 0,
        "F16": 1,
        "BF16": 32,
        "Q8_0": 7,
        "Q6_K": 18,
        "Q5_K_M": 17,
        "Q5_K_S": 16,
        "Q5_1": 9,
        "Q5_0": 8,
        "Q4_K_M": 15,
        "Q4_K_S": 14,
        "Q4_1": 3,
        "Q4_0": 2,
        "IQ4_NL": 25,
        "IQ4_XS": 30,
        "Q3_K_L": 13,
        "Q3_K_M": 12,
        "Q3_K_S": 11,
        "IQ3_M": 27,
        "IQ3_S": 26,
        "Q2_K": 10,
    }
)

UNQUANTIZED = frozenset({"F32", "F16", "BF16"})


def file_type_name(file_type: str) -> str:
    """Return `file_type` as spelled in :data:`FILE_TYPES`, or raise ConfigurationError."""
    if not isinstance(file_type, str):
        raise TypeError(f"file_type must be a str, not {type(file_type).__name__}")
    name = file_type.upper()
    if name not in FILE_TYPES:
        raise ConfigurationError(
            f"file_type must be one of {', '.join(FILE_TYPES)}, not {file_type!r}"
        )
    return name
