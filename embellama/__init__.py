# SPDX-License-Identifier: Apache-2.0
"""Text embeddings from any GGUF model: Cython over llama.cpp, numpy out.

Examples
--------
>>> import embellama
>>> model = embellama.EmbeddingModel("all-MiniLM-L6-v2")
>>> model.embed("Hello, world!").shape
(384,)
"""

import importlib
import logging
from typing import TYPE_CHECKING, Any

try:
    # First, as core is linked with what this opens.
    import embellama.instruction_set
except ModuleNotFoundError as error:
    if error.name != "embellama.instruction_set":
        raise
    raise ImportError(
        "this is embellama's source tree, which holds no compiled modules: start Python in another "
        "directory, or see CONTRIBUTING.md and run `pip install --no-build-isolation -e .`"
    ) from error

from embellama.config import (
    Accuracy,
    CacheConfig,
    EngineConfig,
    ModelConfig,
    NormalizationMode,
    PNorm,
    PoolingStrategy,
)
from embellama.core import backend_info
from embellama.embedding.cache import CacheStats
from embellama.engine import EmbeddingEngine
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
    TextTypeError,
    TokenizationError,
)
from embellama.file_info import ModelInfo, model_info
from embellama.model import EmbeddingModel
from embellama.quantization import calibrate, quantize
from embellama.results import EmbeddingResult, RerankResult
from embellama.vector_similarity import pairwise_similarity, similarity
from embellama.vectors.clustering import ClusterResult, cluster
from embellama.vectors.near_duplicates import NearDuplicates, near_duplicates
from embellama.vectors.search import SearchResult, search

__all__ = [
    "Accuracy",
    "BatchError",
    "CacheConfig",
    "CacheStats",
    "ClusterResult",
    "ConfigurationError",
    "DimensionMismatchError",
    "EmbeddingEngine",
    "EmbeddingGenerationError",
    "EmbeddingModel",
    "EmbeddingResult",
    "EmbellamaError",
    "EngineConfig",
    "InvalidInputError",
    "ModelConfig",
    "ModelInfo",
    "ModelLoadError",
    "ModelNotFoundError",
    "NearDuplicates",
    "NormalizationMode",
    "OperationTimeoutError",
    "PNorm",
    "PoolingStrategy",
    "RerankResult",
    "ResourceLimitError",
    "SearchResult",
    "TextTypeError",
    "TokenizationError",
    "backend_info",
    "calibrate",
    "cluster",
    "model_info",
    "near_duplicates",
    "pairwise_similarity",
    "quantize",
    "search",
    "similarity",
]

# llama.cpp is silent unless the application configures logging. embellama's own warnings, such as a
# pooling that had to be guessed, then go to standard error (logging.lastResort).
logging.getLogger("embellama.llama_cpp").addHandler(logging.NullHandler())


# Modules with public names, imported on first use: a program that embeds may do without most.
_MODULES = ("catalog", "convert", "core", "errors", "kernels", "quantization")

if TYPE_CHECKING:
    from embellama import catalog, convert, core, errors, kernels, quantization

    __version__: str
else:

    def __getattr__(name: str) -> Any:
        if name == "__version__":
            # Not at import: reading the metadata of installed packages takes 20 ms.
            from importlib.metadata import version

            return version("embellama")
        if name in _MODULES:
            return importlib.import_module(f"embellama.{name}")
        raise AttributeError(f"module 'embellama' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, *_MODULES, "__version__"])
