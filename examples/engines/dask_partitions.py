# SPDX-License-Identifier: Apache-2.0
"""Dask: map_partitions, a model for each worker process.

``dask_partitions.py SOURCE OUTPUT [MODEL]`` reads a folder of Parquet and writes one with the
columns embedding, n_tokens, truncated and error. Dask keeps no record of what is done: a partition
that failed is computed again as a whole.
"""

from __future__ import annotations

import sys

import dask
import dask.dataframe
import pandas
import pyarrow

from embellama.arrow import process_embedder


def with_vectors(frame: pandas.DataFrame, model: str) -> pandas.DataFrame:
    """Return a partition with its vectors; they stay columns of Arrow."""
    # As many threads as a worker has cores.
    embedder = process_embedder(model, n_threads=1)
    table = embedder(pyarrow.Table.from_pandas(frame, preserve_index=False))
    return table.to_pandas(types_mapper=pandas.ArrowDtype).set_index(frame.index)


def main(source: str, output: str, model: str = "all-MiniLM-L6-v2") -> None:
    """Write the rows of a source with their vectors."""
    frame = dask.dataframe.read_parquet(source, split_row_groups=True)
    # Dask calls it with no rows to learn the columns.
    columns = with_vectors(frame._meta, model)
    vectors = frame.map_partitions(with_vectors, model, meta=columns)
    schema = pyarrow.Schema.from_pandas(columns, preserve_index=False)
    # Processes, not threads: each has a model, and the file's pages are shared between them.
    with dask.config.set(scheduler="processes", num_workers=2):
        vectors.to_parquet(output, write_index=False, schema=schema)


if __name__ == "__main__":
    main(*sys.argv[1:])
