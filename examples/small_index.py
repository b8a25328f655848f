# SPDX-License-Identifier: Apache-2.0
"""FAISS and usearch with int8 vectors: a quarter of the memory, and what it costs in recall.

The texts are docstrings of Python's standard library. An index of int8 vectors finds candidates;
their float32 vectors, which may stay on a disk, put them in order.
"""

from __future__ import annotations

import argparse
import ast
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

import faiss
import numpy as np
from numpy.typing import NDArray
from usearch.index import Index

import embellama

NEIGHBOURS = 10
CANDIDATES = 40


def docstrings() -> Iterator[str]:
    """Yield the first paragraph of every docstring, without repeating one."""
    seen = set()
    documented = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef, ast.Module)
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            text = ast.get_docstring(node) if isinstance(node, documented) else None
            paragraph = text.split("\n\n")[0] if text else ""
            if len(paragraph) > 30 and paragraph not in seen:
                seen.add(paragraph)
                yield paragraph


def write_vectors(texts: list[str], path: Path) -> NDArray[np.float32]:
    """Write the float32 vectors of texts to a file, and map it: only what is read is in memory."""
    config = embellama.ModelConfig("all-MiniLM-L6-v2", truncate=True)
    with embellama.EmbeddingModel(config) as model:
        np.save(path, model.embed_batch(texts))
    vectors: NDArray[np.float32] = np.load(path, mmap_mode="r")
    return vectors


def faiss_candidates(stored: NDArray[np.int8], queries: NDArray[np.int8]) -> NDArray[np.int64]:
    """Compare every query with every int8 row, by FAISS."""
    # FAISS takes the values as floats, and keeps a byte of each.
    kind = faiss.ScalarQuantizer.QT_8bit_direct_signed
    index = faiss.IndexScalarQuantizer(stored.shape[1], kind, faiss.METRIC_INNER_PRODUCT)
    index.add(stored.astype(np.float32))
    _, found = index.search(queries.astype(np.float32), CANDIDATES)
    rows: NDArray[np.int64] = found
    return rows


def usearch_candidates(stored: NDArray[np.int8], queries: NDArray[np.int8]) -> NDArray[np.int64]:
    """Walk a graph (HNSW) of the int8 rows, by usearch."""
    index = Index(ndim=stored.shape[1], metric="cos", dtype="i8")
    index.add(np.arange(len(stored)), stored)
    return np.asarray(index.search(queries, CANDIDATES).keys, dtype=np.int64)


def rescored(
    found: NDArray[np.int64], stored: NDArray[np.float32], queries: NDArray[np.float32]
) -> NDArray[np.int64]:
    """Order each query's candidates by their float32 vectors."""
    best = np.empty((len(queries), NEIGHBOURS), np.int64)
    for row, (candidates, query) in enumerate(zip(found, queries, strict=True)):
        scores = stored[candidates] @ query
        best[row] = candidates[np.argsort(-scores)[:NEIGHBOURS]]
    return best


def recall(found: NDArray[np.int64], expected: NDArray[np.int64]) -> float:
    """Return the share of the true neighbours that were found."""
    hits = [len(np.intersect1d(a, b)) for a, b in zip(found, expected, strict=True)]
    return sum(hits) / expected.size


def main() -> None:
    """Compare what the indexes find with the true neighbours."""
    parser = argparse.ArgumentParser(description="Measure the recall of int8 indexes.")
    parser.add_argument("--limit", type=int, help="use the first LIMIT texts")
    texts = list(docstrings())[: parser.parse_args().limit]

    with tempfile.TemporaryDirectory() as folder:
        vectors = write_vectors(texts, Path(folder) / "vectors.npy")
        small = embellama.quantize(vectors, "int8")
        # Each tenth text is a query, and the others are searched.
        asked = np.arange(len(texts)) % 10 == 0
        stored, queries = vectors[~asked], vectors[asked]
        expected = np.argsort(-(queries @ stored.T), axis=1)[:, :NEIGHBOURS]

        print(f"{len(queries)} queries, {len(stored)} texts, {NEIGHBOURS} neighbours of each")
        print(f"float32: {stored.nbytes} bytes, int8: {small[~asked].nbytes} bytes")
        for name, search in (("FAISS", faiss_candidates), ("usearch", usearch_candidates)):
            found = search(small[~asked], small[asked])
            before = recall(found[:, :NEIGHBOURS], expected)
            after = recall(rescored(found, stored, queries), expected)
            print(f"{name:7} recall {before:.3f}, rescored {after:.3f}")


if __name__ == "__main__":
    main()
