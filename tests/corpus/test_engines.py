# SPDX-License-Identifier: Apache-2.0
"""The programs of examples/engines: each row once, with the vector that one process computes."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from support.child_process import TIMEOUT
from support.folders import REPOSITORY
from support.tiny_model import write_tiny_bert

from embellama import EmbeddingModel

pytestmark = pytest.mark.slow

PROGRAMS = {
    "daft": "daft_provider.py",
    "dask": "dask_partitions.py",
    "pyspark": "spark_map_in_arrow.py",
}
TEXTS = [f"{a} {b} {c}" for a in "abcdefghij" for b in "abcdefghij" for c in "abcdefghij"]


def test_every_program_is_run_here() -> None:
    found = {path.name for path in (REPOSITORY / "examples" / "engines").glob("*.py")}
    assert found == set(PROGRAMS.values())


@pytest.mark.parametrize("engine", PROGRAMS)
def test_engine(engine: str, tmp_path: Path) -> None:
    pytest.importorskip(engine, reason=f"needs {engine}")
    if engine == "pyspark" and shutil.which("java") is None:
        pytest.skip("Spark needs Java")
    model = write_tiny_bert(tmp_path / "tiny.gguf")
    (tmp_path / "corpus").mkdir()
    for number in range(2):
        part = slice(number * 500, number * 500 + 500)
        table = pyarrow.table({"id": range(1000)[part], "text": TEXTS[part]})
        path = tmp_path / "corpus" / f"{number}.parquet"
        pyarrow.parquet.write_table(table, path, row_group_size=250)
    program = REPOSITORY / "examples" / "engines" / PROGRAMS[engine]
    command = [sys.executable, str(program), str(tmp_path / "corpus"), str(tmp_path / "vectors")]
    done = subprocess.run(
        [*command, str(model)], capture_output=True, text=True, timeout=5 * TIMEOUT
    )
    assert done.returncode == 0, done.stderr
    table = pyarrow.parquet.read_table(tmp_path / "vectors").sort_by("id")
    assert table["id"].to_pylist() == [*range(1000)]
    with EmbeddingModel(model) as loaded:
        expected = loaded.embed_batch(TEXTS)
    vectors = np.array(table["embedding"].to_pylist(), dtype=np.float32)
    np.testing.assert_array_equal(vectors, expected)
