# SPDX-License-Identifier: Apache-2.0
"""``embellama search`` and ``similar``: the rows of a file that are most like a text, or a row."""

from __future__ import annotations

import itertools

import click
import numpy as np
from click.core import ParameterSource
from numpy.typing import NDArray

from embellama.cli import options
from embellama.cli.corpus import Row, Selection, corpus_of, in_terms_of_the_command
from embellama.cli.model_settings import configuration, kept_dimensions, prompt_of, prompted
from embellama.cli.shown_rows import Columns, columns_of, print_json, print_plain, row_options
from embellama.cli.stored_vectors import StoredVectors, open_vectors
from embellama.errors import DimensionMismatchError, InvalidInputError
from embellama.model import EmbeddingModel
from embellama.quantization import quantize, quantized_width
from embellama.vectors.chunks import rows_at
from embellama.vectors.search import SearchResult, most_similar

__all__ = ["search", "similar"]

# Queries that are read, then searched for, at a time.
_WINDOW_QUERIES = 1024

_vectors = click.option(
    "--in",
    "vectors",
    type=options.UserPath(exists=True, dir_okay=False),
    required=True,
    metavar="VECTORS",
    help="The vectors to look in: a .npy or .parquet file.",
)
_top_n = click.option(
    "-n",
    "--top-n",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    metavar="N",
    help="Print the N best.",
)


@click.command()
@click.argument("queries", metavar="[QUERY]...", nargs=-1)
@_vectors
@_top_n
@options.input_options
@options.model(
    help="The model.  [default: the one that VECTORS names; otherwise as for embed]",
    default=options.DEFAULT_MODEL,
    envvar=options.MODEL_VARIABLE,
)
@options.file_type
@click.option(
    "--prompt",
    metavar="TEXT",
    help="Put TEXT before each query.  [default: the model's prompt for queries]",
)
@options.truncate_dim
@row_options
@options.accuracy
@options.threads
@options.quiet
@click.pass_context
def search(
    context: click.Context,
    queries: tuple[str, ...],
    vectors: str,
    top_n: int,
    sources: tuple[str, ...],
    input_format: str | None,
    columns: list[str],
    delimiter: str | None,
    model: str,
    file_type: str | None,
    prompt: str | None,
    truncate_dim: int | None,
    dtype: str | None,
    ranges: NDArray[np.float32] | None,
    texts: str | None,
    keep: list[str] | None,
    as_json: bool,
    accuracy: str,
    threads: int | None,
    quiet: bool,
) -> None:
    """Find the rows of VECTORS that are most similar to QUERY, the best first.

    VECTORS is what `embellama embed -o` wrote: .npy, or Parquet, which also holds the model's name
    and the columns of --keep. Every row is compared, by cosine, rows of bits by the share of equal
    bits. Without QUERY, each line of standard input is one. A line of the result has the score, the
    index of the row, counted from 0, and its columns.

    \b
    embellama embed -i articles.csv --document --keep text -o articles.parquet
    embellama search "birds that migrate" --in articles.parquet
    embellama search -n 3 --json --in vectors.npy --texts lines.txt < questions.txt | jq .text
    """
    stored = open_vectors(vectors, dtype, ranges)
    shown = columns_of(stored, texts, keep, ("query", "score", "index"))
    rows = corpus_of(queries, sources, input_format, Selection(columns, delimiter=delimiter))
    said = stored.description
    if context.get_parameter_source("model") is not ParameterSource.COMMANDLINE and said.model:
        model = said.model
    config = configuration(
        model,
        file_type=file_type,
        quiet=quiet,
        pooling=said.pooling,
        accuracy=accuracy,
        n_threads=threads,
    )
    has_printed = False
    with EmbeddingModel(config) as embedding_model:
        if prompt is None:
            prompt = prompt_of(embedding_model, "query")
        n_dimensions = _dimensions(embedding_model, stored, truncate_dim)
        source = iter(rows)
        while window := list(itertools.islice(source, _WINDOW_QUERIES)):
            found = most_similar(
                _embedded(embedding_model, window, prompt, n_dimensions, stored),
                stored,
                top_n=top_n,
                kind=stored.kind,
            )
            labels = [row.text or "" for row in window]
            has_several = has_printed or len(window) > 1
            if has_printed and not as_json:
                click.echo()
            _print(found, labels if as_json or has_several else None, shown, as_json=as_json)
            has_printed = True


