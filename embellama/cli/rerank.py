# SPDX-License-Identifier: Apache-2.0
"""``embellama rerank``: order documents by how well they answer a query."""

from __future__ import annotations

import json
import sys
from typing import BinaryIO

import click

from embellama import catalog
from embellama.cli import corpus, options
from embellama.cli.corpus import Corpus
from embellama.config import ModelConfig
from embellama.model import EmbeddingModel

__all__ = ["rerank"]


@click.command()
@click.argument("query")
@click.argument("documents", metavar="[DOCUMENT]...", nargs=-1)
@click.option(
    "-i",
    "--input",
    "source",
    type=click.File("rb"),
    help="Read documents from FILE; - is standard input.",
    metavar="FILE",
)
@click.option(
    "--input-format",
    type=click.Choice(corpus.FORMATS),
    help="[default: what FILE's name ends in, else lines]",
)
@click.option(
    "--column",
    default="text",
    show_default=True,
    metavar="NAME",
    help="Which column of CSV, TSV, JSON Lines or Parquet holds the documents.",
)
@options.model(required=True)
@click.option("-n", "--top-n", type=click.IntRange(min=1), metavar="N", help="Print the N best.")
@click.option("--truncate", is_flag=True, help="Cut a document that is too long.")
@options.threads
@click.option("--json", "as_json", is_flag=True, help="Print JSON Lines.")
@options.quiet
def rerank(
    query: str,
    documents: tuple[str, ...],
    source: BinaryIO | None,
    input_format: str | None,
    column: str,
    model: str,
    top_n: int | None,
    truncate: bool,
    threads: int | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Order documents by how well they answer QUERY, the best first.

    MODEL is a reranker: a GGUF file of a cross-encoder, a model with a classification head.

    \b
    embellama rerank "how long do cats sleep" -m reranker.gguf -i documents.txt -n 10
    """
    if documents and source is not None:
        raise click.UsageError("give documents as arguments or with --input, not both")
    if not documents and source is None:
        if sys.stdin.isatty():
            raise click.UsageError(
                "no document: give some as arguments, with --input, or in a pipe"
            )
        source = sys.stdin.buffer
    if source is None:
        read = Corpus.of_arguments(documents)
    else:
        kind = input_format or corpus.corpus_format(source.name)
        read = Corpus.of_file(source, kind, column)
    path = catalog.resolve(model, progress=not quiet)
    with EmbeddingModel(ModelConfig(path, truncate=truncate, n_threads=threads)) as reranker:
        for result in reranker.rerank(query, read.read(), top_n=top_n):
            if as_json:
                line = {"index": result.index, "score": result.score, "document": result.document}
                click.echo(json.dumps(line, ensure_ascii=False))
            else:
                click.echo(f"{result.score:8.3f}  {result.document}")
