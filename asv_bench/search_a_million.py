# SPDX-License-Identifier: Apache-2.0
"""How long a query takes among many vectors, exactly and with indexes of FAISS, and what it finds.

Usage: OPENBLAS_NUM_THREADS=1 python search_a_million.py VECTORS.npy. The file is one that
``embellama embed`` wrote, of float32 and normalised. Its first 100 rows are the queries, and the
others are searched. Prints processor milliseconds, which other work on the machine changes little
on one thread; NumPy's other threads would count while they wait. Needs faiss-cpu, and three times
the memory of the file.
"""

from __future__ import annotations

import resource
import sys

import faiss
import numpy as np
from numpy.typing import NDArray

import embellama

N_QUERIES, N_FOUND = 100, 10


def processor_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def recall(found: NDArray[np.int64], truth: NDArray[np.int64]) -> float:
    hits = [len({*a} & {*b}) for a, b in zip(found.tolist(), truth.tolist(), strict=True)]
    return float(np.mean(hits)) / truth.shape[1]


def show(name: str, start: float, found: NDArray[np.int64], truth: NDArray[np.int64]) -> None:
    each = 1000 * (processor_seconds() - start) / N_QUERIES
    print(f"{name}: {each:.2f} ms, {recall(found, truth):.3f} of the best {N_FOUND}", flush=True)


def main() -> None:
    faiss.omp_set_num_threads(1)
    stored = np.load(sys.argv[1])
    queries, vectors = stored[:N_QUERIES], stored[N_QUERIES:]
    start = processor_seconds()
    truth = embellama.search(queries, vectors, top_n=N_FOUND).indices
    show("embellama.search", start, truth, truth)
    for name in ("Flat", "IVF1024,SQ8"):
        start = processor_seconds()
        index = faiss.index_factory(vectors.shape[1], name, faiss.METRIC_INNER_PRODUCT)
        if not index.is_trained:
            index.train(vectors[:60_000])
            index.nprobe = 16
        index.add(vectors)
        built = processor_seconds()
        print(f"{name}: {built - start:.1f} s to build")
        _, found = index.search(queries, N_FOUND)
        show(name, built, found, truth)
    bits = faiss.IndexBinaryFlat(vectors.shape[1])
    bits.add(np.packbits(vectors > 0, axis=1))
    start = processor_seconds()
    _, near = bits.search(np.packbits(queries > 0, axis=1), 100)
    best = [
        rows[np.argsort(-(vectors[rows] @ query))[:N_FOUND]]
        for rows, query in zip(near, queries, strict=True)
    ]
    show("bits, the best 100 ranked again", start, np.array(best), truth)


if __name__ == "__main__":
    main()
