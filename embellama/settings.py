# SPDX-License-Identifier: Apache-2.0
"""What type checkers know of the settings that are given by name.

More is accepted than the attributes of the classes in :mod:`embellama.config` are: enums also as
their lower-case names.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal, TypedDict

if TYPE_CHECKING:
    from embellama.config import (
        Accuracy,
        CacheConfig,
        ModelConfig,
        NormalizationMode,
        PNorm,
        PoolingStrategy,
    )

__all__ = ["AllSettings", "EngineChanges", "EngineSettings", "ModelChanges", "ModelSettings"]


class ModelSettings(TypedDict, total=False):
    """What :class:`ModelConfig` accepts by name: enums also as their lower-case names."""

    model_name: str | None
    n_ctx: int | None
    n_threads: int | None
    n_gpu_layers: int
    use_mmap: bool
    use_mlock: bool
    pooling: (
        PoolingStrategy | Literal["mean", "cls", "last", "max", "mean_sqrt", "none", "rank"] | None
    )
    normalization: NormalizationMode | PNorm | Literal["none", "max_abs", "l2"]
    truncate: bool | int
    n_seq_max: int | None
    micro_batch_tokens: int | None
    parse_special: bool
    accuracy: Accuracy | Literal["fast", "exact"]
    instruction_set: str | None
    keys_in_float16: bool
    query_prompt: str | None
    document_prompt: str | None
    cache: CacheConfig | None


class ModelChanges(ModelSettings, total=False):
    """What :meth:`ModelConfig.replace` accepts."""

    model_path: str | os.PathLike[str]


class EngineSettings(TypedDict, total=False):
    """What :class:`EngineConfig` accepts by name."""

    use_gpu: bool
    memory_limit_mb: float | None


class EngineChanges(EngineSettings, total=False):
    """What :meth:`EngineConfig.replace` accepts."""

    model_config: ModelConfig | str | os.PathLike[str]


class AllSettings(ModelSettings, EngineSettings, total=False):
    """What an engine accepts by name: settings of its own, and of its first model."""
