# SPDX-License-Identifier: Apache-2.0
"""The command with all its subcommands, and how it reports errors in a shell."""

from __future__ import annotations

import os
import sys
from typing import IO

import click
from click.shell_completion import shell_complete

from embellama.cli.bench import bench
from embellama.cli.cluster import cluster
from embellama.cli.corpus_job import corpus
from embellama.cli.dedupe import dedupe
from embellama.cli.embed import embed
from embellama.cli.model_files import convert, info, models, pull, rm
from embellama.cli.rerank import rerank
from embellama.cli.search import search, similar
from embellama.errors import EmbellamaError

__all__ = ["main"]

_COMPLETION = "_EMBELLAMA_COMPLETE"  # as click calls it


class _InOrder(click.Group):
    def list_commands(self, context: click.Context) -> list[str]:
        return list(self.commands)


@click.group(
    cls=_InOrder,
    no_args_is_help=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="embellama", message="%(prog)s %(version)s")
def command() -> None:
    """Text embeddings from any GGUF model.

    \b
    embellama embed "Hello, world!"
    embellama embed -i texts.txt -o vectors.npy

    A model is a GGUF file, a known name (see `embellama models`) or a repository of the Hugging
    Face Hub: org/repo, org/repo:Q8_0 or org/repo/file.gguf. What is not here is downloaded on first
    use and kept.
    """


for part in (
    embed,
    corpus,
    search,
    similar,
    dedupe,
    cluster,
    rerank,
    bench,
    info,
    models,
    pull,
    rm,
    convert,
):
    command.add_command(part)


def main() -> int:
    """Run the command with the arguments of the process.

    Returns
    -------
    int
        The exit status: 0; 1 for an error; 2 for wrong usage; 130 after Ctrl-C.
    """
    _replace_closed_streams()
    # click's own main() is not used, because it exits with 1 when a pipe is closed.
    try:
        status = _run(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:
        status = 0
    except (EmbellamaError, OSError) as error:
        _print_error(str(error))
        status = 1
    except KeyboardInterrupt:
        status = 130
    try:
        sys.stdout.flush()
    except OSError:
        # Otherwise Python flushes again when it ends, and reports the error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return status


def _print_error(message: str) -> None:
    line = " ".join(line.strip() for line in message.splitlines())
    print(f"embellama: error: {line}", file=sys.stderr)


def _replace_closed_streams() -> None:
    """Replace each closed standard stream with one that fails when it is used.

    Python sets a closed stream to None. The replacement also keeps the descriptor occupied: if a
    file that is opened later got it, llama.cpp would print into that file. Writing to standard
    error does not fail; its text is lost.
    """
    for name, mode, flags in (
        ("stdin", "r", os.O_WRONLY),
        ("stdout", "w", os.O_RDONLY),
        ("stderr", "w", os.O_WRONLY),
    ):
        if getattr(sys, name) is None:
            setattr(sys, name, _null_stream(name, mode, flags))


def _null_stream(name: str, mode: str, flags: int) -> IO[str]:
    return open(f"<{name}>", mode, opener=lambda *_: os.open(os.devnull, flags))


def _run(arguments: list[str]) -> int:
    # The script that a shell runs for completion asks so.
    if instruction := os.environ.get(_COMPLETION):
        return shell_complete(command, {}, "embellama", _COMPLETION, instruction)
    try:
        with command.make_context("embellama", arguments) as context:
            command.invoke(context)
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else "embellama"
        _print_error(f"{error.format_message().rstrip('.')}; `{path} --help` tells more")
        return error.exit_code
    except click.ClickException as error:
        _print_error(error.format_message())
        return error.exit_code
    return 0
