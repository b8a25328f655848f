# SPDX-License-Identifier: Apache-2.0
"""The ``embellama`` command."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import itertools
import json
import os
import re
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO

import click
import numpy as np
import tqdm

from embellama import catalog
from embellama.config import ModelConfig, NormalizationMode, PNorm, PoolingStrategy
from embellama.errors import (
    EmbellamaError,
    InvalidInputError,
    TokenizationError,
)
from embellama.model import EmbeddingModel
from embellama.model_info import ModelInfo, model_info
from embellama.results import EmbeddingResult

__all__ = ["main"]

DEFAULT_MODEL = "all-MiniLM-L6-v2"

# Texts in memory at a time: enough for well-packed micro-batches.
_WINDOW_TEXTS = 1024

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
    if value.isdecimal() and int(value) > 0:
        return int(value)
    raise click.BadParameter(
        f"{value!r} is no number of tokens from 1 up. To cut at the model's limit, put "
        "--truncate before another option, or -- between it and the texts"
    )


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="embellama", message="%(prog)s %(version)s")
def command() -> None:
    """Text embeddings from any GGUF model.

    MODEL is a GGUF file, a known name (see `embellama models`) or a file on the Hugging Face Hub,
    org/repo/file.gguf. Known models are downloaded on first use and kept.
    """


@command.command()
@click.argument("texts", metavar="[TEXT]...", nargs=-1)
@click.option(
    "-i",
    "--input",
    "source",
    type=click.File("rb"),
    help="Read texts from FILE, one to a line; - is standard input.",
    metavar="FILE",
)
@click.option("-m", "--model", default=DEFAULT_MODEL, show_default=True, help="The model.")
@click.option(
    "--file-type",
    default="F16",
    show_default=True,
    help="Type of the weights of a known model, such as F32 or Q8_0.",
)
@click.option(
    "--pooling",
    type=click.Choice([p.value for p in PoolingStrategy if p.value not in ("none", "rank")]),
    help="How token vectors become a text's vector.  [default: what the file says]",
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
    help="Cut a text that is too long, at TOKENS or else at the model's limit. "
    "[default: such a text is an error]",
)
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    metavar="N",
    help="Processor cores to use.  [default: all]",
)
@click.option("-o", "--output", type=click.Path(dir_okay=False), help="Write to a file.")
@click.option(
    "-f",
    "--format",
    "output_format",
    type=click.Choice(["jsonl", "npy"]),
    help="[default: npy if the output file ends in .npy, else jsonl]",
)
@click.option("-q", "--quiet", is_flag=True, help="No progress bar.")
def embed(
    texts: tuple[str, ...],
    source: BinaryIO | None,
    model: str,
    file_type: str,
    pooling: str | None,
    normalize: NormalizationMode | PNorm,
    truncate: bool | int,
    threads: int | None,
    output: str | None,
    output_format: str | None,
    quiet: bool,
) -> None:
    """Turn texts into vectors.

    The texts are the arguments, or the lines of a file or of standard input. The result is JSON
    Lines, {"index": 0, "tokens": 6, "embedding": [...]} for each text, or with -f npy one float32
    array of shape (texts, dimensions). TOKENS counts special tokens too.

    \b
    embellama embed "a cat" "a dog"
    embellama embed -i lines.txt -o vectors.npy
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
    if output_format is None:
        output_format = "npy" if output is not None and output.endswith(".npy") else "jsonl"
    if output_format == "npy" and output is None and sys.stdout.isatty():
        raise click.UsageError("an .npy file is not text for a terminal: use -o or a pipe")

    config = ModelConfig(
        catalog.resolve(model, file_type=file_type, progress=not quiet),
        pooling=None if pooling is None else PoolingStrategy(pooling),
        normalization=normalize,
        truncate=truncate,
        n_threads=threads,
    )
    show = not quiet and sys.stderr.isatty()
    if source is None:
        inputs = _Inputs(iter(texts), lambda index: f"text {index + 1}", len(texts))
    else:
        inputs = _Inputs.lines_of(source, count=show)
    with (
        _output(output) as stream,
        EmbeddingModel(config) as embedding_model,
        tqdm.tqdm(total=inputs.total, unit="text", file=sys.stderr, disable=not show) as bar,
    ):
        results = _results(embedding_model, inputs, bar)
        if output_format == "jsonl":
            _write_json_lines(stream, results)
        elif output is not None and stream.seekable():
            _write_npy(stream, results, embedding_model.embedding_dimensions)
        else:
            whole = io.BytesIO()
            _write_npy(whole, results, embedding_model.embedding_dimensions)
            stream.write(whole.getbuffer())


