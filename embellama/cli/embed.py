# SPDX-License-Identifier: Apache-2.0
"""``embellama embed``: a corpus in, a file of vectors out."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from typing import Literal

import click
import numpy as np
from numpy.typing import NDArray

from embellama.cli import options, vector_files
from embellama.cli.corpus import Corpus, Row, Selection, corpus_of, in_terms_of_the_command
from embellama.cli.model_settings import configuration, kept_dimensions, prompt_of, prompted
from embellama.cli.vector_files import WINDOW_TEXTS, Layout, VectorFile
from embellama.config import (
    Accuracy,
    NormalizationMode,
    PNorm,
    PoolingStrategy,
    parse_normalization,
)
from embellama.errors import ConfigurationError, EmbellamaError, InvalidInputError
from embellama.files.finished_rows import FinishedRows
from embellama.files.known_rows import computed_rows
from embellama.files.partial_output import not_written, partial_output
from embellama.model import EmbeddingModel
from embellama.progress import Bar, print_notice, progress_bar, stderr_is_terminal
from embellama.quantization import DTypeName, quantization_levels
from embellama.results import EmbeddingResult
from embellama.vector_settings import cut_at_tokens, vector_settings

__all__ = ["embed"]


def _normalization(
    context: click.Context, parameter: click.Parameter, value: str
) -> NormalizationMode | PNorm:
    try:
        return parse_normalization(value)
    except ConfigurationError as error:
        raise click.BadParameter(str(error)) from None


def _kept(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> list[str] | None:
    """The columns to keep; None for all of them."""
    if value == "all":
        return None
    return options.column_names(context, parameter, value) or []


@click.command()
@click.argument("texts", metavar="[TEXT]...", nargs=-1)
@options.input_options
@options.model()
@options.file_type
@click.option(
    "--pooling",
    type=click.Choice([p.value for p in PoolingStrategy if p.value not in ("none", "rank")]),
    help="How token vectors become a text's vector.  [default: as the model's file says]",
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
    is_flag=True,
    help="Cut a text that is too long at the model's limit.  [default: such a text is an error]",
)
@click.option(
    "--max-tokens",
    type=click.IntRange(min=1, max=2**31 - 1),
    metavar="N",
    help="Cut every text at N tokens, with the special ones.",
)
@options.prompt
@click.option(
    "--query",
    "prompt_kind",
    flag_value="query",
    help="Put the model's prompt for queries before each text.",
)
@click.option(
    "--document",
    "prompt_kind",
    flag_value="document",
    help="Put the model's prompt for documents before each text.",
)
@options.dtype(default="float32", show_default=True)
@options.ranges
@options.truncate_dim
@click.option(
    "--on-error",
    type=click.Choice(["raise", "nan"]),
    default="raise",
    show_default=True,
    help="With nan, a row that can't be read or embedded becomes NaN (null in JSON Lines).",
)
@options.accuracy
@options.threads
@click.option(
    "-o",
    "--output",
    type=options.UserPath(dir_okay=False),
    metavar="FILE",
    help="Write to FILE, which appears when it is complete.",
)
@click.option(
    "-f",
    "--format",
    "output_format",
    type=click.Choice(list(vector_files.FORMATS)),
    help="[default: by the output's suffix; jsonl without a suffix]",
)
@click.option(
    "--keep",
    callback=_kept,
    metavar="NAME[,NAME...]|all",
    help="Columns of the input to write beside the vectors, in JSON Lines and Parquet.",
)
@click.option(
    "--restart", is_flag=True, help="Compute everything again; drop the rows of an earlier run."
)
@options.quiet
def embed(
    texts: tuple[str, ...],
    sources: tuple[str, ...],
    input_format: str | None,
    columns: list[str],
    delimiter: str | None,
    model: str,
    file_type: str | None,
    pooling: str | None,
    normalize: NormalizationMode | PNorm,
    truncate: bool,
    max_tokens: int | None,
    prompt: str | None,
    prompt_kind: Literal["query", "document"] | None,
    dtype: DTypeName,
    ranges: NDArray[np.float32] | None,
    truncate_dim: int | None,
    on_error: Literal["raise", "nan"],
    accuracy: str,
    threads: int | None,
    output: str | None,
    output_format: str | None,
    keep: list[str] | None,
    restart: bool,
    quiet: bool,
) -> None:
    """Turn texts into vectors.

    The texts are the arguments, the lines of a file or of standard input, columns of CSV, TSV,
    JSON, JSON Lines or Parquet, or the files of a folder. The result, in the texts' order, is

    \b
    jsonl    {"index": 0, "tokens": 6, "embedding": [...]} for each text
    npy      one array of shape (texts, dimensions), float32 unless --dtype says otherwise
    parquet  the columns index, tokens and embedding

    Texts are read and vectors written 1,024 at a time, so files may be larger than memory. If a
    run with --output is stopped or killed, the same command continues it, even if the input or
    --truncate has changed: rows whose text is the same are kept.

    \b
    embellama embed "a cat" "a dog"
    embellama embed -i lines.txt -o vectors.npy
    embellama embed -i articles.parquet --column title,body --keep id -o vectors.parquet
    embellama embed -i questions.txt --query --dtype float16 -o questions.npy
    embellama embed -i 'parts/*.jsonl.gz' --truncate --on-error nan -o vectors.npy
    sort -u lines.txt | embellama embed > vectors.jsonl
    """
    if output == "-":
        output = None
    output_format = vector_files.vector_format(output, output_format)
    if output_format != "jsonl" and output is None and sys.stdout.isatty():
        raise click.UsageError(f"{output_format} is not text for a terminal: use -o or a pipe")
    kind = vector_files.FORMATS[output_format]
    if keep != [] and not kind.keeps_columns:
        raise click.UsageError(
            f"{output_format} has no place for the columns of --keep: write Parquet or JSON Lines"
        )
    if prompt is not None and prompt_kind is not None:
        raise click.UsageError(f"give --prompt or --{prompt_kind}, not both")
    if on_error == "nan" and not dtype.startswith("float"):
        raise click.UsageError(f"--on-error nan needs a --dtype that has NaN: {dtype} has none")
    if dtype == "uint8" and ranges is None:
        raise click.UsageError("--dtype uint8 needs --ranges")
    rows = corpus_of(texts, sources, input_format, Selection(columns, keep, delimiter))
    config = configuration(
        model,
        file_type=file_type,
        quiet=quiet,
        pooling=None if pooling is None else PoolingStrategy(pooling),
        normalization=normalize,
        truncate=max_tokens or truncate,
        accuracy=Accuracy(accuracy),
        n_threads=threads,
    )
    # On a terminal a bar would appear between the vectors.
    show = not quiet and stderr_is_terminal() and (output is not None or not sys.stdout.isatty())
    with EmbeddingModel(config) as embedding_model:
        if prompt_kind is not None:
            prompt = prompt_of(embedding_model, prompt_kind)
        n_dimensions = kept_dimensions(embedding_model, truncate_dim)
        quantization_levels(dtype, n_dimensions, ranges)  # raises what does not fit
        layout = Layout(
            n_dimensions,
            dtype,
            ranges,
            rows.types if isinstance(rows, Corpus) else {},
            {
                "model": model,
                "dimensions": n_dimensions,
                "pooling": embedding_model.pooling.value,
                "dtype": dtype,
                "ranges": None if ranges is None else ranges.tolist(),
                "prompt": prompt or "",
            },
        )
        job = _Job(embedding_model, prompt or "", layout, on_error, output, quiet=quiet)
        with job.destination(kind, restart=restart) as vector_file:
            job.run(rows, vector_file, show=show)
    if job.n_failed and not quiet:
        print_notice(f"{job.n_failed} texts have no vector, the first because {job.first_failure}")


class _Job:
    """The rows of an input on their way into a file of vectors.

    Attributes
    ----------
    n_failed : int
        How many texts have no vector.
    first_failure : str
        The reason for the first of them.
    """

    def __init__(
        self,
        model: EmbeddingModel,
        prompt: str,
        layout: Layout,
        on_error: Literal["raise", "nan"],
        output: str | None,
        *,
        quiet: bool,
    ) -> None:
        self._model = model
        self._prompt = prompt
        self._layout = layout
        self._on_error = on_error
        self._output = output
        self._quiet = quiet
        self._finished: FinishedRows | None = None
        self.n_failed = 0
        self.first_failure = ""

    @contextlib.contextmanager
    def destination(self, kind: type[VectorFile], *, restart: bool) -> Iterator[VectorFile]:
        """Open the output: a stream, or a file that gets its final name when it is complete."""
        output = self._output
        if output is None or (os.path.exists(output) and not os.path.isfile(output)):
            # A device or a named pipe is written to, not replaced by a file.
            with _written_to(output, kind, self._layout) as vector_file:
                yield vector_file
            return
        with partial_output(
            output,
            vector_settings(
                self._model, prompt=self._prompt, n_dimensions=self._layout.n_dimensions
            ),
            self._layout.n_dimensions,
            max_tokens=cut_at_tokens(self._model),
            restart=restart,
        ) as partial:
            self._finished = partial.finished
            if partial.finished.n_found and not self._quiet:
                print_notice(f"{partial.finished.n_found} texts were done before")
            try:
                with kind(partial.file, self._layout) as vector_file:
                    yield vector_file
            except KeyboardInterrupt:
                if not self._quiet and partial.finished.n_rows:
                    print_notice(
                        f"stopped; {partial.finished.n_rows} texts are done and kept in "
                        f"{partial.folder}: the same command goes on from there"
                    )
                raise

    def run(self, rows: Corpus | list[Row], vector_file: VectorFile, *, show: bool) -> None:
        """Append the rows of all texts."""
        total = None
        if show:
            total = rows.count() if isinstance(rows, Corpus) else len(rows)
        source = iter(rows)
        with progress_bar(show and total != 1, total, unit=" texts", smoothing=0.05) as bar:
            while window := list(itertools.islice(source, WINDOW_TEXTS)):
                n_good = len(window)
                if self._on_error == "raise":
                    n_good = next((i for i, row in enumerate(window) if row.text is None), n_good)
                if n_good:
                    self._append(window[:n_good], vector_file, bar)
                if n_good < len(window):
                    bad = window[n_good]
                    raise InvalidInputError(f"{bad.label} {bad.problem}", index=vector_file.n_rows)

    def _append(self, window: list[Row], vector_file: VectorFile, bar: Bar) -> None:
        start = vector_file.n_rows

        def compute(indices: list[int]) -> EmbeddingResult:
            done_before = start + len(window) - len(indices)
            with in_terms_of_the_command([window[i].label for i in indices]) as reword:
                result = self._model.embed_batch(
                    [prompted(self._prompt, window[i].text or "") for i in indices],
                    details=True,
                    truncate_dim=self._layout.n_dimensions,
                    on_error=self._on_error,
                    progress=lambda done, total: bar.advance_to(done_before + done),
                )
            for error in result.errors.values():
                reword(error)
            return result

        texts = [row.text for row in window]
        if self._finished is None:
            result = computed_rows(texts, self._layout.n_dimensions, compute)
        else:
            result = self._finished.complete(texts, compute)
        self._count_failures(window, result)
        vector_file.append(result, [row.kept for row in window])
        bar.advance_to(vector_file.n_rows)

    def _count_failures(self, window: list[Row], result: EmbeddingResult) -> None:
        for i, row in enumerate(window):
            if row.text is None or i in result.errors:
                self.n_failed += 1
                self.first_failure = self.first_failure or str(
                    result.errors.get(i, f"{row.label} {row.problem}")
                )


@contextlib.contextmanager
def _written_to(output: str | None, kind: type[VectorFile], layout: Layout) -> Iterator[VectorFile]:
    """Write to a stream, whose rows can't be used by a later run."""
    try:
        with contextlib.ExitStack() as stack:
            stream = (
                sys.stdout.buffer if output is None else stack.enter_context(open(output, "wb"))
            )
            file = stream if kind.streams else stack.enter_context(tempfile.TemporaryFile())
            with kind(file, layout) as vector_file:
                yield vector_file
            if not kind.streams:
                file.seek(0)
                shutil.copyfileobj(file, stream)
                stream.flush()
    except (EmbellamaError, BrokenPipeError):
        raise
    except OSError as error:
        raise OSError(not_written(output or "standard output", error)) from error
