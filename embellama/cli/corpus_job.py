# SPDX-License-Identifier: Apache-2.0
"""``embellama corpus``: the vectors of a corpus in many files, by many processes."""

from __future__ import annotations

import json

import click

from embellama.cli import options
from embellama.config import Accuracy, ModelConfig
from embellama.progress import print_notice, progress_bar, stderr_is_terminal
from embellama.quantization import DTYPES

__all__ = ["corpus"]


def _shard(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> tuple[int, int]:
    if value is None:
        return 1, 1
    part, _, n_parts = value.partition("/")
    if not (part.isdecimal() and n_parts.isdecimal() and 1 <= int(part) <= int(n_parts)):
        raise click.BadParameter(f"{value!r} is no part such as 1/8, counted from 1")
    return int(part), int(n_parts)


@click.command()
@click.argument("sources", metavar="SOURCE...", nargs=-1, required=True)
@click.option(
    "-o",
    "--output",
    required=True,
    metavar="FOLDER",
    help="Where to write, a folder or a URL that fsspec knows.",
)
@options.model()
@options.file_type
@click.option(
    "--column", default="text", show_default=True, metavar="NAME", help="The column of the texts."
)
@click.option(
    "--keep",
    callback=options.column_names,
    metavar="NAME[,NAME...]",
    help="Columns to write beside the vectors.",
)
@click.option(
    "--dtype",
    type=click.Choice([name for name in DTYPES if name != "uint8"]),
    default="float32",
    show_default=True,
    help="Type of the vectors.",
)
@click.option(
    "--truncate-dim", type=click.IntRange(min=1), metavar="N", help="Keep N dimensions only."
)
@click.option(
    "--input-type",
    type=click.Choice(["query", "document"]),
    help="Put the model's prompt for such texts before each.",
)
@click.option("--truncate", is_flag=True, help="Cut a text that is too long at the model's limit.")
@click.option(
    "--max-tokens",
    type=click.IntRange(min=1, max=2**31 - 1),
    metavar="N",
    help="Cut every text at N tokens, with the special ones.",
)
@options.accuracy
@options.threads
@click.option(
    "--shard",
    callback=_shard,
    metavar="I/N",
    help="Do the I-th of N parts of the job, counted from 1.",
)
@click.option("--manifest", is_flag=True, help="Compute nothing; print what is done.")
@click.option("--verify", is_flag=True, help="As --manifest, and compare all vectors' checksums.")
@options.quiet
def corpus(
    sources: tuple[str, ...],
    output: str,
    model: str,
    file_type: str | None,
    column: str,
    keep: list[str] | None,
    dtype: str,
    truncate_dim: int | None,
    input_type: str | None,
    truncate: bool,
    max_tokens: int | None,
    accuracy: str,
    threads: int | None,
    shard: tuple[int, int],
    manifest: bool,
    verify: bool,
    quiet: bool,
) -> None:
    """Turn a corpus into files of vectors, on one machine or on many.

    SOURCE is a file of Parquet, JSON Lines (.jsonl) or lines (.txt), a quoted pattern, a folder, or
    a URL such as s3://bucket/folder. Each row group of Parquet, and each other file, becomes one
    Parquet file in FOLDER, which appears when it is complete. What is there is not computed again,
    so the same command goes on after any crash, and any number of processes may share the work:

    \b
    embellama corpus articles/ -o vectors
    seq 8 | xargs -P 8 -I{} embellama corpus articles/ -o vectors --threads 2 --shard {}/8
    embellama corpus articles/ -o vectors --shard $SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT

    A row that has no vector says why in its column error. One line of JSON on standard output says
    what was done; with --manifest there is one for each unit, and the status is 1 if any of them is
    not done.
    """
    options.import_pyarrow()
    from embellama import catalog
    from embellama.corpus import CorpusJob

    job = CorpusJob(
        sources,
        output,
        ModelConfig(
            catalog.resolve(model, file_type=file_type, progress=not quiet),
            truncate=max_tokens or truncate,
            accuracy=Accuracy(accuracy),
            n_threads=threads,
        ),
        column=column,
        keep=keep or (),
        dtype=dtype,
        truncate_dim=truncate_dim,
        input_type=input_type,
    )
    if manifest or verify:
        entries = job.manifest(verify=verify)
        for entry in entries:
            print(json.dumps(entry))
        if any(entry["status"] != "done" for entry in entries):
            raise click.exceptions.Exit(1)
        return
    with progress_bar(not quiet and stderr_is_terminal(), None, unit=" units") as bar:
        reports = job.run(shard=shard, progress=lambda done, total: bar.advance_to(done))
    counts = {
        "units": len(reports),
        "rows": sum(report.rows for report in reports),
        "computed": sum(report.computed for report in reports),
        "errors": sum(report.errors for report in reports),
    }
    print(json.dumps(counts))
    if counts["errors"] and not quiet:
        print_notice(f"{counts['errors']} texts have no vector; the column error says why")