@dataclasses.dataclass(frozen=True)
class _Inputs:
    """Texts, what to call the one at an index, and how many there are, if that is known."""

    texts: Iterator[str]
    label: Callable[[int], str]
    total: int | None

    @classmethod
    def lines_of(cls, file: BinaryIO, *, count: bool) -> _Inputs:
        name = "standard input" if file.name == "<stdin>" else file.name
        total = None
        if count and file.seekable():
            start = file.tell()
            total = sum(1 for _ in file)
            file.seek(start)

        def label(index: int) -> str:
            return f"line {index + 1} of {name}"

        return cls(_lines(file, label), label, total)


def _lines(file: BinaryIO, label: Callable[[int], str]) -> Iterator[str]:
    for index, line in enumerate(file):
        try:
            # A byte order mark is no part of the first text.
            text = line.decode("utf-8-sig" if index == 0 else "utf-8")
        except UnicodeDecodeError as error:
            raise InvalidInputError(
                f"{label(index)} is not UTF-8 ({error.reason} at byte {error.start + 1} of the "
                "line): convert the file, for example with iconv",
                index=index,
            ) from None
        yield text.removesuffix("\n").removesuffix("\r")


def _results(
    model: EmbeddingModel, inputs: _Inputs, bar: tqdm.tqdm[Any]
) -> Iterator[tuple[int, EmbeddingResult]]:
    start = 0

    def advance(done: int, total: int) -> None:
        bar.update(start + done - bar.n)

    while window := list(itertools.islice(inputs.texts, _WINDOW_TEXTS)):
        try:
            result = model.embed_batch(
                window, details=True, progress=False if bar.disable else advance
            )
        except (InvalidInputError, TokenizationError) as error:
            if error.index is None:
                raise
            index = start + error.index
            message = _in_terms_of_the_command(error, inputs.label(index))
            raise type(error)(message, index=index) from error
        yield start, result
        start += len(window)


def _in_terms_of_the_command(error: InvalidInputError | TokenizationError, label: str) -> str:
    # The library counts from 0 and from the window's first text, and names its own setting. The
    # label goes through a function because the name of a file may hold backslashes.
    message = re.sub(rf"\btext {error.index}\b", lambda _: label, str(error), count=1)
    return message.replace("truncate=True", "--truncate")


def _write_json_lines(stream: BinaryIO, results: Iterable[tuple[int, EmbeddingResult]]) -> None:
    for start, result in results:
        for index, (tokens, row) in enumerate(
            zip(result.token_counts, result.embeddings, strict=True), start
        ):
            # str of a numpy.float32 is the shortest text that reads back as the same float32.
            embedding = ", ".join(map(str, row))
            stream.write(
                f'{{"index": {index}, "tokens": {tokens}, "embedding": [{embedding}]}}\n'.encode()
            )
        stream.flush()


def _write_npy(
    stream: BinaryIO, results: Iterable[tuple[int, EmbeddingResult]], n_dimensions: int
) -> None:
    def header(n_rows: int) -> bytes:
        buffer = io.BytesIO()
        np.lib.format.write_array_header_1_0(
            buffer,
            {"descr": "<f4", "fortran_order": False, "shape": (n_rows, n_dimensions)},
        )
        return buffer.getvalue()

    # NumPy pads the header so that the count can be filled in afterwards
    # (numpy/lib/_format_impl.py, GROWTH_AXIS_MAX_DIGITS).
    stream.write(header(0))
    n_rows = 0
    for _, result in results:
        stream.write(result.embeddings.astype("<f4", copy=False).data)
        n_rows += len(result.embeddings)
    stream.seek(0)
    stream.write(header(n_rows))


