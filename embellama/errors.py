# SPDX-License-Identifier: Apache-2.0
"""The exceptions embellama raises.

Every exception is an :class:`EmbellamaError` and also the built-in a Python programmer would
expect in its place, so ``except ValueError`` and ``except EmbellamaError`` both work. A value of
the wrong type raises the built-in :class:`TypeError`.
"""

from __future__ import annotations

__all__ = [
    "BatchError",
    "ConfigurationError",
    "DimensionMismatchError",
    "EmbeddingGenerationError",
    "EmbellamaError",
    "InvalidInputError",
    "ModelLoadError",
    "ModelNotFoundError",
    "OperationTimeoutError",
    "ResourceLimitError",
    "TokenizationError",
]


class EmbellamaError(Exception):
    """Root of all exceptions raised by embellama.

    Examples
    --------
    >>> import embellama
    >>> try:
    ...     embellama.ModelConfig("model.gguf", n_threads=-1)
    ... except embellama.EmbellamaError as error:
    ...     print(type(error).__name__)
    ConfigurationError
    """


class ModelNotFoundError(EmbellamaError, FileNotFoundError):
    """No such file, catalog name or registered model.

    Examples
    --------
    >>> import embellama
    >>> embellama.EmbeddingModel("no/such/file.gguf")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    embellama.errors.ModelNotFoundError: ...
    """


class ModelLoadError(EmbellamaError, OSError):
    """The file exists but is no model that can be used for embeddings."""


class ConfigurationError(EmbellamaError, ValueError):
    """A setting is out of its range, or contradicts another setting or the build."""


class _IndexedInputError(EmbellamaError, ValueError):
    """An error that one input caused.

    Parameters
    ----------
    message : str
        What happened and what to do.
    index : int or None
        Position of the offending input in the call, counted from 0; None for a single input.
    """

    def __init__(self, message: str, *, index: int | None = None) -> None:
        super().__init__(message)
        self.index = index


class InvalidInputError(_IndexedInputError):
    """An input cannot be embedded: empty, too long, or not encodable as UTF-8.

    Attributes
    ----------
    index : int or None
        Position of the offending input in the call, counted from 0; None for a single input.
    """


class TokenizationError(_IndexedInputError):
    """The tokenizer failed on an input, or the vocabulary lacks a token that it needs.

    Attributes
    ----------
    index : int or None
        Position of the offending input in the call, counted from 0; None for a single input.
    """


class EmbeddingGenerationError(EmbellamaError, RuntimeError):
    """llama.cpp failed to compute, or the model gave a NaN or an infinity."""


class BatchError(EmbellamaError, RuntimeError):
    """Part of a batch failed."""


class DimensionMismatchError(EmbellamaError, ValueError):
    """An array or a requested dimension does not fit the model's vectors."""


class ResourceLimitError(EmbellamaError, MemoryError):
    """A limit on memory would be passed, or an allocation failed."""


class OperationTimeoutError(EmbellamaError, TimeoutError):
    """A call did not finish within its ``timeout``."""
