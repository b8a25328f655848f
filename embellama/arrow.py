# SPDX-License-Identifier: Apache-2.0
"""From a column of texts to a column of vectors, for engines whose tables are Arrow's."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from embellama.errors import ConfigurationError, safe_repr
from embellama.files.known_rows import without_vector
from embellama.model import EmbeddingModel
from embellama.quantization import DTYPES, quantize, quantized_width
from embellama.results import EmbeddingResult

if TYPE_CHECKING:
    import pyarrow

__all__ = [
    "INPUT_TYPES",
    "embed_texts",
    "error_column",
    "result_columns",
    "texts_of",
    "vector_column",
    "vectors_of",
]

INPUT_TYPES = (None, "query", "document")


def texts_of(table: pyarrow.Table | pyarrow.RecordBatch, column: str) -> list[str | None]:
    """Return the texts of a column; None where it holds a null.

    A Python string is made of each. That takes 0.1 microseconds a text, and its vector a thousand
    times as long, so nothing reads Arrow's buffers in place.

    Raises
    ------
    ConfigurationError
        If the table lacks the column, or it holds no texts.
    """
    import pyarrow

    if table.schema.names.count(column) != 1:
        raise ConfigurationError(
            f"the table has {table.schema.names.count(column) or 'no'} columns {column!r}: choose "
            f"among {', '.join(map(repr, table.schema.names)) or 'none'}"
        )
    values = table.column(column)
    kind = values.type
    if pyarrow.types.is_dictionary(kind):
        kind = kind.value_type
    if str(kind) not in ("string", "large_string", "string_view", "null"):
        raise ConfigurationError(f"the column {column!r} holds {kind}, not texts")
    texts: list[str | None] = values.to_pylist()
    return texts


def vector_column(vectors: NDArray[Any]) -> pyarrow.FixedSizeListArray:
    """Return the rows of a matrix as a column, without a copy.

    Parameters
    ----------
    vectors : numpy.ndarray, shape (N, width)
        Contiguous. It must not be changed afterwards.

    Returns
    -------
    pyarrow.FixedSizeListArray of N lists of `width` values

    Examples
    --------
    >>> import numpy as np
    >>> from embellama.arrow import vector_column
    >>> str(vector_column(np.zeros((2, 3), np.float16)).type)
    'fixed_size_list<item: halffloat>[3]'
    """
    import pyarrow

    kind = pyarrow.from_numpy_dtype(vectors.dtype)
    if not vectors.size:
        return pyarrow.array([[]] * len(vectors), pyarrow.list_(kind, vectors.shape[1]))
    values = pyarrow.Array.from_buffers(kind, vectors.size, [None, pyarrow.py_buffer(vectors)])
    return pyarrow.FixedSizeListArray.from_arrays(values, vectors.shape[1])


def vectors_of(column: pyarrow.Array | pyarrow.ChunkedArray) -> NDArray[Any]:
    """Return the rows of a column of lists of one length as a matrix.

    Parameters
    ----------
    column : pyarrow.Array or pyarrow.ChunkedArray
        Of type ``fixed_size_list``, without nulls.

    Returns
    -------
    numpy.ndarray, shape (N, width)
        Read-only, and without a copy, if the column is one chunk.

    Examples
    --------
    >>> import numpy as np
    >>> from embellama.arrow import vector_column, vectors_of
    >>> vectors_of(vector_column(np.eye(2, dtype=np.float32)))
    array([[1., 0.],
           [0., 1.]], dtype=float32)
    """
    import pyarrow

    if isinstance(column, pyarrow.ChunkedArray):
        column = column.combine_chunks()
    if isinstance(column, pyarrow.ChunkedArray):  # without any row there is no chunk to take
        column = pyarrow.array([], column.type)
    values: NDArray[Any] = column.flatten().to_numpy(zero_copy_only=True)
    return values.reshape(len(column), column.type.list_size)


def embed_texts(
    model: EmbeddingModel,
    texts: Sequence[str | None],
    *,
    dtype: str = "float32",
    truncate_dim: int | None = None,
    ranges: ArrayLike | None = None,
    input_type: str | None = None,
    on_error: str = "nan",
) -> EmbeddingResult:
    """Compute the vectors of texts, of which some may be bad, in any type.

    Parameters
    ----------
    model : EmbeddingModel
    texts : sequence of str or None
    dtype, truncate_dim, ranges
        As :meth:`embellama.EmbeddingModel.embed_batch`.
    input_type : {"query", "document"}, optional
        Put the model's prompt for such texts before each. Default: no prompt.
    on_error : {"nan", "raise"}, optional
        With ``"nan"``, the default, a bad text has a row of NaN, or of 0 in the types that have no
        NaN.

    Returns
    -------
    EmbeddingResult

    Raises
    ------
    ConfigurationError
        If the value of an option is unknown.
    InvalidInputError
        At a bad text, with ``on_error="raise"``.

    Examples
    --------
    >>> import embellama
    >>> from embellama.arrow import embed_texts
    >>> model = embellama.EmbeddingModel("all-MiniLM-L6-v2")
    >>> result = embed_texts(model, ["a cat", None], dtype="int8")
    >>> result.embeddings.shape, list(result.errors)
    ((2, 384), [1])
    """
    if input_type not in INPUT_TYPES:
        raise ConfigurationError(
            f'input_type must be "query", "document" or None, not {safe_repr(input_type)}'
        )
    prompt = model._prompt(input_type) if input_type else ""  # type: ignore[arg-type]
    is_float = dtype in DTYPES and DTYPES[dtype][0] in (np.float32, np.float16)
    result = model._embed_batch(
        texts,  # type: ignore[arg-type]
        prompt=prompt,
        dtype=dtype if is_float else "float32",
        truncate_dim=truncate_dim,
        on_error=on_error,
    )
    if is_float:
        return result
    n_dims = result.embeddings.shape[1]
    rows = without_vector(len(texts), quantized_width(n_dims, dtype), DTYPES[dtype][0])
    good = np.ones(len(texts), dtype=np.bool_)
    good[list(result.errors)] = False
    rows[good] = quantize(result.embeddings[good], dtype, ranges=ranges)
    return EmbeddingResult(rows, result.token_counts, result.truncated, result.errors)


def error_column(result: EmbeddingResult) -> pyarrow.Array:
    """Return why each text has no vector; null where it has one."""
    import pyarrow

    reasons: list[str | None] = [None] * len(result.embeddings)
    for index, error in result.errors.items():
        # The number is that of the text in its batch, which nobody sees.
        reasons[index] = re.sub(r"\btext \d+\b", "the text", str(error), count=1)
    return pyarrow.array(reasons, pyarrow.string())


def result_columns(result: EmbeddingResult) -> dict[str, pyarrow.Array]:
    """Return the columns that tell of a result: embedding, n_tokens, truncated and error."""
    import pyarrow

    return {
        "embedding": vector_column(np.ascontiguousarray(result.embeddings)),
        "n_tokens": pyarrow.array(result.token_counts),
        "truncated": pyarrow.array(result.truncated),
        "error": error_column(result),
    }
