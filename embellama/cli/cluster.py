# SPDX-License-Identifier: Apache-2.0
"""``embellama cluster``: groups of vectors of like direction."""

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
from embellama.cli.stored_vectors import open_vectors
from embellama.files.working_folder import publish, waiting_notice, working_folder
from embellama.progress import progress_bar, stderr_is_terminal
from embellama.vectors.clustering import spherical_k_means

__all__ = ["cluster"]


@click.command()
@click.argument("vectors", type=options.UserPath(exists=True, dir_okay=False))
@click.option(
    "-k",
    "--clusters",
    "n_clusters",
    type=click.IntRange(min=1),
    required=True,
    metavar="K",
    help="How many clusters.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    metavar="N",
    help="Of the choice of the first centroids.",
)
@click.option(
    "-o",
    "--output",
    type=options.UserPath(dir_okay=False),
    metavar="FILE.npy",
    help="Write the cluster of each row, an array of int64, instead of printing.",
)
@row_options
@options.quiet
def cluster(
    vectors: str,
    n_clusters: int,
    seed: int,
    output: str | None,
    dtype: str | None,
    ranges: NDArray[np.float32] | None,
    texts: str | None,
    keep: list[str] | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Group the rows of VECTORS by spherical k-means.

    A row belongs to the centroid with the largest cosine. The same file and seed give the same
    clusters, numbered by their first row. A line of the result has the cluster, the cosine to its
    centroid, the index of the row, counted from 0, and its columns. The lines are in the order of
    the rows; `sort -sn` puts those of a cluster together.

    \b
    embellama cluster articles.parquet -k 20 --keep title
    embellama cluster articles.parquet -k 20 --json | jq -r 'select(.cluster == 3).title'
    embellama cluster vectors.npy -k 20 -o labels.npy
    """
    if output is not None and PurePath(output).suffix.lower() != ".npy":
        raise click.UsageError(f"{output}: labels are written as .npy")
    stored = open_vectors(vectors, dtype, ranges)
    shown = columns_of(stored, texts, keep, ("cluster", "index", "score"))
    with progress_bar(not quiet and stderr_is_terminal(), None, unit=" rounds") as bar:
        labels, scores, _ = spherical_k_means(
            stored, n_clusters, kind=stored.kind, seed=seed, progress=bar.advance_to
        )
    if output is not None:
        target = Path(os.path.realpath(output))
        busy = waiting_notice(f"writes {output}", show=not quiet)
        with working_folder(target, busy) as folder:
            with (folder / "result").open("wb") as file:
                np.save(file, labels)
            publish(folder / "result", target)
        return
    for start in range(0, stored.n_rows, BLOCK_ROWS):
        block = np.arange(start, min(start + BLOCK_ROWS, stored.n_rows))
        for index, record in zip(block.tolist(), shown.records(block), strict=True):
            label, score = int(labels[index]), float(scores[index])
            if as_json:
                own = {"index": index, "cluster": label, "score": round(score, 6)}
                print_json({**own, **record})
            else:
                print_plain(f"{label:6}  {score:8.3f}  {index:6}", record)
