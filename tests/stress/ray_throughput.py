# SPDX-License-Identifier: Apache-2.0
"""How fast texts become vectors through Ray Data, beside a plain loop with as many threads.

Both read Parquet and write Parquet. Each round runs one after the other, on a small corpus and on a
larger one; the difference leaves out what starts: actors, workers, the model. Prints texts a second
of each, texts for each second that a processor of the machine worked, and the ratios. Nothing else
should run meanwhile. Usage: ray_throughput.py [ROUNDS [THREADS [ROWS]]]
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import ray
from numpy.typing import NDArray

from embellama import ModelConfig
from embellama.arrow import TableEmbedder
from embellama.ray import BATCH_ROWS, embed

SMALL, LARGE = 1, 5  # in batches
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
WORDS = "the cat sat on a mat while rates of interest rose again and nobody in town knew".split()
MODEL = "all-MiniLM-L6-v2"


def write_corpus(path: Path, n_rows: int) -> None:
    texts = [
        " ".join(WORDS[(i * 7 + j * (1 + i % 5)) % len(WORDS)] for j in range(8 + i % 33))
        for i in range(n_rows)
    ]
    table = pyarrow.table({"id": range(n_rows), "text": texts})
    pyarrow.parquet.write_table(table, path, row_group_size=BATCH_ROWS)


def processor_seconds() -> float:
    """What all processors of the machine have worked; an ended process counts too."""
    # user, nice, system, idle, iowait, irq, softirq: proc(5)
    fields = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:8]]
    return (sum(fields) - fields[3] - fields[4]) / CLOCK_TICKS


def loop(source: Path, output: Path, n_threads: int, n_rows: int) -> None:
    embedder = TableEmbedder(ModelConfig(MODEL, n_threads=n_threads))
    writer = None
    for batch in pyarrow.parquet.ParquetFile(source).iter_batches(n_rows):
        table = embedder(pyarrow.Table.from_batches([batch]))
        writer = writer or pyarrow.parquet.ParquetWriter(output, table.schema)
        writer.write_table(table)
    assert writer is not None
    writer.close()
    embedder.model.unload()


def through_ray(source: Path, output: Path, n_threads: int, n_rows: int) -> None:
    dataset = ray.data.read_parquet(str(source))
    vectors = embed(dataset, MODEL, actors=1, num_cpus=1, n_threads=n_threads, batch_size=n_rows)
    vectors.write_parquet(str(output))


def spent(run: Callable[[Path, Path, int, int], None], source: Path, *sizes: int) -> NDArray[Any]:
    """Return seconds of the clock, and of processors."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter(), processor_seconds()
        run(source, Path(folder) / "vectors", *sizes)
        return np.array([time.perf_counter() - start[0], processor_seconds() - start[1]])


def main() -> None:
    rounds, n_threads, n_rows = [*map(int, sys.argv[1:]), *(3, 2, BATCH_ROWS)[len(sys.argv) - 1 :]]
    os.environ["RAY_DATA_DISABLE_PROGRESS_BARS"] = "1"
    # A CPU more than threads: reading takes little, and Ray keeps nothing to its cores.
    ray.init(num_cpus=n_threads + 1, include_dashboard=False, logging_level="warning")
    n_texts = (LARGE - SMALL) * n_rows
    with tempfile.TemporaryDirectory() as folder:
        small, large = Path(folder) / "small.parquet", Path(folder) / "large.parquet"
        write_corpus(small, SMALL * n_rows)
        write_corpus(large, LARGE * n_rows)
        ratios = []
        for _ in range(rounds):
            rates = [
                n_texts
                / (spent(run, large, n_threads, n_rows) - spent(run, small, n_threads, n_rows))
                for run in (loop, through_ray)
            ]
            ratios.append(rates[1] / rates[0])
            shown = zip(("loop", "ray", "ratio"), (*rates, ratios[-1]), strict=True)
            print(
                json.dumps({name: values.round(3).tolist() for name, values in shown}), flush=True
            )
    print("median ratios by the clock and by processor time:", np.median(ratios, axis=0))


if __name__ == "__main__":
    main()
