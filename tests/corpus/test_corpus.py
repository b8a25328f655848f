# SPDX-License-Identifier: Apache-2.0
"""Each unit of a corpus has its vectors once, whatever stops or changes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from support.child_process import TIMEOUT
from support.tiny_model import write_tiny_bert

from embellama import ConfigurationError, EmbeddingModel, InvalidInputError, ModelConfig, quantize
from embellama.arrow import vectors_of
from embellama.corpus import CorpusJob

LETTERS = "abcdefghijklmnop"
TEXTS = [f"{a} {b} {c}" for a in LETTERS for b in LETTERS for c in LETTERS[:4]]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> ModelConfig:
    return ModelConfig(write_tiny_bert(tmp_path_factory.mktemp("tiny") / "tiny.gguf"), n_threads=1)


@pytest.fixture(scope="module")
def model(config: ModelConfig) -> Iterator[EmbeddingModel]:
    with EmbeddingModel(config) as model:
        yield model


def write(path: Path, texts: list[str | None], *, first_id: int = 0, group: int = 100) -> Path:
    ids = range(first_id, first_id + len(texts))
    table = pyarrow.table({"id": ids, "text": pyarrow.array(texts, pyarrow.string())})
    path.parent.mkdir(exist_ok=True)
    pyarrow.parquet.write_table(table, path, row_group_size=group)
    return path


def read(folder: Path) -> pyarrow.Table:
    """All rows of the outputs, as any reader of a folder of Parquet sees them, by their ids."""
    return pyarrow.parquet.read_table(folder).sort_by("id")


def job_of(tmp_path: Path, config: ModelConfig, **options: Any) -> CorpusJob:
    output = str(tmp_path / "vectors")
    return CorpusJob(str(tmp_path / "corpus"), output, config, **{"keep": ["id"], **options})


def test_every_row_once_with_the_vector_of_its_text(
    tmp_path: Path, config: ModelConfig, model: EmbeddingModel
) -> None:
    texts: list[str | None] = [*TEXTS[:250], None, " ", "a " * 100]
    write(tmp_path / "corpus" / "one.parquet", texts)
    write(tmp_path / "corpus" / "two.parquet", texts[:10], first_id=len(texts))
    job = job_of(tmp_path, config)
    reports = job.run()
    assert [report.rows for report in reports] == [100, 100, 53, 10]
    # The null is not computed, the other two are tried.
    assert [report.computed for report in reports] == [100, 100, 52, 10]
    table = read(tmp_path / "vectors")
    assert table["id"].to_pylist() == [*range(263)]
    assert table["row"].to_pylist() == [*range(253), *range(10)]
    assert set(table["source"].to_pylist()[:253]) == {f"file://{tmp_path}/corpus/one.parquet"}
    assert table.schema.field("embedding").type == pyarrow.list_(pyarrow.float32(), 32)
    vectors = vectors_of(table["embedding"])
    np.testing.assert_allclose(vectors[:250], model.embed_batch(TEXTS[:250]), atol=1e-6)
    assert np.isnan(vectors[250:253]).all()
    assert table["error"].to_pylist()[:250] == [None] * 250
    reasons = table["error"].to_pylist()[250:253]
    assert reasons[0] == "there is no text: the row is null"
    assert reasons[1].endswith("the text is white space only: leave it out")
    assert "102 tokens" in reasons[2]
    assert table["n_tokens"].to_pylist()[:250] == [model.count_tokens(t) for t in TEXTS[:250]]
    assert [report.computed for report in job.run()] == [0] * 4
    assert [entry["status"] for entry in job.manifest(verify=True)] == ["done"] * 4


def test_only_rows_with_another_text_are_computed_again(
    tmp_path: Path, config: ModelConfig
) -> None:
    source = write(tmp_path / "corpus" / "x.parquet", list(TEXTS[:300]))
    job = job_of(tmp_path, config)
    job.run()
    before = read(tmp_path / "vectors")
    # A row is corrected, one is new at the beginning: all others are in another place.
    write(source, ["new", *TEXTS[:100], "corrected", *TEXTS[101:300]])
    assert [entry["status"] for entry in job.manifest()] == ["stale"] * 3 + ["missing"]
    # A unit knows what it had itself: the row that slid into the next unit is computed there.
    assert [report.computed for report in job.run()] == [1, 2, 1, 1]
    after = read(tmp_path / "vectors")
    old, new = vectors_of(before["embedding"]), vectors_of(after["embedding"])
    assert (new[1:100] == old[:99]).all()
    assert len(new) == 301
    write(source, list(TEXTS[:100]))
    job.run()
    statuses = [entry["status"] for entry in job.manifest()]
    assert statuses == ["done", "left over", "left over", "left over"]


def test_a_file_that_was_only_touched_is_not_computed_again(
    tmp_path: Path, config: ModelConfig
) -> None:
    source = write(tmp_path / "corpus" / "x.parquet", list(TEXTS[:100]))
    job = job_of(tmp_path, config)
    job.run()
    first = (tmp_path / "vectors" / os.listdir(tmp_path / "vectors")[0]).read_bytes()
    os.utime(source, (1, 1))
    assert [report.computed for report in job.run()] == [0]
    again = (tmp_path / "vectors" / os.listdir(tmp_path / "vectors")[0]).read_bytes()
    assert first != again  # the record says which state of the source it is of
    assert [report.computed for report in job.run()] == [0]
    assert [entry["status"] for entry in job.manifest(verify=True)] == ["done"]


@pytest.mark.parametrize("dtype", ["float16", "int8", "ubinary"])
def test_other_types(
    tmp_path: Path, config: ModelConfig, model: EmbeddingModel, dtype: str
) -> None:
    texts = TEXTS[:20]
    write(tmp_path / "corpus" / "x.parquet", [*texts, " "])
    job = job_of(tmp_path, config, dtype=dtype, truncate_dim=16)
    job.run()
    table = read(tmp_path / "vectors")
    expected = quantize(model.embed_batch(texts, truncate_dim=16), dtype)
    vectors = vectors_of(table["embedding"])
    assert vectors.dtype == expected.dtype
    np.testing.assert_allclose(vectors[:20], expected, atol=0 if dtype == "ubinary" else 1e-3)
    assert "white space" in table["error"][20].as_py()
    # An output in a small type gives its rows to the next run too.
    write(tmp_path / "corpus" / "x.parquet", [" ", *texts, "new"])
    assert [report.computed for report in job.run()] == [2]
    assert (vectors_of(read(tmp_path / "vectors")["embedding"])[1:21] == vectors[:20]).all()


def test_lines_and_json(tmp_path: Path, config: ModelConfig, model: EmbeddingModel) -> None:
    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / "a.txt").write_text("a b\r\nc d\n")
    (folder / "b.jsonl").write_text('{"text": "e f"}\n{"text": null}\n')
    (folder / "empty.txt").touch()
    (folder / "_notes.txt").write_text("no data")
    job = job_of(tmp_path, config, keep=[])
    assert [(report.rows, report.errors) for report in job.run()] == [(2, 0), (2, 1)]
    table = pyarrow.parquet.read_table(tmp_path / "vectors").sort_by("source")
    expected = model.embed_batch(["a b", "c d", "e f"])
    np.testing.assert_allclose(vectors_of(table["embedding"])[:3], expected, atol=1e-6)


def test_what_is_refused(tmp_path: Path, config: ModelConfig) -> None:
    with pytest.raises(ConfigurationError, match="corpus: there is no such file"):
        job_of(tmp_path, config).run()
    source = write(tmp_path / "corpus" / "x.parquet", list(TEXTS[:3]))
    with pytest.raises(ConfigurationError, match="'body': choose among 'id', 'text'"):
        job_of(tmp_path, config, column="body").run()
    with pytest.raises(ConfigurationError, match="'id' holds int64, not texts"):
        job_of(tmp_path, config, column="id").run()
    with pytest.raises(ConfigurationError, match="'row' can't be kept"):
        job_of(tmp_path, config, keep=["row"])
    with pytest.raises(ConfigurationError, match="no part 3 of 2"):
        job_of(tmp_path, config).run(shard=(3, 2))
    job_of(tmp_path, config).run()
    with pytest.raises(ConfigurationError, match=r"other settings \(dtype changed\)"):
        job_of(tmp_path, config, dtype="int8").run()
    for name, value in (("parse_special", False), ("keys_in_float16", True), ("n_ctx", 16)):
        other = config.replace(**{name: value})
        with pytest.raises(ConfigurationError, match=r"other settings"):
            job_of(tmp_path, other).run()
    source.write_bytes(b"PAR1 is not enough")
    with pytest.raises(InvalidInputError, match=r"x\.parquet can't be read"):
        job_of(tmp_path, config).run()
    (tmp_path / "x.csv").write_text("text\na\n")
    with pytest.raises(ConfigurationError, match="Parquet, JSON Lines"):
        CorpusJob(str(tmp_path / "x.csv"), str(tmp_path / "v"), config).run()


def test_a_damaged_output_is_found(tmp_path: Path, config: ModelConfig) -> None:
    write(tmp_path / "corpus" / "x.parquet", list(TEXTS[:200]))
    job = job_of(tmp_path, config)
    job.run()
    first = sorted((tmp_path / "vectors").iterdir())[0]
    content = bytearray(first.read_bytes())
    content[len(content) // 2] ^= 1
    first.write_bytes(content)
    assert [entry["status"] for entry in job.manifest()] == ["done", "done"]
    assert [entry["status"] for entry in job.manifest(verify=True)] == ["damaged", "done"]
    # It gives no row to the next run.
    os.utime(tmp_path / "corpus" / "x.parquet", (1, 1))
    assert [report.computed for report in job.run()] == [100, 0]
    assert [entry["status"] for entry in job.manifest(verify=True)] == ["done", "done"]


@pytest.mark.slow
def test_processes_that_are_killed(tmp_path: Path, config: ModelConfig) -> None:
    """Two processes share a job and are killed; a third, undisturbed, has the same bytes."""
    n_rows = 60_000
    texts: list[str | None] = [TEXTS[i % 1024] + " " + TEXTS[i // 1024] for i in range(n_rows)]
    write(tmp_path / "corpus" / "x.parquet", texts, group=20_000)
    output, undisturbed = tmp_path / "vectors", tmp_path / "undisturbed"
    command = [sys.executable, "-m", "embellama", "corpus", str(tmp_path / "corpus")]
    command += ["-m", str(config.model_path), "--keep", "id", "--threads", "1", "-o"]
    computed = 0
    for delay in (1.0, 2.0):
        processes = [
            subprocess.Popen([*command, str(output), "--shard", f"{part}/2"]) for part in (1, 2)
        ]
        time.sleep(delay)
        for process in processes:
            process.kill()
            process.wait()
    for folder in (output, undisturbed):
        done = subprocess.run(
            [*command, str(folder)], capture_output=True, text=True, timeout=TIMEOUT, check=True
        )
        computed = json.loads(done.stdout)["computed"]
    assert computed == n_rows
    assert read(output).equals(read(undisturbed))
    assert {path.name: path.read_bytes() for path in output.iterdir()} == {
        path.name: path.read_bytes() for path in undisturbed.iterdir()
    }
    manifest = [*command, str(output), "--manifest"]
    done = subprocess.run(manifest, capture_output=True, text=True, timeout=TIMEOUT, check=True)
    entries = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(entry["status"], entry["rows"]) for entry in entries] == [("done", 20_000)] * 3
