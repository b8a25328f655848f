# SPDX-License-Identifier: Apache-2.0
"""Options that several subcommands have."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable
from typing import Any, TypeVar

import click
import numpy as np
from click.shell_completion import CompletionItem
from numpy.typing import NDArray

from embellama import catalog
from embellama.config import Accuracy
from embellama.errors import EmbellamaError
from embellama.quantization import DTYPES

__all__ = [
    "DEFAULT_MODEL",
    "INPUT_FORMATS",
    "MODEL_VARIABLE",
    "MissingExtraError",
    "UserPath",
    "accuracy",
    "column_names",
    "dtype",
    "file_type",
    "import_pyarrow",
    "input_options",
    "model",
    "prompt",
    "quiet",
    "ranges",
    "threads",
    "truncate_dim",
]

_Function = TypeVar("_Function", bound=Callable[..., Any])

DEFAULT_MODEL = "all-MiniLM-L6-v2"
MODEL_VARIABLE = "EMBELLAMA_MODEL_PATH"  # as for EngineConfig.from_env
INPUT_FORMATS = ("lines", "nul", "document", "csv", "tsv", "json", "jsonl", "parquet")


class UserPath(click.Path):
    """A path in which ``~`` means the home directory, also if no shell has expanded it."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Expand the path, then check it."""
        return super().convert(os.path.expanduser(value), param, ctx)


class MissingExtraError(EmbellamaError):
    """A requested feature needs a package that is not installed."""


def import_pyarrow() -> Any:
    """Import pyarrow with its Parquet part, or say how to get it."""
    try:
        import pyarrow
        import pyarrow.compute
        import pyarrow.parquet
    except ImportError:
        raise MissingExtraError(
            "Parquet needs pyarrow: pip install pyarrow, or embellama with its extra [parquet]"
        ) from None
    return pyarrow


def column_names(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> list[str] | None:
    """Names separated by commas; a name that contains a comma is quoted as in CSV."""
    if value is None:
        return None
    names = next(csv.reader([value]), [])
    if not all(names) or not names:
        raise click.BadParameter(f"{value!r} holds an empty name")
    return names


def _delimiter(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    if value is None:
        return None
    mark = {"tab": "\t", "\\t": "\t"}.get(value, value)
    if len(mark) != 1 or mark in '"\r\n':
        raise click.BadParameter(f"{value!r} is neither one character nor tab")
    return mark


_INPUT_OPTIONS = (
    click.option(
        "-i",
        "--input",
        "sources",
        multiple=True,
        metavar="FILE",
        help="Read from FILE: a file, also compressed (.gz, .bz2, .xz, .zst), a quoted pattern "
        "such as 'part-*.csv', a folder (each file is a text), or - for standard input. May be "
        "given several times.",
    ),
    click.option(
        "--input-format",
        type=click.Choice(INPUT_FORMATS),
        help="With lines each line is a text, with nul what ends with NUL (sort -z), with document "
        "each file.  [default: by FILE's "
        "suffix; lines without a suffix]",
    ),
    click.option(
        "--column",
        "columns",
        callback=column_names,
        default="text",
        show_default=True,
        metavar="NAME[,NAME...]",
        help="Which columns of CSV, TSV, JSON, JSON Lines or Parquet hold the text; several are "
        "joined by line breaks.",
    ),
    click.option(
        "--delimiter",
        callback=_delimiter,
        metavar="CHARACTER",
        help="The delimiter between the cells of CSV, such as ';' or tab.  [default: a comma; in "
        "TSV a tab]",
    ),
)


def input_options(function: _Function) -> _Function:
    """``--input`` and the options that say how to read it."""
    for option in reversed(_INPUT_OPTIONS):
        function = option(function)
    return function


def model(**settings: Any) -> Callable[[_Function], _Function]:
    """``-m MODEL``; `settings` as click.option takes them."""
    if not settings:
        settings = {
            "default": DEFAULT_MODEL,
            "show_default": True,
            "envvar": MODEL_VARIABLE,
            "show_envvar": True,
        }
    settings = {"help": "The model.", **settings}
    return click.option("-m", "--model", shell_complete=_model_names, **settings)


def _model_names(
    context: click.Context, parameter: click.Parameter, begun: str
) -> list[CompletionItem]:
    """Known models, and files of the current folder, for completion in a shell."""
    names = [entry.name for entry in catalog.known_models()]
    known = [CompletionItem(name) for name in names if name.lower().startswith(begun.lower())]
    return [*known, CompletionItem(begun, type="file")]


def _ranges(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> NDArray[np.float32] | None:
    if value is None:
        return None
    try:
        with np.errstate(over="ignore"):
            ranges = np.asarray(np.load(value, allow_pickle=False), dtype=np.float32)
    except (OSError, ValueError, TypeError, EOFError) as error:
        raise click.BadParameter(f"{value} is no .npy file of numbers: {error}") from None
    if ranges.ndim != 2 or len(ranges) != 2 or not np.isfinite(ranges).all():
        raise click.BadParameter(
            f"{value} must hold finite numbers of shape (2, dimensions), not {ranges.shape}"
        )
    return ranges


def dtype(**settings: Any) -> Callable[[_Function], _Function]:
    """``--dtype``; `settings` as click.option takes them."""
    settings = {"help": "The type of the rows.", **settings}
    return click.option("--dtype", type=click.Choice(list(DTYPES)), **settings)


ranges = click.option(
    "--ranges",
    type=UserPath(exists=True, dir_okay=False),
    callback=_ranges,
    metavar="FILE",
    help="For int8 and uint8: a .npy file with the least and the largest value of each dimension, "
    "shape (2, dimensions). uint8 needs it.",
)
prompt = click.option("--prompt", metavar="TEXT", help="Put TEXT before each text.")
truncate_dim = click.option(
    "--truncate-dim",
    type=click.IntRange(min=1),
    metavar="N",
    help="Keep the first N dimensions, for models trained for it, scaled again.",
)
file_type = click.option(
    "--file-type",
    help="Type of the weights, such as F32 or Q8_0.  [default: F16, where the model has it]",
)
accuracy = click.option(
    "--accuracy",
    type=click.Choice([accuracy.value for accuracy in Accuracy]),
    default=Accuracy.FAST.value,
    show_default=True,
    help="exact computes encoders in float32 throughout.",
)
threads = click.option(
    "--threads",
    type=click.IntRange(min=1),
    metavar="N",
    help="Processor cores to use.  [default: those this process may use]",
)
quiet = click.option("-q", "--quiet", is_flag=True, help="No progress bar and no notices.")
