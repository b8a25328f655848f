# SPDX-License-Identifier: Apache-2.0
"""The exceptions embellama raises.

Every exception is an :class:`EmbellamaError` and also the built-in a Python programmer would
expect in its place, so ``except ValueError`` and ``except EmbellamaError`` both work. An argument
of the wrong type raises the built-in :class:`TypeError`.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = [
    "BatchError",
    "ConfigurationError",
    "DimensionMismatchError",
    "EmbeddingGenerationError",
    "EmbellamaError",
    "IndexedInputError",
    "InvalidInputError",
    "ModelLoadError",
    "ModelNotFoundError",
    "OperationTimeoutError",
    "ResourceLimitError",
    "TextTypeError",
    "TokenizationError",
]


def safe_repr(value: object) -> str:
    """Return the repr of a value, or its type where Python refuses to write the value.

    Python writes at most 4300 digits of an integer (``sys.set_int_max_str_digits``).
    """
    try:
        return repr(value)
    except ValueError:
        return f"<{type(value).__name__} too long to be shown>"


def lone_surrogate(subject: str, text: str, position: int) -> str:
    """Return the message for a text with a lone surrogate at `position`."""
    return (
        f"{subject} holds a lone surrogate (U+{ord(text[position]):04X} at character {position}), "
        "which has no UTF-8 form: decode its source properly, or use "
        "text.encode('utf-8', 'replace').decode()"
    )


def not_finite(subject: str) -> str:
    """Return the message for a text whose vector has a NaN or an infinity."""
    return (
        f"{subject} gave a NaN or an infinity: the weights are damaged or overflow in this type; "
        "try an F32 file"
    )


class EmbellamaError(Exception):
    """The base class of all exceptions that embellama raises.

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
    >>> embellama.EmbeddingModel("missing.gguf")
    Traceback (most recent call last):
    embellama.errors.ModelNotFoundError: ...
    """


class ModelLoadError(EmbellamaError, OSError):
    """The file exists but is not a model that can be used for embeddings.

    Examples
    --------
    >>> import embellama
    >>> embellama.EmbeddingModel(embellama.__file__)
    Traceback (most recent call last):
    embellama.errors.ModelLoadError: ...
    """


class ConfigurationError(EmbellamaError, ValueError):
    """A setting is out of its range, or contradicts another setting or the build.

    Examples
    --------
    >>> import embellama
    >>> embellama.ModelConfig("all-MiniLM-L6-v2", n_threads=0)
    Traceback (most recent call last):
    embellama.errors.ConfigurationError: n_threads must be from 1 to 512, not 0
    """


class IndexedInputError(EmbellamaError, ValueError):
    """The base class of errors that one input caused.

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


class InvalidInputError(IndexedInputError):
    """An input cannot be embedded: empty, too long, or not encodable as UTF-8.

    Attributes
    ----------
    index : int or None
        Position of the offending input in the call, counted from 0; None for a single input.

    Examples
    --------
    >>> import embellama
    >>> model = embellama.EmbeddingModel("all-MiniLM-L6-v2")
    >>> try:
    ...     model.embed_batch(["a cat", ""])
    ... except embellama.InvalidInputError as error:
    ...     print(error.index, error)
    1 all-MiniLM-L6-v2: text 1 is empty: leave it out
    """


class TextTypeError(InvalidInputError, TypeError):
    """A text is not a str: a number, bytes, or a missing value such as None, NaN or pandas' NA.

    Attributes
    ----------
    index : int or None
        Position of the offending input in the call, counted from 0; None for a single input.

    Examples
    --------
    >>> import embellama
    >>> model = embellama.EmbeddingModel("all-MiniLM-L6-v2")
    >>> model.embed_batch(["a cat", None])
    Traceback (most recent call last):
    embellama.errors.TextTypeError: all-MiniLM-L6-v2: text 1 must be a str, and it is missing ...
    """


class TokenizationError(IndexedInputError):
    """The tokenizer failed on an input, or the vocabulary lacks a token that it needs.

    Attributes
    ----------
    index : int or None
        Position of the offending input in the call, counted from 0; None for a single input.

    Examples
    --------
    >>> import embellama
    >>> model = embellama.EmbeddingModel("all-MiniLM-L6-v2")
    >>> texts = ["a cat", "a dog"]
    >>> try:
    ...     vectors = model.embed_batch(texts)
    ... except embellama.TokenizationError as error:
    ...     print("can't be tokenized:", texts[error.index])
    """


class EmbeddingGenerationError(EmbellamaError, RuntimeError):
    """llama.cpp failed to compute, or the model gave a NaN or an infinity.

    Examples
    --------
    >>> import embellama
    >>> model = embellama.EmbeddingModel("all-MiniLM-L6-v2")
    >>> try:
    ...     vector = model.embed("a cat")
    ... except embellama.EmbeddingGenerationError as error:
    ...     print("try an F32 file:", error)
    """


class BatchError(EmbellamaError, RuntimeError):
    """The computation failed for several texts of a batch.

    Parameters
    ----------
    message : str
        What happened and what to do.
    errors : Mapping of int to EmbellamaError
        Why, by the index of the text.

    Attributes
    ----------
    errors : Mapping of int to EmbellamaError
        Why, by the index of the text.

    Examples
    --------
    >>> import embellama
    >>> model = embellama.EmbeddingModel("all-MiniLM-L6-v2")
    >>> texts = ["a cat", "a dog"]
    >>> try:
    ...     vectors = model.embed_batch(texts)
    ... except embellama.BatchError as error:
    ...     for index, reason in error.errors.items():
    ...         print(texts[index], reason)
    """

    def __init__(self, message: str, errors: Mapping[int, EmbellamaError] | None = None) -> None:
        super().__init__(message)
        self.errors = errors or {}


class DimensionMismatchError(EmbellamaError, ValueError):
    """An array or a requested dimension does not fit the model's vectors.

    Examples
    --------
    >>> import embellama
    >>> model = embellama.EmbeddingModel("all-MiniLM-L6-v2")
    >>> model.embed_batch(["a cat"], truncate_dim=1000)
    Traceback (most recent call last):
    embellama.errors.DimensionMismatchError: ... truncate_dim must be from 1 to 384, not 1000
    """


class ResourceLimitError(EmbellamaError, MemoryError):
    """A memory limit would be exceeded, or an allocation failed.

    Examples
    --------
    >>> import embellama
    >>> config = embellama.EngineConfig("all-MiniLM-L6-v2", memory_limit_mb=10)
    >>> embellama.EmbeddingEngine(config)
    Traceback (most recent call last):
    embellama.errors.ResourceLimitError: all-MiniLM-L6-v2 needs about ...
    """


class OperationTimeoutError(EmbellamaError, TimeoutError):
    """A call did not finish within its ``timeout``.

    Examples
    --------
    >>> import embellama
    >>> model = embellama.EmbeddingModel("all-MiniLM-L6-v2")
    >>> model.embed_batch(["a long text " * 100] * 100, timeout=0.001)
    Traceback (most recent call last):
    embellama.errors.OperationTimeoutError: ...
    """