@contextlib.contextmanager
def _output(path: str | None) -> Iterator[BinaryIO]:
    """Standard output, or a file that has its name only when it is complete."""
    if path is None:
        yield sys.stdout.buffer
        return
    target = os.path.realpath(path)
    if os.path.exists(target) and not os.path.isfile(target):
        # A device or a named pipe is written, not replaced.
        with open(target, "wb") as file:
            yield file
        return
    partial = f"{target}.partial-{os.getpid()}"
    try:
        file = open(partial, "xb")  # noqa: SIM115
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from None
    try:
        with file:
            yield file
        if os.path.exists(target):
            shutil.copymode(target, partial)
        os.replace(partial, target)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(partial)


@command.command()
@click.argument("model", default=DEFAULT_MODEL)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def info(model: str, as_json: bool) -> None:
    """Describe a model.

    MODEL is all-MiniLM-L6-v2 unless given.
    """
    described = _description(model_info(model))
    if as_json:
        click.echo(json.dumps(described, indent=2))
        return
    described["file size"] = _human_size(described["file size"])
    described["parameters"] = f"{described['parameters']:,}"
    described["tensor types"] = ", ".join(
        f"{kind} ({count})" for kind, count in described["tensor types"].items()
    )
    for name, value in described.items():
        if value is not None:
            click.echo(f"{name + ':':20}{value}")


def _description(info: ModelInfo) -> dict[str, Any]:
    source = catalog.provenance(info.path) or {}
    return {
        "name": source.get("name") or info.name,
        "file": str(info.path),
        "file size": info.file_size,
        "architecture": info.architecture,
        "dimensions": info.embedding_length,
        "context length": info.context_length,
        "pooling": info.pooling.value,
        "parameters": info.n_parameters,
        "tensor types": dict(Counter(info.tensor_types).most_common()),
        "licence": source.get("licence") or info.metadata.get("general.license"),
        "source": source.get("url"),
        "obtained from": source.get("obtained_from"),
    }


@command.command()
@click.argument("checkpoint", type=click.Path(exists=True, file_okay=False))
@click.argument("output", type=click.Path(dir_okay=False))
@click.option(
    "--type",
    "file_type",
    default="F16",
    show_default=True,
    help="Type of the weights, such as F32 or Q8_0.",
)
@click.option("--threads", type=click.IntRange(min=1), metavar="N", help="Processor cores to use.")
@click.option("-q", "--quiet", is_flag=True, help="No progress bar.")
def convert(checkpoint: str, output: str, file_type: str, threads: int | None, quiet: bool) -> None:
    """Turn a Hugging Face checkpoint into a GGUF file.

    CHECKPOINT is the directory with config.json and model.safetensors.
    """
    from embellama.convert import convert_checkpoint

    show = not quiet and sys.stderr.isatty()
    convert_checkpoint(checkpoint, output, file_type=file_type, n_threads=threads, progress=show)


@command.command()
def models() -> None:
    """List the known models and what the cache keeps of them."""
    cached = catalog.cached_files()
    known = catalog.known_models()
    for entry in known:
        click.echo(f"{entry.name}: {entry.dimensions} dimensions, {entry.licence}, {entry.url}")
        files = [file for file in cached if file.model == entry.name]
        for file in files:
            click.echo(f"  {_human_size(file.size):>10}  {file.path}")
        if not files:
            click.echo("  not in the cache; downloaded on first use")
    click.echo(f"Cache: {catalog.cache_directory()}")


def _human_size(n_bytes: int) -> str:
    return f"{n_bytes / 1e6:,.1f} MB"


def main() -> int:
    """Run the command with the arguments of the process.

    Returns
    -------
    int
        The exit status: 0; 1 for an error; 2 for wrong usage; 130 after Ctrl-C.
    """
    # Not click's own main(): it gives a closed pipe the status 1.
    try:
        status = _run(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:
        status = 0
    except (EmbellamaError, OSError) as error:
        message = " ".join(line.strip() for line in str(error).splitlines())
        print(f"embellama: error: {message}", file=sys.stderr)
        status = 1
    except KeyboardInterrupt:
        status = 130
    try:
        sys.stdout.flush()
    except OSError:
        # Python would try once more when it ends, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return status


def _run(arguments: list[str]) -> int:
    try:
        with command.make_context("embellama", arguments) as context:
            command.invoke(context)
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    return 0
