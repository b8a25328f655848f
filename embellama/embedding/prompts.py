# SPDX-License-Identifier: Apache-2.0
"""What stands before a query or a document."""

from __future__ import annotations

import os
from typing import Literal

from embellama import catalog
from embellama.config import ModelConfig
from embellama.file_info import ModelInfo

__all__ = ["Purpose", "prompt_for"]

Purpose = Literal["query", "document"]
# The names under which sentence-transformers looks for the prompts of its encode_query and
# encode_document.
_NAMES = {"query": ("query",), "document": ("document", "passage", "corpus")}


def prompt_for(purpose: Purpose | None, config: ModelConfig, info: ModelInfo) -> str:
    """Return the configured prompt, else the catalog's, else the file's, else an empty one."""
    if purpose is None:
        return ""
    configured: str | None = getattr(config, f"{purpose}_prompt")
    if configured is not None:
        return configured
    entry = catalog.find(os.fspath(config.model_path))
    prompt: str = getattr(entry, f"{purpose}_prompt") if entry else ""
    return prompt or next(filter(None, map(info.prompts.get, _NAMES[purpose])), "")
