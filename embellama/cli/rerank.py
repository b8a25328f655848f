# SPDX-License-Identifier: Apache-2.0
"""``embellama rerank``: order documents by how well they answer a query."""

from __future__ import annotations

import json

import click

from embellama import catalog
from embellama.cli import options
from embellama.cli.corpus import Selection, corpus_of, in_terms_of_the_command
from embellama.config import ModelConfig
from embellama.errors import InvalidInputError
from embellama.model import EmbeddingModel

__all__ = ["rerank"]


@click.command()
@click.argument("query")
@click.argument("documents", metavar="[DOCUMENT]...", nargs=-1)
@options.input_options
@options.model(required=True)
@click.option("-n", "--top-n", type=click.IntRange(min=1), metavar="N", help="Print the N best.")
@click.option("--truncate", is_flag=True, help="Cut a document that is too long.")
@options.threads
@click.option("--json", "as_json", is_flag=True, help="Print JSON Lines.")
@options.quiet
def rerank(
    query: str,
    documents: tuple[str, ...],
    sources: tuple[str, ...],
    input_format: str | None,
    columns: list[str],
    delimiter: str | None,
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
    rows = list(
        corpus_of(documents, sources, input_format, Selection(columns, delimiter=delimiter))
    )
    for row in rows:
        if row.text is None:
            raise InvalidInputError(f"{row.label} {row.problem}")
    path = catalog.resolve(model, progress=not quiet)
    with EmbeddingModel(ModelConfig(path, truncate=truncate, n_threads=threads)) as reranker:
        with in_terms_of_the_command([row.label for row in rows]):
            results = reranker.rerank(query, [row.text or "" for row in rows], top_n=top_n)
        for result in results:
            if as_json:
                line = {"index": result.index, "score": result.score, "document": result.document}
                click.echo(json.dumps(line, ensure_ascii=False))
            else:
                click.echo(f"{result.score:8.3f}  {result.document}")
