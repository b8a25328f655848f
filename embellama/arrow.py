# SPDX-License-Identifier: Apache-2.0
"""From a column of texts to a column of vectors, for engines whose tables are Arrow's."""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from embellama import catalog
from embellama.config import ModelConfig
from embellama.embedding.prompts import Purpose, prompt_for
from embellama.errors import ConfigurationError, EmbellamaError, InvalidInputError, safe_repr
from embellama.files.known_rows import without_vector
from embellama.model import EmbeddingModel
from embellama.quantization import DTYPES, dtype_name, quantize, quantized_width
from embellama.results import EmbeddingResult

if TYPE_CHECKING:
    import pyarrow

__all__ = [
    "TableEmbedder",
    "TableReranker",
    "config_on_this_machine",
    "embed_texts",
    "error_column",
    "process_embedder",
    "prompt_of",
    "result_columns",
    "texts_of",
    "vector_column",
    "vectors_of",
]

# Where else a model's file may be, by the beginning of its URL; the catalog knows these.
_OF_THE_CATALOG = ("hf://", "http://", "https://")


def texts_of(table: pyarrow.Table | pyarrow.RecordBatch, column: str) -> list[str | None]:
    """Return the texts of a column; None where it holds a null.

    A Python string is made of each. That takes 0.1 microseconds a text, and its vector more than
    a thousand times as long, so nothing reads Arrow's buffers in place.

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


def prompt_of(model: EmbeddingModel, input_type: str | None) -> str:
    """Return what the model puts before queries or documents; nothing without a type.

    Raises
    ------
    ConfigurationError
        If there is no such type.
    """
    _check_input_type(input_type)
    return prompt_for(cast("Purpose | None", input_type), model.config, model.info)


def _check_input_type(input_type: str | None) -> None:
    if input_type not in ("query", "document", None):
        raise ConfigurationError(
            f'input_type must be "query", "document" or None, not {safe_repr(input_type)}'
        )


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
    _check_input_type(input_type)
    name = dtype_name(dtype)
    is_float = DTYPES[name][0] in (np.float32, np.float16)
    embed: Callable[..., EmbeddingResult] = {
        None: model.embed_batch,
        "query": model.embed_queries,
        "document": model.embed_documents,
    }[input_type]
    result = embed(
        texts,
        dtype=name if is_float else "float32",
        truncate_dim=truncate_dim,
        on_error=on_error,
        details=True,
    )
    if is_float:
        return result
    n_dims = result.embeddings.shape[1]
    rows = without_vector(len(texts), quantized_width(n_dims, name), DTYPES[name][0])
    good = np.ones(len(texts), dtype=np.bool_)
    good[list(result.errors)] = False
    rows[good] = quantize(result.embeddings[good], name, ranges=ranges)
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


def config_on_this_machine(
    model: ModelConfig | str,
    storage_options: Mapping[str, Any] | None = None,
    n_threads: int | None = None,
) -> ModelConfig:
    """Return a configuration whose file is on this machine, fetched once for all its processes.

    Parameters
    ----------
    model : ModelConfig or str
        As :class:`embellama.EmbeddingModel` takes it, or the URL of a GGUF file in a store that
        fsspec knows, such as ``s3://bucket/model.gguf``.
    storage_options : Mapping, optional
        What fsspec needs to reach that store.
    n_threads : int, optional
        Cores to use. Default: as the configuration says.

    Raises
    ------
    ModelNotFoundError, ModelLoadError
        If the model can't be obtained.
    """
    config = model if isinstance(model, ModelConfig) else ModelConfig(model)
    name = str(config.model_path)
    if "://" in name and not name.startswith(_OF_THE_CATALOG):
        from embellama.obtaining.stored_file import obtain_stored_file

        models = catalog.cache_directory() / "models"
        path = obtain_stored_file(name, models, storage_options or {})
    else:
        path = catalog.resolve(name, progress=False)
    # A model keeps the prompts that the catalog has for its name.
    if catalog.find(name) is not None:
        path_or_name: Any = config.model_path
    else:
        path_or_name = path
    return config.replace(model_path=path_or_name, n_threads=n_threads or config.n_threads)


class TableEmbedder:
    """Adds vectors to tables of Arrow; made once a worker, then called for each table.

    Parameters
    ----------
    model : ModelConfig or str
        As :class:`embellama.EmbeddingModel` takes it, or the URL of a GGUF file in a store that
        fsspec knows, such as ``s3://bucket/model.gguf``. It is obtained once a machine, whatever
        the number of processes that want it at the same time.
    column : str, optional
        The column of the texts (default ``"text"``).
    prefix : str, optional
        What the names of new columns begin with. Default: nothing.
    dtype, truncate_dim, ranges, input_type, on_error
        As :func:`embed_texts`.
    n_threads : int, optional
        Cores to use. Default: as the configuration says.
    storage_options : Mapping, optional
        What fsspec needs to reach the model.

    Raises
    ------
    ConfigurationError
        If an option is unknown or does not fit the model.
    ModelNotFoundError, ModelLoadError
        As :class:`embellama.EmbeddingModel`.

    Examples
    --------
    >>> import pyarrow
    >>> from embellama.arrow import TableEmbedder
    >>> embedder = TableEmbedder("all-MiniLM-L6-v2", dtype="float16")
    >>> table = embedder(pyarrow.table({"text": ["a cat", "", "a dog"]}))
    >>> table.column_names
    ['text', 'embedding', 'n_tokens', 'truncated', 'error']
    >>> str(table.schema.field("embedding").type)
    'fixed_size_list<item: halffloat>[384]'
    >>> table["error"].to_pylist()
    [None, 'all-MiniLM-L6-v2: the text is empty: leave it out', None]
    """

    def __init__(
        self,
        model: ModelConfig | str,
        *,
        column: str = "text",
        prefix: str = "",
        dtype: str = "float32",
        truncate_dim: int | None = None,
        ranges: ArrayLike | None = None,
        input_type: str | None = None,
        on_error: str = "nan",
        n_threads: int | None = None,
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        self._column = column
        self._prefix = prefix
        self._options: dict[str, Any] = {
            "dtype": dtype,
            "truncate_dim": truncate_dim,
            "ranges": ranges,
            "input_type": input_type,
            "on_error": on_error,
        }
        config = config_on_this_machine(model, storage_options, n_threads)
        self.model = EmbeddingModel(config)
        # What does not fit is refused before the first table.
        embed_texts(self.model, [], **self._options)
        self.model.warmup()

    def __call__(self, table: pyarrow.Table) -> pyarrow.Table:
        """Return the table with the columns embedding, n_tokens, truncated and error.

        Raises
        ------
        ConfigurationError
            If the table lacks the column of texts, or has a column of such a name already.
        InvalidInputError
            At a bad text, with ``on_error="raise"``.
        """
        result = embed_texts(self.model, texts_of(table, self._column), **self._options)
        return _with_columns(table, result_columns(result), self._prefix)


@functools.cache
def process_embedder(model: str, **options: Any) -> TableEmbedder:
    """Return the TableEmbedder of this process, which is made when it is first asked for.

    For engines whose functions run in worker processes and have no place to keep a model, such as
    those of Spark and Dask.

    Parameters
    ----------
    model : str
    **options
        As :class:`TableEmbedder`.

    Returns
    -------
    TableEmbedder
        The same object for equal arguments.

    Examples
    --------
    >>> from embellama.arrow import process_embedder
    >>> process_embedder("all-MiniLM-L6-v2") is process_embedder("all-MiniLM-L6-v2")
    True
    """
    return TableEmbedder(model, **options)


class TableReranker:
    """Adds scores to tables of Arrow: how well each document answers a query.

    Parameters
    ----------
    model : ModelConfig or str
        A reranker, named as :class:`TableEmbedder` takes a model.
    query : str, optional
        The query of all documents. Default: each row has its own, in `query_column`.
    query_column, column : str, optional
        The columns of queries and documents (default ``"query"`` and ``"text"``).
    prefix, n_threads, storage_options
        As :class:`TableEmbedder`.

    Raises
    ------
    ConfigurationError
        If the model is no reranker.
    ModelNotFoundError, ModelLoadError
        As :class:`embellama.EmbeddingModel`.
    """

    def __init__(
        self,
        model: ModelConfig | str,
        *,
        query: str | None = None,
        query_column: str = "query",
        column: str = "text",
        prefix: str = "",
        n_threads: int | None = None,
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        self._query, self._query_column = query, query_column
        self._column = column
        self._prefix = prefix
        config = config_on_this_machine(model, storage_options, n_threads)
        self.model = EmbeddingModel(config)
        self.model.rerank("a", ["b"])

    def __call__(self, table: pyarrow.Table) -> pyarrow.Table:
        """Return the table with the columns score and error.

        Raises
        ------
        ConfigurationError
            If the table lacks a column, or has one of such a name already.
        """
        import pyarrow

        documents = texts_of(table, self._column)
        queries: Sequence[str | None] = [self._query] * len(documents)
        if self._query is None:
            queries = texts_of(table, self._query_column)
        rows_of_query: dict[str | None, list[int]] = {}
        for row, query in enumerate(queries):
            rows_of_query.setdefault(query, []).append(row)
        scores = np.full(len(documents), np.nan, dtype=np.float32)
        reasons: list[str | None] = [None] * len(documents)
        for query, rows in rows_of_query.items():
            for row, score in self._scores(query, rows, documents).items():
                if isinstance(score, float):
                    scores[row] = score
                else:
                    reasons[row] = str(score)
        columns = {
            "score": pyarrow.array(scores),
            "error": pyarrow.array(reasons, pyarrow.string()),
        }
        return _with_columns(table, columns, self._prefix)

    def _scores(
        self, query: str | None, rows: list[int], documents: list[str | None]
    ) -> dict[int, float | EmbellamaError]:
        """Return the score of each row, or why it has none."""
        if query is None or not query.strip():
            return dict.fromkeys(rows, InvalidInputError("there is no query"))
        found: dict[int, float | EmbellamaError] = {}
        left = []
        for row in rows:
            if (documents[row] or "").strip():
                left.append(row)
            else:
                found[row] = InvalidInputError("there is no document")
        with contextlib.suppress(InvalidInputError):
            return found | self._ranked(query, left, documents)
        # One of them is too long: each alone says whether it is it.
        for row in left:
            try:
                found |= self._ranked(query, [row], documents)
            except InvalidInputError as error:
                found[row] = error
        return found

    def _ranked(
        self, query: str, rows: list[int], documents: list[str | None]
    ) -> dict[int, float | EmbellamaError]:
        results = self.model.rerank(query, [documents[row] or "" for row in rows])
        return {rows[result.index]: result.score for result in results}


def _with_columns(
    table: pyarrow.Table, columns: Mapping[str, pyarrow.Array], prefix: str
) -> pyarrow.Table:
    for name, values in columns.items():
        if prefix + name in table.column_names:
            raise ConfigurationError(
                f"the table has a column {prefix + name!r} already: rename it, or give a prefix "
                "for the new ones"
            )
        table = table.append_column(prefix + name, values)
    return table
