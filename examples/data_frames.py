# SPDX-License-Identifier: Apache-2.0
"""pandas and polars: a column of texts becomes a column of vectors, kept in a Parquet file."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl

import embellama

REVIEWS = {
    "id": [17, 18, 19, 20, 21],
    "review": [
        "The battery lasts two days.",
        "It arrived broken, and nobody answers.",
        None,
        "I charge it every other evening.",
        "The parcel was damaged.",
    ],
}


def with_pandas(model: embellama.EmbeddingModel, path: Path) -> None:
    """Embed a column of pandas; a missing text gets no vector."""
    frame = pd.DataFrame(REVIEWS).dropna(subset="review")
    vectors = model.embed_batch(frame["review"])
    frame["vector"] = list(vectors)
    frame.to_parquet(path)

    read = pd.read_parquet(path)
    again = np.stack(read["vector"].to_list())
    print("pandas:", len(read), "rows,", again.dtype, np.array_equal(again, vectors))


def with_polars(model: embellama.EmbeddingModel, path: Path) -> None:
    """Embed a column of polars into a column of arrays of fixed size."""
    frame = pl.DataFrame(REVIEWS).drop_nulls("review")
    vectors = model.embed_batch(frame["review"])
    frame = frame.with_columns(pl.Series("vector", vectors))
    frame.write_parquet(path)

    read = pl.read_parquet(path)
    again = read["vector"].to_numpy()
    print("polars:", read.schema["vector"], np.array_equal(again, vectors))

    query = model.embed_query("problems with the delivery")
    nearest = read.with_columns(score=pl.Series(again @ query)).sort("score", descending=True)
    for row in nearest.head(2).iter_rows(named=True):
        print(f"  {row['id']}  {row['review']}")


def main() -> None:
    """Do the same with both."""
    with (
        embellama.EmbeddingModel("all-MiniLM-L6-v2") as model,
        tempfile.TemporaryDirectory() as folder,
    ):
        with_pandas(model, Path(folder) / "pandas.parquet")
        with_polars(model, Path(folder) / "polars.parquet")


if __name__ == "__main__":
    main()
