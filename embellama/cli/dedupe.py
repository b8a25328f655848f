# SPDX-License-Identifier: Apache-2.0
"""``embellama dedupe``: a file of vectors without near-duplicates."""

from __future__ import annotations

import os
from pathlib import Path, PurePath

import click
import numpy as np
from numpy.typing import NDArray

from embellama.cli import options
from embellama.cli.shown_rows import (
    BLOCK_ROWS,
    columns_of,
    print_json,
    print_plain,
    row_options,
)
from embellama.cli.stored_vectors import ParquetRows, StoredVectors, open_vectors
from embellama.files.working_folder import publish, waiting_notice, working_folder
from embellama.progress import progress_bar, stderr_is_terminal
from embellama.vectors.near_duplicates import NearDuplicates, first_alike

__all__ = ["dedupe"]


@click.command()
@click.argument("vectors", type=options.UserPath(exists=True, dir_okay=False))
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1, min_open=True),
    default=0.9,
    show_default=True,
    metavar="S",
    help="Rows that are at least this similar say the same.",
)
@click.option(
    "--groups",
    "as_groups",
    is_flag=True,
    help="Print the rows that are dropped instead, each with the row that it repeats.",
)
@click.option(
    "-o",
    "--output",
    type=options.UserPath(dir_okay=False),
    metavar="FILE",
    help="Write the kept rows to FILE, in the format of VECTORS, instead of printing them.",
)
@row_options
@options.quiet
def dedupe(
    vectors: str,
    threshold: float,
    as_groups: bool,
    output: str | None,
    dtype: str | None,
    ranges: NDArray[np.float32] | None,
    texts: str | None,
    keep: list[str] | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Drop rows of VECTORS that nearly repeat an earlier one.

    The first row of each group is kept: a row is dropped if a kept row before it has a cosine of
    at least the threshold; for rows of bits it is the share of equal bits. All pairs are compared,
    so the time grows with the square of the rows. A line of the result has the index of a row,
    counted from 0, and its columns.

    \b
    embellama dedupe articles.parquet --threshold 0.95 -o unique.parquet
    embellama dedupe articles.parquet --groups
    embellama dedupe vectors.npy --texts lines.txt --json | jq -r .text > unique.txt
    """
    if output is not None and as_groups:
        raise click.UsageError("--groups prints: give it or --output, not both")
    if output is not None and PurePath(output).suffix.lower() != PurePath(vectors).suffix.lower():
        raise click.UsageError(
            f"{output} must end in {PurePath(vectors).suffix}, as {vectors} does"
        )
    stored = open_vectors(vectors, dtype, ranges)
    shown = columns_of(stored, texts, keep, ("index", "first", "score"))
    with progress_bar(
        not quiet and stderr_is_terminal(), stored.n_rows, unit=" rows", smoothing=0
    ) as bar:
        result = first_alike(stored, threshold=threshold, kind=stored.kind, progress=bar.advance_to)
    is_kept = result.first == np.arange(stored.n_rows)
    if output is not None:
        _write(stored, is_kept, output, quiet=quiet)
        return
    listed = np.flatnonzero(~is_kept if as_groups else is_kept)
    if as_groups:
        # The rows of a group one after the other.
        listed = listed[np.argsort(result.first[listed], kind="stable")]
    for start in range(0, len(listed), BLOCK_ROWS):
        block = listed[start : start + BLOCK_ROWS]
        for index, record in zip(block.tolist(), shown.records(block), strict=True):
            _print(index, record, result if as_groups else None, as_json=as_json)


def _print(
    index: int, record: dict[str, object], result: NearDuplicates | None, *, as_json: bool
) -> None:
    if result is None:
        if as_json:
            print_json({"index": index, **record})
        else:
            print_plain(f"{index:6}", record)
        return
    first, score = int(result.first[index]), float(result.scores[index])
    if as_json:
        print_json({"index": index, "first": first, "score": round(score, 6), **record})
    else:
        print_plain(f"{score:8.3f}  {first:6}  {index:6}", record)


def _write(stored: StoredVectors, is_kept: NDArray[np.bool_], output: str, *, quiet: bool) -> None:
    target = Path(os.path.realpath(output))
    busy = waiting_notice(f"writes {output}", show=not quiet)
    with working_folder(target, busy) as folder:
        made = folder / "result"
        if isinstance(stored.rows, ParquetRows):
            _write_parquet(stored.rows, is_kept, made)
        else:
            _write_npy(stored, is_kept, made)
        publish(made, target)


def _write_npy(stored: StoredVectors, is_kept: NDArray[np.bool_], made: Path) -> None:
    shape = (int(is_kept.sum()), stored.n_dims)
    with made.open("wb") as file:
        np.lib.format.write_array_header_1_0(
            file,
            {
                "descr": np.lib.format.dtype_to_descr(stored.rows.numpy_type.newbyteorder("=")),
                "fortran_order": False,
                "shape": shape,
            },
        )
        start = 0
        for rows in stored.rows.read(BLOCK_ROWS):
            file.write(np.ascontiguousarray(rows[is_kept[start : start + len(rows)]]).data)
            start += len(rows)


def _write_parquet(rows: ParquetRows, is_kept: NDArray[np.bool_], made: Path) -> None:
    pyarrow = options.import_pyarrow()
    n_written = 0
    with pyarrow.parquet.ParquetWriter(made, rows.parquet.schema_arrow) as writer:
        for start, batch in rows.copied():
            kept = batch.filter(pyarrow.array(is_kept[start : start + len(batch)]))
            place = kept.schema.get_field_index("index")
            if place >= 0 and pyarrow.types.is_int64(kept.schema.field(place).type):
                # The index is that of the row in its own file.
                index = pyarrow.array(np.arange(n_written, n_written + len(kept)))
                kept = kept.set_column(place, kept.schema.field(place), index)
            writer.write_batch(kept)
            n_written += len(kept)
