# SPDX-License-Identifier: Apache-2.0
"""What stands before a query or a document."""

from __future__ import annotations

from typing import Literal

from embellama.config import ModelConfig
from embellama.file_info import ModelInfo, Prompt

__all__ = ["Purpose", "prompt_for"]

Purpose = Literal["query", "document"]


def prompt_for(purpose: Purpose | None, config: ModelConfig, info: ModelInfo) -> str:
    """Return the configured prompt, else what is known of the model."""
    if purpose is None:
        return ""
    configured: str | None = getattr(config, f"{purpose}_prompt")
    if configured is not None:
        return configured
    known: Prompt = getattr(info, f"{purpose}_prompt")
    return known.text
