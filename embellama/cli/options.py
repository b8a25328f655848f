# SPDX-License-Identifier: Apache-2.0
"""Options that several parts of the command take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from embellama.config import Accuracy
from embellama.errors import EmbellamaError

__all__ = [
    "DEFAULT_MODEL",
    "MissingExtraError",
    "accuracy",
    "file_type",
    "import_pyarrow",
    "model",
    "quiet",
    "threads",
]

_Function = TypeVar("_Function", bound=Callable[..., Any])

DEFAULT_MODEL = "all-MiniLM-L6-v2"


class MissingExtraError(EmbellamaError):
    """What was asked for needs a package that is not installed."""


def import_pyarrow() -> Any:
    """Import pyarrow with its Parquet part, or say how to get it."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise MissingExtraError(
            "Parquet needs pyarrow: pip install pyarrow, or embellama with its extra [parquet]"
        ) from None
    return pyarrow


def model(**settings: Any) -> Callable[[_Function], _Function]:
    """``-m MODEL``; `settings` as click.option takes them."""
    if not settings:
        settings = {"default": DEFAULT_MODEL, "show_default": True}
    return click.option("-m", "--model", help="The model.", **settings)


file_type = click.option(
    "--file-type",
    default="F16",
    show_default=True,
    help="Type of the weights of a known model, such as F32 or Q8_0.",
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
