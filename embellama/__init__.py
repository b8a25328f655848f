# SPDX-License-Identifier: Apache-2.0
"""Text embeddings from any GGUF model: Cython over llama.cpp, numpy out.

Examples
--------
>>> import embellama
>>> model = embellama.EmbeddingModel("all-MiniLM-L6-v2")
>>> model.embed("Hello, world!").shape
(384,)
"""

import logging
from importlib.metadata import version

from embellama.config import ModelConfig, NormalizationMode, PNorm, PoolingStrategy
from embellama.core import backend_info
from embellama.errors import (
    BatchError,
    ConfigurationError,
    DimensionMismatchError,
    EmbeddingGenerationError,
    EmbellamaError,
    InvalidInputError,
    ModelLoadError,
    ModelNotFoundError,
    OperationTimeoutError,
    ResourceLimitError,
    TokenizationError,
)
from embellama.model import EmbeddingModel, EmbeddingResult

__all__ = [
    "BatchError",
    "ConfigurationError",
    "DimensionMismatchError",
    "EmbeddingGenerationError",
    "EmbeddingModel",
    "EmbeddingResult",
    "EmbellamaError",
    "InvalidInputError",
    "ModelConfig",
    "ModelLoadError",
    "ModelNotFoundError",
    "NormalizationMode",
    "OperationTimeoutError",
    "PNorm",
    "PoolingStrategy",
    "ResourceLimitError",
    "TokenizationError",
    "backend_info",
]

__version__ = version("embellama")

# Silent unless the application configures logging: without a handler Python would print
# llama.cpp's warnings to standard error.
logging.getLogger("embellama").addHandler(logging.NullHandler())
