# SPDX-License-Identifier: Apache-2.0
"""`search`, `similar`, `dedupe` and `cluster` on files of vectors, and what `embed` writes."""

from __future__ import annotations

import dataclasses
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from support.child_process import TIMEOUT
from support.known_model import KnownModel

import embellama
from embellama.cli import main

TEXTS = ["a b", "c d e", "f", "a b c", "d", "a b", "e f a", "b"]


class Done(NamedTuple):
    status: int
    stdout: str
    stderr: str

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.stdout.splitlines()]

    def column(self, name: str) -> list[Any]:
        assert self.status == 0, self.stderr
        return [row[name] for row in self.rows]


Command = Callable[..., Done]


@pytest.fixture
def command(
    obtained: KnownModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> Command:
    """The command in this process, in a folder of its own, with a tiny model as default."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("EMBELLAMA_MODEL_PATH", str(obtained.gguf))

    def run(*arguments: str, stdin: str = "") -> Done:
        monkeypatch.setattr(sys, "argv", ["embellama", *arguments])
        piped: Any = io.BufferedReader(io.BytesIO(stdin.encode()))  # type: ignore[type-var]
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(piped))
        capfd.readouterr()
        status = main()
        return Done(status, *capfd.readouterr())

    Path("lines.txt").write_text("".join(f"{text}\n" for text in TEXTS))
    return run


@pytest.fixture
def tiny(obtained: KnownModel) -> Any:
    with embellama.EmbeddingModel(obtained.gguf) as model:
        yield model


def assert_refused(done: Done, *parts: str, status: int = 1) -> None:
    assert done.status == status, done.stdout
    assert done.stderr.startswith("embellama: error: ")
    assert done.stderr.count("\n") == 1
    for part in parts:
        assert part in done.stderr


DTYPES = ["float32", "float16", "int8", "uint8", "binary", "ubinary"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_are_those_of_embed_batch(dtype: str, command: Command, tiny: Any) -> None:
    ranges = None
    options = ["--dtype", dtype, "--truncate-dim", "24", "--threads", "1"]
    if dtype in ("int8", "uint8"):
        ranges = np.array([[-0.5] * 24, [0.5] * 24], dtype=np.float32)
        np.save("ranges.npy", ranges)
        options += ["--ranges", "ranges.npy"]
    expected = tiny.embed_batch(TEXTS, dtype=dtype, truncate_dim=24, ranges=ranges)
    for name in ("x.npy", "x.parquet", "x.jsonl"):
        assert command("embed", "-i", "lines.txt", "-o", name, *options).status == 0
    written = [
        np.load("x.npy"),
        np.array(pyarrow.parquet.read_table("x.parquet")["embedding"].to_pylist()),
        np.array(Done(0, Path("x.jsonl").read_text(), "").column("embedding")),
    ]
    assert written[0].dtype == expected.dtype
    for rows in written:
        # Quantised from vectors that differ in their last digits with the packing.
        atol = 1 if dtype in ("int8", "uint8") else 1e-3
        if not dtype.endswith("binary"):
            np.testing.assert_allclose(rows.astype(float), expected.astype(float), atol=atol)
        np.testing.assert_array_equal(rows.astype(expected.dtype), written[0])
    # The file says what it holds, and the query's vector is made to fit.
    found = command("search", "a b", "-n", "2", "--json", "--in", "x.parquet")
    assert found.column("index")[0] == 0
    if dtype != "uint8":
        said = ["--truncate-dim", "24", "--dtype", dtype]
        said += ["--ranges", "ranges.npy"] if ranges is not None else []
        by_hand = command("search", "a b", "-n", "2", "--json", "--in", "x.npy", *said)
        assert by_hand.rows == found.rows


def test_another_dtype_goes_on_from_the_same_rows(command: Command) -> None:
    lines = "".join(f"{a} {b}\n" for a in "abcdefgh" for b in "abcdefgh") * 17
    Path("x.txt").write_text(lines + "\n")  # the last line stops the run
    assert command("embed", "-i", "x.txt", "-o", "x.npy").status == 1
    Path("x.txt").write_text(lines)
    done = command("embed", "-i", "x.txt", "-o", "x.npy", "--dtype", "int8")
    assert done.stderr == "embellama: 1024 texts were done before\n"
    assert command("embed", "-i", "x.txt", "-o", "y.npy", "--dtype", "int8").status == 0
    np.testing.assert_allclose(np.load("x.npy"), np.load("y.npy"), atol=1)
    # A prompt or fewer dimensions are other vectors.
    Path("x.txt").write_text(lines + "\n")
    assert command("embed", "-i", "x.txt", "-o", "z.npy").status == 1
    for option in (["--prompt", "a"], ["--truncate-dim", "3"]):
        refused = command("embed", "-i", "x.txt", "-o", "z.npy", *option)
        assert_refused(refused, "--restart")


def test_prompts(command: Command, minilm: embellama.EmbeddingModel) -> None:
    own, by_hand = (
        command("embed", *arguments).rows for arguments in (["b", "--prompt", "a "], ["a b"])
    )
    assert own == by_hand
    assert_refused(command("embed", " ", "--prompt", "a "), "text 1 is white space only")
    refused = command("embed", "a", "--prompt", "b", "--query")
    assert_refused(refused, "--prompt or --query, not both", status=2)


def test_the_catalogs_prompts(command: Command, obtained: KnownModel, monkeypatch: Any) -> None:
    source = json.dumps({"repository": obtained.entry.repository})
    (obtained.directory / "SOURCE.json").write_text(source)
    entry = dataclasses.replace(obtained.entry, query_prompt="a ", document_prompt="c ")
    monkeypatch.setattr(embellama.catalog, "KNOWN_MODELS", (entry,))
    for option, prompt in (("--query", "a "), ("--document", "c ")):
        for model in ("tiny", str(obtained.gguf)):
            prompted = command("embed", "b", option, "-m", model)
            assert prompted.rows == command("embed", f"{prompt}b").rows
    # A search puts the prompt for queries before its queries.
    Path("lines.txt").write_text("b\na b\n")
    assert command("embed", "-i", "lines.txt", "-o", "x.npy").status == 0
    arguments = ["search", "b", "-n", "1", "--json", "--in", "x.npy"]
    assert command(*arguments).column("index") == [1]
    assert command(*arguments, "--prompt", "").column("index") == [0]


def test_search(command: Command, tiny: Any) -> None:
    assert command("embed", "-i", "lines.txt", "--keep", "text", "-o", "x.parquet").status == 0
    assert command("embed", "-i", "lines.txt", "-o", "x.npy").status == 0
    expected = embellama.search(tiny.embed_batch(["a b", "e"]), np.load("x.npy"), top_n=3)
    done = command("search", "a b", "e", "-n", "3", "--json", "--in", "x.parquet")
    assert done.column("query") == ["a b"] * 3 + ["e"] * 3
    assert done.column("index") == expected.indices.reshape(-1).tolist()
    assert done.column("index")[:2] == [0, 5]
    np.testing.assert_allclose(done.column("score"), expected.scores.reshape(-1), atol=1e-3)
    assert done.column("text") == [TEXTS[i] for i in expected.indices.reshape(-1)]
    piped = command("search", "-n", "3", "--json", "--in", "x.parquet", stdin="a b\ne\n")
    assert piped.rows == done.rows
    with_texts = ["search", "a b", "e", "-n3", "--json", "--in", "x.npy", "--texts", "lines.txt"]
    assert command(*with_texts).column("text") == done.column("text")
    shown = command("search", "a b", "-n", "1", "--in", "x.parquet").stdout
    assert shown == "   1.000       0  a b\n"
    several = command("search", "a b", "f", "-n", "1", "--in", "x.npy").stdout
    assert several == "a b\n   1.000       0\n\nf\n   1.000       2\n"
    # Queries are read a window at a time.
    many = command("search", "-n", "1", "--in", "x.npy", stdin="f\n" * 1025).stdout
    assert many == "\n".join(["f\n   1.000       2\n"] * 1025)
    assert_refused(command("search", "a", " ", "--in", "x.npy"), "text 2 is white space only")
    assert_refused(command("search", "a"), "--in", status=2)
    assert_refused(command("search", "a", "--in", "none.npy"), "none.npy", status=2)


def test_similar(command: Command) -> None:
    random = np.random.default_rng(0)
    vectors = random.standard_normal((50, 6)).astype(np.float32)
    vectors[9] = 2 * vectors[7]
    vectors[11] = np.nan
    np.save("x.npy", vectors)
    done = command("similar", "7", "3", "7", "-n", "2", "--json", "--in", "x.npy")
    assert done.column("row") == [7, 7, 3, 3, 7, 7]
    expected = embellama.search(vectors[[7, 3, 7]], vectors, top_n=3).indices[:, 1:]
    assert done.column("index") == expected.reshape(-1).tolist()
    assert command("similar", "9", "-n", "1", "--in", "x.npy").stdout == "   1.000       7\n"
    assert_refused(command("similar", "50", "--in", "x.npy"), "50 rows", "counted from 0")
    assert_refused(command("similar", "11", "--in", "x.npy"), "row 11", "has no vector")
    assert_refused(command("similar", "--in", "x.npy"), "ROW", status=2)


def test_dedupe(command: Command) -> None:
    assert command("embed", "-i", "lines.txt", "--keep", "text", "-o", "x.parquet").status == 0
    assert command("embed", "-i", "lines.txt", "-o", "x.npy").status == 0
    vectors = np.load("x.npy")
    first, _ = embellama.near_duplicates(vectors, threshold=0.99)
    kept = np.flatnonzero(first == np.arange(len(TEXTS)))
    assert first[5] == 0
    done = command("dedupe", "x.parquet", "--threshold", "0.99", "--json")
    assert done.column("index") == kept.tolist()
    assert done.column("text") == [TEXTS[i] for i in kept]
    groups = command("dedupe", "x.npy", "--threshold", "0.99", "--groups", "--json")
    assert {row["index"]: row["first"] for row in groups.rows} == {
        i: j for i, j in enumerate(first.tolist()) if i != j
    }
    assert command("dedupe", "x.npy", "--threshold", "0.99", "-o", "y.npy").status == 0
    np.testing.assert_array_equal(np.load("y.npy"), vectors[kept])
    assert command("dedupe", "x.parquet", "--threshold", "0.99", "-o", "y.parquet").status == 0
    before, after = (pyarrow.parquet.read_table(f"{name}.parquet") for name in "xy")
    assert after.schema.equals(before.schema, check_metadata=True)
    assert after.drop("index").equals(before.take(kept).drop("index"))
    assert after["index"].to_pylist() == list(range(len(kept)))
    # In place: the old file is read until the new one is complete.
    assert command("dedupe", "y.parquet", "--threshold", "0.99", "-o", "y.parquet").status == 0
    assert pyarrow.parquet.read_table("y.parquet").equals(after)
    refused = command("dedupe", "x.npy", "-o", "y.parquet")
    assert_refused(refused, "must end in .npy", status=2)
    assert_refused(command("dedupe", "x.npy", "--groups", "-o", "y.npy"), "not both", status=2)
    assert_refused(command("dedupe", "x.npy", "--threshold", "0"), "--threshold", status=2)


def test_cluster(command: Command) -> None:
    random = np.random.default_rng(0)
    vectors = np.repeat(np.eye(4, 16), 5, axis=0) + 0.1 * random.standard_normal((20, 16))
    vectors = random.permutation(vectors).astype(np.float32)
    vectors[13] = np.nan
    np.save("x.npy", vectors)
    expected = embellama.cluster(vectors, 4, seed=5)
    done = command("cluster", "x.npy", "-k", "4", "--seed", "5", "--json")
    assert done.column("cluster") == expected.labels.tolist()
    assert done.rows[13] == {"index": 13, "cluster": -1, "score": None}
    assert command("cluster", "x.npy", "-k", "4", "--seed", "5", "-o", "y.npy").status == 0
    np.testing.assert_array_equal(np.load("y.npy"), expected.labels)
    assert command("cluster", "x.npy", "-k", "4").stdout.startswith("     0     0.9")
    assert_refused(command("cluster", "x.npy", "-k", "20"), "19 rows with a vector", "fewer")
    assert_refused(command("cluster", "x.npy", "-k", "2", "-o", "y.txt"), ".npy", status=2)


def test_parquet_of_other_programs(command: Command) -> None:
    vectors = np.random.default_rng(0).standard_normal((3000, 5))
    vectors[7] = vectors[2001]
    lists = pyarrow.array(list(vectors), pyarrow.list_(pyarrow.float64()))
    lists = pyarrow.concat_arrays([lists, pyarrow.array([None], lists.type)])
    table = pyarrow.table({"name": [f"n{i}" for i in range(3001)], "vector": lists})
    pyarrow.parquet.write_table(table, "x.parquet", row_group_size=700)
    done = command("similar", "2001", "-n", "2", "--json", "--in", "x.parquet")
    expected = embellama.search(vectors[2001], vectors, top_n=3).indices[0, [0, 2]]
    assert done.column("index") == expected.tolist()
    assert done.column("name") == [f"n{i}" for i in expected]
    groups = command("dedupe", "x.parquet", "--threshold", "1", "--groups", "--json")
    assert groups.rows == [{"index": 2001, "first": 7, "score": 1.0, "name": "n2001"}]
    assert len(command("cluster", "x.parquet", "-k", "3", "--json").rows) == 3001


def npy(array: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


WHOLE = npy(np.eye(4, dtype=np.float32))


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (b"", ["can't be read as .npy"]),
        (b"nonsense", ["can't be read as .npy"]),
        (WHOLE[:60], ["can't be read as .npy"]),
        (WHOLE[:-1], ["can't be read as .npy"]),
        (WHOLE.replace(b"(4, 4)", b"(4,04)"), ["can't be read as .npy"]),
        (WHOLE.replace(b"(4, 4)", b"(9**9)"), ["can't be read as .npy"]),
        (WHOLE.replace(b"(4, 4)", b"((4, 4"), ["can't be read as .npy"]),
        (WHOLE.replace(b"(4, 4)", b"(-4,4)"), ["can't be read as .npy"]),
        (WHOLE.replace(b"<f4", b"<f\xff"), ["can't be read as .npy"]),
        (npy(np.array([{}], dtype=object), allow_pickle=True), ["can't be read as .npy"]),
        (npy(np.zeros(4, np.float32)), ["shape (rows, dimensions), not (4,)"]),
        (npy(np.zeros((2, 2, 2), np.float32)), ["shape (rows, dimensions)"]),
        (npy(np.zeros((4, 0), np.float32)), ["no dimensions"]),
        (npy(np.zeros((4, 2), np.int64)), ["holds int64, and vectors are"]),
        (npy(np.zeros((4, 2), np.complex64)), ["holds complex64"]),
        (npy(np.zeros((4, 2), "U3")), ["holds <U3"]),
        (npy(np.zeros((4, 2), [("a", "f4")])), ["and vectors are"]),
        (npy(np.array([[1, 0], [1, np.nan]], np.float32)), ["row 1 of x.npy", "damaged"]),
        (npy(np.array([[1, 0], [np.inf, 0]], np.float16)), ["row 1 of x.npy", "damaged"]),
    ],
)
def test_npy_files_that_hold_no_vectors(content: bytes, parts: list[str], command: Command) -> None:
    Path("x.npy").write_bytes(content)
    for arguments in (["dedupe", "x.npy"], ["cluster", "x.npy", "-k", "1"]):
        assert_refused(command(*arguments), "x.npy", *parts)


def test_empty_files(command: Command) -> None:
    np.save("x.npy", np.zeros((0, 32), np.float32))
    assert command("search", "a", "--in", "x.npy") == (0, "", "")
    assert command("dedupe", "x.npy") == (0, "", "")
    assert command("embed", "-i", "-", "-o", "y.parquet").status == 0
    assert command("search", "a", "--in", "y.parquet") == (0, "", "")
    assert_refused(command("similar", "0", "--in", "y.parquet"), "0 rows")
    assert_refused(command("cluster", "y.parquet", "-k", "1"), "0 rows")


def test_parquet_files_that_hold_no_vectors(command: Command) -> None:
    def refuse(columns: dict[str, Any], *parts: str) -> None:
        pyarrow.parquet.write_table(pyarrow.table(columns), "x.parquet")
        assert_refused(command("dedupe", "x.parquet"), "x.parquet", *parts)

    refuse({"text": ["a"]}, "no column 'embedding'")
    refuse({"a": [[1.0]], "b": [[1.0]]}, "no column 'embedding'")
    refuse({"a": [["x"]]}, "holds string")
    refuse({"a": [[1, 2]]}, "holds int64")
    refuse({"a": [[1.0, 2.0], [1.0]]}, "row 1", "1 dimensions")
    refuse({"a": [[1.0, None]]}, "row 0", "damaged")
    refuse({"a": pyarrow.array([[1, None]], pyarrow.list_(pyarrow.int8()))}, "lacks numbers")
    refuse({"embedding": [[1.0]], "score": [1]}, "'score'", "--keep")
    levels = pyarrow.array([[1, 2]], pyarrow.list_(pyarrow.uint8(), 2))
    said = {"embellama": json.dumps({"dtype": "uint8"})}
    table = pyarrow.table({"embedding": levels}).replace_schema_metadata(said)
    pyarrow.parquet.write_table(table, "x.parquet")
    assert_refused(command("dedupe", "x.parquet"), "--ranges")
    # What the metadata can't mean is left out.
    for nonsense in ("[", "3", '{"dtype": 3, "model": [], "dimensions": -1, "ranges": 0}'):
        table = table.replace_schema_metadata({"embellama": nonsense})
        pyarrow.parquet.write_table(table, "x.parquet")
        assert command("dedupe", "x.parquet").status == 0
    names = pyarrow.array([b"caf\xe9"]).cast(pyarrow.string(), safe=False)
    refuse({"embedding": [[1.0]], "name": names}, "not UTF-8")
    content = Path("x.parquet").read_bytes()
    Path("x.parquet").write_bytes(content[:-30])
    assert_refused(command("dedupe", "x.parquet"), "can't be read as Parquet")
    Path("x.parquet").write_bytes(content[:4] + bytes(60) + content[64:])
    assert_refused(command("dedupe", "x.parquet"), "x.parquet can't be read")


def test_files_that_do_not_fit(command: Command) -> None:
    np.save("x.npy", np.eye(7, dtype=np.float32))
    np.save("bits.npy", np.zeros((3, 4), dtype=np.uint8))
    refused = command("search", "a", "--in", "x.npy")
    assert_refused(refused, "7 values of float32", "gives 32 dimensions", "-m")
    assert command("search", "a", "--in", "bits.npy").status == 0
    assert_refused(command("search", "a", "--in", "bits.npy", "--dtype", "int8"), "--dtype is int8")
    assert_refused(command("search", "a", "--in", "x.npy", "--dtype", "ubinary"), "holds float32")
    too_many = command("search", "a", "--in", "x.npy", "--truncate-dim", "33")
    assert_refused(too_many, "has 32 dimensions")
    Path("x.jsonl").touch()
    assert_refused(command("search", "a", "--in", "x.jsonl"), "`embellama embed -o`")
    assert_refused(command("dedupe", "x.npy", "--keep", "text"), "--texts")
    Path("two.txt").write_text("a\nb\n")
    refused = command("dedupe", "x.npy", "--texts", "two.txt")
    assert_refused(refused, "two.txt has 2 texts and x.npy 7 rows")
    np.save("ranges.npy", np.zeros((3, 4)))
    refused = command("dedupe", "bits.npy", "--dtype", "uint8", "--ranges", "ranges.npy")
    assert_refused(refused, "shape (2, dimensions)", status=2)
    assert_refused(command("dedupe", "bits.npy", "--dtype", "uint8"), "--ranges")
    with_nan = command("embed", "a", "--dtype", "int8", "--on-error", "nan")
    assert_refused(with_nan, "--on-error nan", status=2)
    assert_refused(command("embed", "a", "--dtype", "uint8"), "needs --ranges", status=2)


def test_a_pipe_that_is_closed_is_no_error(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.eye(500, 384, dtype=np.float32))
    command = [sys.executable, "-m", "embellama", "dedupe", str(tmp_path / "x.npy"), "--json"]
    done = subprocess.run(
        ["bash", "-c", '"$@" | head -n 1; echo ${PIPESTATUS[0]}', "bash", *command],
        capture_output=True,
        timeout=TIMEOUT,
    )
    assert (done.stdout, done.stderr) == (b'{"index": 0}\n0\n', b"")
