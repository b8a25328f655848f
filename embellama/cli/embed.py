# SPDX-License-Identifier: Apache-2.0
"""``embellama embed``: a corpus in, a file of vectors out."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any, BinaryIO

import click
import tqdm

from embellama import catalog
from embellama.cli import corpus, options, vector_files
from embellama.cli.corpus import Corpus
from embellama.cli.partial_output import file_identity, not_written, partial_output
from embellama.cli.vector_files import WINDOW_TEXTS, JsonLines, Rows
from embellama.config import Accuracy, ModelConfig, NormalizationMode, PNorm, PoolingStrategy
from embellama.errors import EmbellamaError, InvalidInputError, TokenizationError
from embellama.model import EmbeddingModel

__all__ = ["embed"]

# What --truncate without a number stands for.
_MODEL_LIMIT = "model"


def _normalization(
    context: click.Context, parameter: click.Parameter, value: str
) -> NormalizationMode | PNorm:
    with contextlib.suppress(ValueError):
        return NormalizationMode(value.lower())
    with contextlib.suppress(ValueError):
        return PNorm(float(value))
    raise click.BadParameter(f"{value!r} is neither none, max_abs or l2 nor a number from 1 up")


def _truncation(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> bool | int:
    if value is None or value == _MODEL_LIMIT:
        return value is not None
    with contextlib.suppress(ValueError):  # Python reads no more than 4300 digits
        if value.isdecimal() and int(value) > 0:
            return int(value)
    raise click.BadParameter(
        f"{value!r} is no number of tokens from 1 up. To cut at the model's limit, put "
        "--truncate before another option, or -- between it and the texts"
    )


@click.command()
@click.argument("texts", metavar="[TEXT]...", nargs=-1)
@click.option(
    "-i",
    "--input",
    "source",
    type=click.File("rb"),
    help="Read texts from FILE; - is standard input.",
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
    help="Which column of CSV, TSV, JSON Lines or Parquet holds the texts.",
)
@options.model()
@options.file_type
@click.option(
    "--pooling",
    type=click.Choice([p.value for p in PoolingStrategy if p.value not in ("none", "rank")]),
    help="How token vectors become a text's vector.  [default: what the model's file says]",
)
@click.option(
    "--normalize",
    callback=_normalization,
    metavar="none|max_abs|l2|P",
    default="l2",
    show_default=True,
    help="How a vector is scaled; a number P makes its P-norm 1.",
)
@click.option(
    "--truncate",
    callback=_truncation,
    is_flag=False,
    flag_value=_MODEL_LIMIT,
    metavar="[TOKENS]",
    help="Cut a text that is too long, at TOKENS, special ones counted, or else at the model's "
    "limit.  [default: such a text is an error]",
)
@click.option(
    "--on-error",
    type=click.Choice(["raise", "nan"]),
    default="raise",
    show_default=True,
    help="nan goes on after a text that can't be embedded: NaN in .npy, null elsewhere.",
)
@options.accuracy
@options.threads
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="Write to FILE, which appears when all is done.",
)
@click.option(
    "-f",
    "--format",
    "output_format",
    type=click.Choice(list(vector_files.FORMATS)),
    help="[default: what the output's name ends in, else jsonl]",
)
@click.option(
    "--restart", is_flag=True, help="Compute everything anew, whatever an earlier run left."
)
@options.quiet
def embed(
    texts: tuple[str, ...],
    source: BinaryIO | None,
    input_format: str | None,
    column: str,
    model: str,
    file_type: str,
    pooling: str | None,
    normalize: NormalizationMode | PNorm,
    truncate: bool | int,
    on_error: str,
    accuracy: str,
    threads: int | None,
    output: str | None,
    output_format: str | None,
    restart: bool,
    quiet: bool,
) -> None:
    """Turn texts into vectors.

    The texts are the arguments, the lines of a file or of standard input, or a column of a CSV,
    TSV, JSON Lines or Parquet file. The result, in the texts' order, is

    \b
    jsonl    {"index": 0, "tokens": 6, "embedding": [...]} for each text
    npy      one float32 array of shape (texts, dimensions)
    parquet  the columns index, tokens and embedding

    Texts are read and vectors written 1,024 at a time, so files may be larger than memory. If a
    run with --input and --output is stopped, even killed, the same command goes on from there.

    \b
    embellama embed "a cat" "a dog"
    embellama embed -i lines.txt -o vectors.npy
    embellama embed -i articles.parquet --column body --truncate -o vectors.parquet
    sort -u lines.txt | embellama embed > vectors.jsonl
    """
    if texts and source is not None:
        raise click.UsageError("give texts as arguments or with --input, not both")
    if not texts and source is None:
        if sys.stdin.isatty():
            raise click.UsageError("no text: give some as arguments, with --input, or in a pipe")
        source = sys.stdin.buffer
    if output == "-":
        output = None
    output_format = output_format or vector_files.vector_format(output)
    if output_format != "jsonl" and output is None and sys.stdout.isatty():
        raise click.UsageError(f"{output_format} is not text for a terminal: use -o or a pipe")
    if input_format is None:
        input_format = "lines" if source is None else corpus.corpus_format(source.name)

    config = ModelConfig(
        catalog.resolve(model, file_type=file_type, progress=not quiet),
        pooling=None if pooling is None else PoolingStrategy(pooling),
        normalization=normalize,
        truncate=truncate,
        accuracy=Accuracy(accuracy),
        n_threads=threads,
    )
    job = None
    if source is not None and os.path.isfile(source.name):
        job = {
            "version": version("embellama"),
            "input": file_identity(source.name),
            "input format": input_format,
            "column": column,
            "model": file_identity(config.model_path),
            "pooling": pooling,
            "normalize": str(normalize),
            "truncate": truncate,
            "accuracy": accuracy,
            "on-error": on_error,
            "format": output_format,
        }
    with (
        _rows(output, output_format, config, job, restart=restart, quiet=quiet) as (
            embedding_model,
            rows,
        ),
    ):
        show = not quiet and sys.stderr.isatty()
        if source is None:
            read = Corpus.of_arguments(texts)
        else:
            read = Corpus.of_file(source, input_format, column, first=rows.n_rows, count=show)
        with tqdm.tqdm(
            total=read.total,
            initial=rows.n_rows,
            unit=" texts",
            file=sys.stderr,
            disable=not show,
            smoothing=0.05,
        ) as bar:
            failed = _embed(embedding_model, read, rows, bar, on_error)
    if failed and not quiet:
        print(
            f"embellama: {len(failed)} texts have no vector, the first because {failed[0]}",
            file=sys.stderr,
        )


@contextlib.contextmanager
def _rows(
    output: str | None,
    output_format: str,
    config: ModelConfig,
    job: dict[str, Any] | None,
    *,
    restart: bool,
    quiet: bool,
) -> Iterator[tuple[EmbeddingModel, Rows]]:
    """Load the model, and open where its rows go: a stream, or a file."""
    kind = vector_files.FORMATS[output_format]
    if output is None or (os.path.exists(output) and not os.path.isfile(output)):
        # A device or a named pipe is written, not replaced.
        try:
            with contextlib.ExitStack() as stack:
                stream = (
                    sys.stdout.buffer if output is None else stack.enter_context(open(output, "wb"))
                )
                model = stack.enter_context(EmbeddingModel(config))
                if kind is JsonLines:
                    yield model, JsonLines(stream, model.embedding_dimensions)
                    return
                file = stack.enter_context(tempfile.TemporaryFile())
                rows = kind(file, model.embedding_dimensions)
                file.seek(rows.start)
                yield model, rows
                rows.complete()
                rows.write_result(stream)
                stream.flush()
        except (EmbellamaError, BrokenPipeError):
            raise
        except OSError as error:
            raise OSError(not_written(output or "standard output", error)) from error
        return
    with partial_output(output, job, restart=restart) as partial:
        with EmbeddingModel(config) as model:
            rows = kind(partial.file, model.embedding_dimensions, partial.complete_window)
            rows.n_rows = partial.resume(rows.start)
            if rows.n_rows and not quiet:
                print(f"embellama: {rows.n_rows} texts were done before", file=sys.stderr)
            yield model, rows
        rows.complete()
        if not rows.is_result:
            with partial.other_result() as result:
                rows.write_result(result)


def _embed(
    model: EmbeddingModel, read: Corpus, rows: Rows, bar: tqdm.tqdm[Any], on_error: str
) -> list[str]:
    """Append the rows of all texts; return why some have none."""
    failed: list[str] = []
    while window := read.read(WINDOW_TEXTS):
        start = rows.n_rows

        def advance(done: int, total: int, start: int = start) -> None:
            bar.update(start + done - bar.n)

        try:
            result = model.embed_batch(
                window,
                details=True,
                on_error=on_error,
                progress=False if bar.disable else advance,
            )
        except (InvalidInputError, TokenizationError) as error:
            if error.index is None:
                raise
            index = start + error.index
            message = _in_terms_of_the_command(error, error.index, read.label(index))
            raise type(error)(message, index=index) from error
        failed += [
            _in_terms_of_the_command(reason, index, read.label(start + index))
            for index, reason in result.errors.items()
        ]
        rows.append(result)
    return failed


def _in_terms_of_the_command(error: Exception, index: int, label: str) -> str:
    # The library counts from 0 and from the window's first text, and names its own setting. The
    # label goes through a function because the name of a file may hold backslashes.
    message = re.sub(rf"\btext {index}\b", lambda _: label, str(error), count=1)
    return message.replace("truncate=True", "--truncate")