def _dimensions(
    embedding_model: EmbeddingModel, stored: StoredVectors, truncate_dim: int | None
) -> int:
    """The length of a query's vector, which has to fit the rows."""
    own = embedding_model.embedding_dimensions
    said = stored.description.dimensions
    if truncate_dim is None and said is not None and said <= own:
        truncate_dim = said
    n_dimensions = kept_dimensions(embedding_model, truncate_dim)
    if quantized_width(n_dimensions, stored.dtype) != stored.n_dims:
        raise DimensionMismatchError(
            f"a row of {stored.name} has {stored.n_dims} values of {stored.dtype}, and "
            f"{embedding_model.name} gives {n_dimensions} dimensions: name the model that made "
            "them with -m, and the --truncate-dim and --dtype that embed was given"
        )
    return n_dimensions


def _embedded(
    embedding_model: EmbeddingModel,
    window: list[Row],
    prompt: str,
    n_dimensions: int,
    stored: StoredVectors,
) -> NDArray[np.generic]:
    for row in window:
        if row.text is None:
            raise InvalidInputError(f"{row.label} {row.problem}")
    with in_terms_of_the_command([row.label for row in window]):
        vectors = embedding_model.embed_batch(
            [prompted(prompt, row.text or "") for row in window], truncate_dim=n_dimensions
        )
    if stored.kind == "hamming":
        return quantize(vectors, stored.dtype)
    return vectors


@click.command()
@click.argument("rows", metavar="ROW...", nargs=-1, required=True, type=click.IntRange(min=0))
@_vectors
@_top_n
@row_options
def similar(
    rows: tuple[int, ...],
    vectors: str,
    top_n: int,
    dtype: str | None,
    ranges: NDArray[np.float32] | None,
    texts: str | None,
    keep: list[str] | None,
    as_json: bool,
) -> None:
    """Find the other rows of VECTORS that are most similar to row ROW, counted from 0.

    No model is loaded. Otherwise this does what `embellama search` does.

    \b
    embellama similar 17 --in articles.parquet
    """
    stored = open_vectors(vectors, dtype, ranges)
    shown = columns_of(stored, texts, keep, ("row", "score", "index"))
    for row in rows:
        if row >= stored.n_rows:
            raise InvalidInputError(f"{vectors} has {stored.n_rows} rows, counted from 0: no {row}")
    wanted, places = np.unique(np.array(rows, dtype=np.int64), return_inverse=True)
    queries = rows_at(stored, wanted)[places]
    for row, query in zip(rows, queries, strict=True):
        if query.dtype.kind == "f" and np.isnan(query).all():
            raise InvalidInputError(f"row {row} of {vectors} has no vector")
    found = most_similar(
        queries, stored, top_n=top_n, kind=stored.kind, without=np.array(rows, dtype=np.int64)
    )
    labels = list(rows) if as_json or len(rows) > 1 else None
    _print(found, labels, shown, as_json=as_json, name="row")


def _print(
    found: SearchResult,
    labels: list[str] | list[int] | None,
    shown: Columns,
    *,
    as_json: bool,
    name: str = "query",
) -> None:
    """Print the rows that were found; with labels, those of each query below its own."""
    records = iter(shown.records(found.indices.reshape(-1)))
    for number, (indices, scores) in enumerate(zip(*found, strict=True)):
        if labels is not None and not as_json:
            click.echo(("\n" if number else "") + " ".join(str(labels[number]).split()))
        for index, score in zip(indices.tolist(), scores.tolist(), strict=True):
            record = next(records)
            if as_json:
                label = {} if labels is None else {name: labels[number]}
                print_json({**label, "index": index, "score": round(score, 6), **record})
            else:
                print_plain(f"{score:8.3f}  {index:6}", record)
