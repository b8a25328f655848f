# SPDX-License-Identifier: Apache-2.0
"""Spark: mapInArrow, a model for each Python worker process.

``spark_map_in_arrow.py SOURCE OUTPUT [MODEL]`` reads a folder of Parquet and writes one with the
columns embedding, n_tokens, truncated and error. Spark has no lists of fixed size, so a vector is
an array of floats.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pyarrow
from pyspark.sql import SparkSession
from pyspark.sql.types import (
    ArrayType,
    BooleanType,
    FloatType,
    IntegerType,
    StringType,
    StructField,
    StructType,
)

from embellama.arrow import process_embedder

N_THREADS = 2  # as spark.task.cpus: one task at a time has the cores of a worker

NEW_COLUMNS = [
    StructField("embedding", ArrayType(FloatType())),
    StructField("n_tokens", IntegerType()),
    StructField("truncated", BooleanType()),
    StructField("error", StringType()),
]


def main(source: str, output: str, model: str = "all-MiniLM-L6-v2") -> None:
    """Write the rows of a source with their vectors."""

    def with_vectors(batches: Iterator[pyarrow.RecordBatch]) -> Iterator[pyarrow.RecordBatch]:
        # Workers that are reused keep it for the next task.
        embedder = process_embedder(model, n_threads=N_THREADS)
        for batch in batches:
            table = embedder(pyarrow.Table.from_batches([batch]))
            at = table.schema.get_field_index("embedding")
            lists = table["embedding"].cast(pyarrow.list_(pyarrow.float32()))
            yield from table.set_column(at, "embedding", lists).to_batches()

    session = (
        SparkSession.builder.master("local[2]")
        .config("spark.task.cpus", str(N_THREADS))
        .config("spark.python.worker.reuse", "true")
        .config("spark.sql.execution.arrow.maxRecordsPerBatch", "8192")
        .config("spark.ui.enabled", "false")
        .getOrCreate()
    )
    frame = session.read.parquet(source)
    schema = StructType([*frame.schema.fields, *NEW_COLUMNS])
    frame.mapInArrow(with_vectors, schema).write.parquet(output)
    session.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
