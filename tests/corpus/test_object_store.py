# SPDX-License-Identifier: Apache-2.0
"""A corpus and its vectors in S3, as a server on this machine speaks it."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from support.tiny_model import write_tiny_bert

from embellama import ModelConfig
from embellama.corpus import CorpusJob, CorpusWorker

pytest.importorskip("s3fs", reason="needs s3fs")
pytest.importorskip("moto", reason="needs moto[server]")

pytestmark = [
    pytest.mark.slow,
    # What s3fs and botocore do on the newest Python is theirs.
    pytest.mark.filterwarnings("default"),
]

TEXTS = [f"{a} {b}" for a in "abcdefghij" for b in "abcdefghij"]


@pytest.fixture
def storage_options() -> Iterator[dict[str, Any]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while True:
        with socket.socket() as attempt:
            if attempt.connect_ex(("127.0.0.1", port)) == 0:
                break
        assert server.poll() is None
        time.sleep(0.1)
    yield {
        "key": "testing",
        "secret": "testing",
        "client_kwargs": {"endpoint_url": url, "region_name": "eu-west-1"},
    }
    server.terminate()
    server.wait()


def test_from_bucket_to_bucket(storage_options: dict[str, Any], tmp_path: Path) -> None:
    import s3fs

    files = s3fs.S3FileSystem(**storage_options)
    files.mkdir("bucket")
    table = pyarrow.table({"id": range(100), "text": TEXTS})
    with files.open("bucket/corpus/x.parquet", "wb") as stream:
        pyarrow.parquet.write_table(table, stream, row_group_size=40)
    job = CorpusJob(
        "s3://bucket/corpus",
        "s3://bucket/vectors",
        ModelConfig(write_tiny_bert(tmp_path / "tiny.gguf"), n_threads=1),
        keep=["id"],
        storage_options=storage_options,
        scratch=str(tmp_path / "scratch"),
    )
    assert [report.computed for report in job.run(shard=(1, 2))] == [40, 20]
    # What an upload that was cut off leaves is no output.
    with CorpusWorker(job) as worker:
        unit = job.units()[1]
        put, worker._outputs.put = worker._outputs.put, _failing
        with pytest.raises(OSError, match="can't be written"):
            worker.embed(unit)
        assert [entry["status"] for entry in job.manifest()] == ["done", "missing", "done"]
        # All rows are kept in the scratch folder.
        worker._outputs.put = put
        assert worker.embed(unit).computed == 0
    assert [report.computed for report in job.run()] == [0, 0, 0]
    assert list((tmp_path / "scratch").iterdir()) == []
    names = files.ls("bucket/vectors", detail=False)
    assert len(names) == 3
    assert all(re.fullmatch(r"bucket/vectors/x-0000\d-\w{12}-\w{12}\.parquet", n) for n in names)
    ids: list[int] = []
    for name in names:
        with files.open(name, "rb") as stream:
            ids += pyarrow.parquet.read_table(stream, columns=["id"])["id"].to_pylist()
    assert sorted(ids) == [*range(100)]
    assert {entry["status"] for entry in job.manifest(verify=True)} == {"done"}
    # The object has another tag now.
    with files.open("bucket/corpus/x.parquet", "wb") as stream:
        changed = table.set_column(1, "text", [["new", *TEXTS[1:]]])
        pyarrow.parquet.write_table(changed, stream, row_group_size=40)
    assert [report.computed for report in job.run()] == [1, 0, 0]


def _failing(made: Path, name: str) -> None:
    raise OSError("the connection is lost")
