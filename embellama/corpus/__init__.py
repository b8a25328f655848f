# SPDX-License-Identifier: Apache-2.0
"""The vectors of a corpus of any size, each unit of it exactly once, by any number of processes.

Examples
--------
>>> import pyarrow, pyarrow.parquet
>>> from embellama.corpus import CorpusJob
>>> table = pyarrow.table({"id": [7, 8, 9], "text": ["a cat", "a dog", "a report"]})
>>> pyarrow.parquet.write_table(table, "articles.parquet", row_group_size=2)
>>> job = CorpusJob("articles.parquet", "vectors", "all-MiniLM-L6-v2", keep=["id"])
>>> [(report.rows, report.computed) for report in job.run()]
[(2, 2), (1, 1)]
>>> [(report.rows, report.computed) for report in job.run()]
[(2, 0), (1, 0)]
>>> sorted(pyarrow.parquet.read_table("vectors")["id"].to_pylist())
[7, 8, 9]
"""

try:
    from embellama.corpus.job import CorpusJob, CorpusWorker, UnitReport
    from embellama.corpus.units import Unit
except ImportError as error:
    if (error.name or "").partition(".")[0] not in ("fsspec", "pyarrow"):
        raise
    raise ImportError(
        f"embellama.corpus needs {error.name}: pip install embellama with its extra [corpus]"
    ) from error

__all__ = ["CorpusJob", "CorpusWorker", "Unit", "UnitReport"]
