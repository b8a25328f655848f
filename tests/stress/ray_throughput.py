# SPDX-License-Identifier: Apache-2.0
"""How fast texts become vectors through Ray Data, beside a plain loop with as many threads.

Both read Parquet and write Parquet. Each round runs one after the other, on a small corpus and on a
larger one; the difference leaves out what starts: actors, workers, the model. Prints texts a second
of each and the ratio. Usage: ray_throughput.py [ROUNDS [THREADS]]
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pyarrow.parquet
import ray

from embellama import ModelConfig
from embellama.arrow import TableEmbedder
from embellama.ray import BATCH_ROWS, embed

SMALL, LARGE = 1, 3  # in batches
WORDS = "the cat sat on a mat while rates of interest rose again and nobody in town knew".split()
MODEL = "all-MiniLM-L6-v2"


def write_corpus(path: Path, n_batches: int) -> None:
    n_rows = n_batches * BATCH_ROWS
    texts = [
        " ".join(WORDS[(i * 7 + j * (1 + i % 5)) % len(WORDS)] for j in range(8 + i % 33))
        for i in range(n_rows)
    ]
    table = pyarrow.table({"id": range(n_rows), "text": texts})
    pyarrow.parquet.write_table(table, path, row_group_size=BATCH_ROWS)


def loop(source: Path, output: Path, n_threads: int) -> None:
    embedder = TableEmbedder(ModelConfig(MODEL, n_threads=n_threads))
    writer = None
    for batch in pyarrow.parquet.ParquetFile(source).iter_batches(BATCH_ROWS):
        table = embedder(pyarrow.Table.from_batches([batch]))
        writer = writer or pyarrow.parquet.ParquetWriter(output, table.schema)
        writer.write_table(table)
    assert writer is not None
    writer.close()
    embedder.model.unload()


def through_ray(source: Path, output: Path, n_threads: int) -> None:
    dataset = ray.data.read_parquet(str(source))
    embed(dataset, MODEL, actors=1, num_cpus=1, n_threads=n_threads).write_parquet(str(output))


def seconds(run: Callable[[Path, Path, int], None], source: Path, n_threads: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        run(source, Path(folder) / "vectors", n_threads)
        return time.perf_counter() - start


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    n_threads = int(sys.argv[2]) if len(sys.argv) > 2 else 2
    os.environ["RAY_DATA_DISABLE_PROGRESS_BARS"] = "1"
    # A CPU more than threads: reading takes little, and Ray keeps nothing to its cores.
    ray.init(num_cpus=n_threads + 1, include_dashboard=False, logging_level="warning")
    n_texts = (LARGE - SMALL) * BATCH_ROWS
    with tempfile.TemporaryDirectory() as folder:
        small, large = Path(folder) / "small.parquet", Path(folder) / "large.parquet"
        write_corpus(small, SMALL)
        write_corpus(large, LARGE)
        ratios = []
        for _ in range(rounds):
            rates = [
                n_texts / (seconds(run, large, n_threads) - seconds(run, small, n_threads))
                for run in (loop, through_ray)
            ]
            ratios.append(rates[1] / rates[0])
            print(json.dumps({"loop": rates[0], "ray": rates[1], "ratio": ratios[-1]}), flush=True)
    print(f"median ratio {sorted(ratios)[len(ratios) // 2]:.3f}")


if __name__ == "__main__":
    main()
