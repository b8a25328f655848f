# SPDX-License-Identifier: Apache-2.0
"""How long FAISS takes for a query among a million vectors of 384 dimensions, and what it finds.

The vectors are 2,000 clusters of random ones: a million texts would take hours, and how fast an
index is depends on sizes alone. How much it finds depends on the vectors too. Prints processor
milliseconds, which other work on the machine changes little. Needs faiss-cpu and 4 GB.
"""

from __future__ import annotations

import resource

import faiss
import numpy as np
from numpy.typing import NDArray

N_VECTORS, N_DIMS, N_CLUSTERS, N_QUERIES = 1_000_000, 384, 2000, 100
BLOCK = 100_000


def processor_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def corpus(source: np.random.Generator) -> NDArray[np.float32]:
    centres = source.standard_normal((N_CLUSTERS, N_DIMS), dtype=np.float32)
    vectors = np.empty((N_VECTORS, N_DIMS), np.float32)
    for start in range(0, N_VECTORS, BLOCK):
        noise = source.standard_normal((BLOCK, N_DIMS), dtype=np.float32)
        block = centres[source.integers(0, N_CLUSTERS, BLOCK)] + noise
        vectors[start : start + BLOCK] = block / np.linalg.norm(block, axis=1, keepdims=True)
    return vectors


def recall(found: NDArray[np.int64], truth: NDArray[np.int64]) -> float:
    hits = [len({*a} & {*b}) for a, b in zip(found.tolist(), truth.tolist(), strict=True)]
    return float(np.mean(hits)) / truth.shape[1]


def main() -> None:
    faiss.omp_set_num_threads(1)
    source = np.random.default_rng(0)
    vectors = corpus(source)
    noise = source.standard_normal((N_QUERIES, N_DIMS), dtype=np.float32) / np.sqrt(N_DIMS)
    queries = vectors[source.integers(0, N_VECTORS, N_QUERIES)] + 0.3 * noise.astype(np.float32)
    truth = None
    for name in ("Flat", "IVF1024,SQ8"):
        start = processor_seconds()
        index = faiss.index_factory(N_DIMS, name, faiss.METRIC_INNER_PRODUCT)
        if not index.is_trained:
            index.train(vectors[:60_000])
            index.nprobe = 16
        index.add(vectors)
        built = processor_seconds()
        _, found = index.search(queries, 10)
        each = 1000 * (processor_seconds() - built) / N_QUERIES
        truth = found if truth is None else truth
        print(f"{name}: {built - start:.1f} s to build, {each:.2f} ms, {recall(found, truth):.3f}")
    assert truth is not None
    bits = faiss.IndexBinaryFlat(N_DIMS)
    bits.add(np.packbits(vectors > 0, axis=1))
    start = processor_seconds()
    _, near = bits.search(np.packbits(queries > 0, axis=1), 100)
    best = [
        rows[np.argsort(-(vectors[rows] @ query))[:10]]
        for rows, query in zip(near, queries, strict=True)
    ]
    each = 1000 * (processor_seconds() - start) / N_QUERIES
    print(f"bits, the best 100 ranked again: {each:.2f} ms, {recall(np.array(best), truth):.3f}")


if __name__ == "__main__":
    main()
