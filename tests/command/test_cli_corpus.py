# SPDX-License-Identifier: Apache-2.0
"""Corpora from files of each format into files of each format, whatever interrupts it."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from numpy.typing import NDArray
from support.child_process import TIMEOUT

import embellama

COMMAND = [sys.executable, "-m", "embellama"]
# Line breaks, separators and quotes inside texts; the last needs the type of weights to hold.
TEXTS = ["a cat, and a dog", 'she said "no"', "two\nlines", "猫が好きです", "tab\there", "a cat"]


def run(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [*COMMAND, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, **options)


def succeed(*arguments: str | Path) -> str:
    done = run(*arguments, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr
    return done.stderr


def fail(*arguments: str | Path, status: int = 1) -> str:
    done = run(*arguments, stdin=subprocess.DEVNULL)
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def write_corpus(path: Path, texts: list[str]) -> Path:
    if path.suffix in (".csv", ".tsv"):
        with path.open("w", newline="", encoding="utf-8-sig") as file:
            rows = csv.writer(file, delimiter="," if path.suffix == ".csv" else "\t")
            rows.writerows([["id", "text"], *enumerate(texts)])
    elif path.suffix == ".parquet":
        table = pyarrow.table({"id": range(len(texts)), "text": texts})
        pyarrow.parquet.write_table(table, path, row_group_size=1000)
    else:
        lines = [json.dumps({"id": i, "text": text}) for i, text in enumerate(texts)]
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def read_vectors(path: Path) -> NDArray[np.float32]:
    if path.suffix == ".npy":
        array: NDArray[np.float32] = np.load(path)
        return array
    if path.suffix == ".parquet":
        table = pyarrow.parquet.read_table(path)
        assert table["index"].to_pylist() == [*range(table.num_rows)]
        return np.array(table["embedding"].to_pylist(), dtype=np.float32)
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert [record["index"] for record in records] == [*range(len(records))]
    return np.array([record["embedding"] for record in records], dtype=np.float32)


@pytest.mark.parametrize("target", ["npy", "jsonl", "parquet"])
@pytest.mark.parametrize("source", ["csv", "tsv", "jsonl", "parquet"])
def test_every_format(
    source: str, target: str, minilm: embellama.EmbeddingModel, tmp_path: Path
) -> None:
    corpus = write_corpus(tmp_path / f"corpus.{source}", TEXTS)
    output = tmp_path / f"vectors.{target}"
    assert succeed("embed", "-i", corpus, "-o", output) == ""
    np.testing.assert_allclose(read_vectors(output), minilm.embed_batch(TEXTS), atol=2e-3)
    assert {path.name for path in tmp_path.iterdir()} == {corpus.name, output.name}


def test_parquet_tells_types_and_token_counts(
    minilm: embellama.EmbeddingModel, tmp_path: Path
) -> None:
    output = tmp_path / "vectors.parquet"
    succeed("embed", *TEXTS, "-o", output)
    table = pyarrow.parquet.read_table(output)
    assert table.schema.field("embedding").type == pyarrow.list_(pyarrow.float32(), 384)
    assert table["tokens"].to_pylist() == [minilm.count_tokens(text) for text in TEXTS]
    piped = subprocess.run(
        [*COMMAND, "embed", *TEXTS, "-f", "parquet"], capture_output=True, check=True
    ).stdout
    again = pyarrow.parquet.read_table(pyarrow.BufferReader(piped))
    assert again.schema == table.schema
    assert again["tokens"] == table["tokens"]


def test_a_column_by_name(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("title,body\na cat,a dog\n")
    both = [tmp_path / "title.npy", tmp_path / "body.npy"]
    for output in both:
        succeed("embed", "-i", table, "--column", output.stem, "-o", output)
    title, body = map(np.load, both)
    assert 0.3 < float(title[0] @ body[0]) < 0.9
    message = fail("embed", "-i", table, "-o", tmp_path / "x.npy")
    assert "no column 'text'" in message
    assert "'title', 'body'" in message
    by_format = run(
        "embed", "-i", "-", "--input-format", "csv", "--column", "body", input=table.read_text()
    )
    assert json.loads(by_format.stdout)["index"] == 0


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("bad.jsonl", b'{"text": "a"}\n{"text": 3}\n', "line 2 of .* has no text in 'text' .3."),
        ("bad.jsonl", b'{"text": "a"}\n{"other": "b"}\n', "line 2 of .*it has 'other'"),
        ("bad.jsonl", b'{"text": "a"}\nnonsense\n', "line 2 of .* is no JSON"),
        ("bad.jsonl", b'{"text": "a"}\n' + b"[" * 200_000, "line 2 of .* is no JSON"),
        ("bad.jsonl", b'{"text": "a"}\n{"text": 9' + b"9" * 5000 + b"}", "line 2 of .* is no JSON"),
        ("bad.jsonl", b'{"text": "a"}\n["b"]\n', "line 2 of .* is no JSON object or string"),
        ("bad.jsonl", b'{"text": "a"}\n"\xff"\n', "line 2 of .* is not UTF-8"),
        ("bad.csv", b"id,text\n1,a\n2\n", "row 2 of .* lacks the column 'text'"),
        ("bad.csv", b"id,text\n1,a\n2,\n", "row 2 of .* is empty"),
        ("bad.csv", b"id,text\n1,\xff\n", "row 1 of .* is not UTF-8"),
        ("bad.csv", b"id,text\n1,a, b\n", "row 1 of .* has 3 cells, and the header 2: quote"),
        ("bad.csv", b"", "no column 'text'"),
        ("bad.parquet", b"PAR1 is not enough", "bad.parquet is no Parquet file"),
    ],
)
def test_a_bad_row_is_named(name: str, content: bytes, complaint: str, tmp_path: Path) -> None:
    corpus = tmp_path / name
    corpus.write_bytes(content)
    message = fail("embed", "-i", corpus)
    assert message.startswith("embellama: error: ")
    assert re.search(complaint, message)


def test_parquet_columns_that_hold_no_texts(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"id": [1, 2], "text": ["a", None]}), corpus)
    assert "holds int64, not texts" in fail("embed", "-i", corpus, "--column", "id")
    assert "no column 'body'" in fail("embed", "-i", corpus, "--column", "body")
    assert "row 2 of" in fail("embed", "-i", corpus)
    piped = run("embed", "-i", "-", "--input-format", "parquet", input="")
    assert "can't be read from a pipe" in piped.stderr


def test_pyarrow_is_an_extra(tmp_path: Path) -> None:
    (tmp_path / "pyarrow").mkdir()
    (tmp_path / "pyarrow" / "__init__.py").write_text("raise ImportError('not here')\n")
    done = run(
        "embed",
        "a cat",
        "-o",
        tmp_path / "x.parquet",
        stdin=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    assert done.returncode == 1
    assert "Parquet needs pyarrow: pip install pyarrow" in done.stderr


@pytest.mark.parametrize("target", ["npy", "jsonl", "parquet"])
def test_on_error_nan(target: str, tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus.jsonl", ["a cat", " ", "word " * 600, "a dog"])
    output = tmp_path / f"vectors.{target}"
    notice = succeed("embed", "-i", corpus, "-o", output, "--on-error", "nan")
    assert "2 texts have no vector" in notice
    assert f"line 2 of {corpus} is white space only" in notice
    if target == "jsonl":
        rows = [json.loads(line) for line in output.read_text().splitlines()]
        missing = [row["embedding"] is None for row in rows]
    elif target == "npy":
        missing = np.isnan(np.load(output)).all(axis=1).tolist()
    else:
        # pyarrow before 26 reads no null in a column of lists of one length.
        column = pyarrow.parquet.read_table(output)["embedding"]
        assert column.null_count == 0
        missing = np.isnan(column.to_pylist()).all(axis=1).tolist()
    assert missing == [False, True, True, False]


def test_one_process_writes_at_a_time(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("a long text about nothing " * 20 + "\n")
    pipe, output = tmp_path / "pipe", tmp_path / "vectors.npy"
    os.mkfifo(pipe)
    first = subprocess.Popen([*COMMAND, "embed", "-i", str(pipe), "-o", str(output)])
    with pipe.open("w") as file:
        file.write("a cat\n")
        while not (tmp_path / "vectors.npy.partial" / "rows").exists():
            assert first.poll() is None
            time.sleep(0.01)
        assert "another process is writing" in fail("embed", "-i", corpus, "-o", output)
    assert first.wait(60) == 0
    assert np.load(output).shape == (1, 384)


@pytest.mark.slow
def test_memory_stays_bounded(tmp_path: Path) -> None:
    """Ten times the texts take no more memory, within what allocators keep."""
    program = (
        "import resource, sys\n"
        "from embellama.cli import main\n"
        "status = main()\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)\n"
        "sys.exit(status)"
    )
    peaks = []
    for n_texts in (1024, 10240):
        corpus = write_corpus(tmp_path / f"{n_texts}.jsonl", ["cat"] * n_texts)
        arguments = ["embed", "-i", str(corpus), "-o", str(tmp_path / "out.npy"), "--threads", "2"]
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True
        )
        peaks.append(int(done.stderr))
    # 9,216 more vectors are 14 MB; KiB are counted.
    assert peaks[1] - peaks[0] < 10_000


def test_rerank(reranker_path: Path, tmp_path: Path) -> None:
    documents = ["Interest rates rose.", "Cats sleep up to 16 hours.", "Bread is baked hot."]
    corpus = write_corpus(tmp_path / "documents.csv", documents)
    query = "How long do cats sleep?"
    done = run("rerank", query, "-m", reranker_path, "-i", corpus, "--json")
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    with embellama.EmbeddingModel(reranker_path) as model:
        expected = model.rerank(query, documents)
    assert [row["index"] for row in rows] == [result.index for result in expected]
    np.testing.assert_allclose(
        [row["score"] for row in rows], [r.score for r in expected], atol=1e-3
    )
    best = run("rerank", query, *documents, "-m", reranker_path, "--top-n", "1")
    assert best.stdout.rstrip().endswith(documents[rows[0]["index"]])
    assert best.stdout.count("\n") == 1
    assert "is no reranker" in fail("rerank", query, *documents, "-m", "all-MiniLM-L6-v2")
    assert "--model" in fail("rerank", query, *documents, status=2)
    assert "not both" in fail("rerank", query, "a", "-i", corpus, "-m", reranker_path, status=2)


def test_bench(reranker_path: Path) -> None:
    done = run("bench", "--seconds", "0.01", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert [round(row["tokens"]) for row in report["texts"]] == [8, 64, 256]
    for row in report["texts"]:
        tokens_per_second = row["texts_per_second"] * row["tokens"]
        assert row["tokens_per_second"] == pytest.approx(tokens_per_second)
        assert 0 < row["alone_milliseconds"] <= row["alone_milliseconds_p95"]
    # The mapped weights are part of what the process has held.
    assert report["peak_memory"] > report["weights"] > 40e6
    fewer = run("bench", "--seconds", "0.01", "--json", "--instruction-set", "llama.cpp")
    assert json.loads(fewer.stdout)["instruction_set"] == "llama.cpp"
    assert "those that run here" in fail("bench", "--instruction-set", "mmx")
    shown = run("bench", "-m", reranker_path, "--seconds", "0.01", "--threads", "1").stdout
    assert "texts/s" in shown
    assert "peak memory of this process" in shown
