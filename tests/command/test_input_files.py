# SPDX-License-Identifier: Apache-2.0
"""What the command reads and writes, by the names and formats that people have."""

from __future__ import annotations

import bz2
import csv
import datetime
import gzip
import io
import json
import lzma
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import zstandard
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from support.known_model import KnownModel

import embellama
from embellama.cli import main
from embellama.cli.byte_streams import decoded_lines

TEXTS = ["a b", "c d e", "f"]


class Done(NamedTuple):
    status: int
    stderr: str
    rows: list[dict[str, Any]]

    @property
    def vectors(self) -> Any:
        return np.array([row["embedding"] for row in self.rows], dtype=np.float32)

    @property
    def without_vector(self) -> list[int]:
        return [row["index"] for row in self.rows if row["embedding"] is None]


Command = Callable[..., Done]


@pytest.fixture
def command(
    obtained: KnownModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> Command:
    """`embed` in this process, in a folder of its own."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def run(*arguments: str | Path) -> Done:
        program = ["embellama", "embed", "-m", str(obtained.gguf), "--threads", "1"]
        monkeypatch.setattr(sys, "argv", [*program, *map(str, arguments)])
        capfd.readouterr()
        status = main()
        printed, said = capfd.readouterr()
        return Done(status, said, [json.loads(line) for line in printed.splitlines()])

    return run


def assert_embeds(done: Done, command: Command, texts: list[str] = TEXTS) -> None:
    assert done.status == 0, done.stderr
    np.testing.assert_allclose(done.vectors, command(*texts).vectors, atol=1e-5)


LINES = "".join(f"{text}\n" for text in TEXTS).encode()
JSON_LINES = "".join(json.dumps({"text": text}) + "\n" for text in TEXTS).encode()
WRITTEN: dict[str, bytes] = {
    "lines": LINES,
    "lines.txt": LINES,
    "lines.text": LINES,
    "table.csv": b"id,text\n" + b"".join(f"1,{text}\n".encode() for text in TEXTS),
    "table.tsv": b"id\ttext\n" + b"".join(f"1\t{text}\n".encode() for text in TEXTS),
    "table.tab": b"id\ttext\n" + b"".join(f"1\t{text}\n".encode() for text in TEXTS),
    "objects.jsonl": JSON_LINES,
    "objects.jsonlines": JSON_LINES,
    "objects.ndjson": JSON_LINES,
    "strings.jsonl": "".join(json.dumps(text) + "\n" for text in TEXTS).encode(),
    "objects.json": json.dumps([{"text": text} for text in TEXTS], indent=1).encode(),
    "strings.json": json.dumps(TEXTS).encode(),
    "UPPER.JSON": json.dumps(TEXTS).encode(),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_the_suffix_says_the_format(name: str, command: Command) -> None:
    Path(name).write_bytes(WRITTEN[name])
    assert_embeds(command("-i", name), command)


COMPRESSED: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstandard.compress,
}


@pytest.mark.parametrize("suffix", COMPRESSED)
def test_compressed_files(suffix: str, command: Command) -> None:
    compress = COMPRESSED[suffix]
    for name in ("lines.txt", "table.csv", "objects.jsonl", "objects.json"):
        # Two parts, one after the other, are a file too.
        half = len(WRITTEN[name]) // 2
        packed = compress(WRITTEN[name][:half]) + compress(WRITTEN[name][half:])
        Path(name + suffix).write_bytes(packed)
        assert_embeds(command("-i", name + suffix), command)
    Path(f"cut.txt{suffix}").write_bytes(packed[:-9])
    done = command("-i", f"cut.txt{suffix}")
    assert done.status == 1
    assert f"cut.txt{suffix} can't be read" in done.stderr
    Path(f"other.txt{suffix}").write_bytes(b"this is something else, and long enough")
    assert f"other.txt{suffix} can't be read" in command("-i", f"other.txt{suffix}").stderr


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-32", "utf-32-be", "utf-8-sig"])
def test_encodings_with_a_mark(encoding: str, command: Command) -> None:
    mark = "" if encoding in ("utf-16", "utf-32", "utf-8-sig") else "\ufeff"
    for name in ("lines.txt", "table.csv", "objects.jsonl", "objects.json"):
        text = (mark + WRITTEN[name].decode().replace("\n", "\r\n")).encode(encoding)
        Path(name).write_bytes(text)
        assert_embeds(command("-i", name), command)
    Path("document.txt").write_bytes((mark + "a b").encode(encoding))
    assert_embeds(command("-i", "document.txt", "--input-format", "document"), command, ["a b"])


@given(
    text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\ufeff")),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]),
)
@settings(deadline=None)
def test_lines_of_any_encoding(text: str, encoding: str) -> None:
    # The mark of UTF-16 and a NUL are the mark of UTF-32.
    assume(not (encoding == "utf-16" and text.startswith("\0")))
    lines = list(decoded_lines(io.BufferedReader(io.BytesIO(text.encode(encoding)))))  # type: ignore[type-var]
    assert "".join(line for line, _ in lines) == text
    assert [problem for _, problem in lines] == [""] * len(lines)
    assert all(line.endswith("\n") for line, _ in lines[:-1])


def test_texts_that_end_with_nul(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    long = "a\n" * 50_000  # more than is read at a time
    for end in ("\0", ""):
        Path("x").write_text("\0".join(["a b\nc", long, "f"]) + end)
        done = command("-i", "x", "--input-format", "nul", "--truncate")
        assert done.status == 0
        np.testing.assert_allclose(
            done.vectors, command("a b\nc", long, "f", "--truncate").vectors, atol=1e-5
        )
    Path("x").write_bytes(b"a\0caf\xe9\0\0b\0")
    with open("x", "rb") as file:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(file))
        refused = command("-i", "-", "--input-format", "nul")
    assert "text 2 of standard input is not UTF-8" in refused.stderr
    done = command("-i", "x", "--input-format", "nul", "--on-error", "nan")
    assert done.without_vector == [1, 2]


def test_several_files_and_patterns(command: Command) -> None:
    Path("b.txt").write_text("c d e\n")
    Path("a.txt").write_text("a b\n")
    Path("c.csv").write_text("text\nf\n")
    assert_embeds(command("-i", "*.txt", "-i", "c.csv"), command)
    assert_embeds(command("-i", "[a-c].*"), command)
    done = command("-i", "c.csv", "-i", "*.txt")
    assert_embeds(done, command, ["f", "a b", "c d e"])
    assert [row["index"] for row in done.rows] == [0, 1, 2]
    Path("bad.txt").write_text("a\n\n")
    assert "line 2 of bad.txt is empty" in command("-i", "a.txt", "-i", "bad.txt").stderr
    assert command("-i", "*.none").status == 2
    assert "quoted" in command("-i", "a.txt", "b.txt").stderr


def test_a_folder_of_documents(command: Command) -> None:
    for name, text in {"b/1.txt": "c\nd e", "a.md": "a b", "c": "f", ".git/x": "g"}.items():
        path = Path("folder") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    done = command("-i", "folder", "--keep", "path")
    assert_embeds(done, command, ["a b", "f", "c\nd e"])
    assert [row["path"] for row in done.rows] == ["folder/a.md", "folder/c", "folder/b/1.txt"]
    Path("folder/broken").write_bytes(b"caf\xe9")
    assert "folder/broken is not UTF-8" in command("-i", "folder").stderr
    assert command("-i", "folder", "--on-error", "nan").without_vector == [1]
    Path("folder/rows.csv").write_text("text\na b\n")
    refused = command("-i", "folder")
    assert refused.status == 2
    assert "holds tables" in refused.stderr
    assert_embeds(command("-i", "folder", "--input-format", "csv"), command, ["a b"])
    assert len(command("-i", "folder", "--input-format", "document", "--on-error", "nan").rows) == 5
    Path("empty").mkdir()
    assert command("-i", "empty").status == 2


@pytest.mark.parametrize("name", ["page.md", "x.html", "x.npz", "x.docx", "x.txt.zip"])
def test_an_unknown_suffix_is_refused_unless_the_format_is_given(
    name: str, command: Command
) -> None:
    Path(name).write_bytes(LINES)
    done = command("-i", name)
    assert done.status == 2
    assert "--input-format" in done.stderr
    assert_embeds(command("-i", name, "--input-format", "lines"), command)


@pytest.mark.parametrize("content", ['{"text": "a"}\n{"text": "b"}\n', "nonsense", '"a"', "3", ""])
def test_json_that_is_no_array(content: str, command: Command) -> None:
    Path("x.json").write_text(content)
    done = command("-i", "x.json")
    assert done.status == 1
    assert "--input-format jsonl" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "complaint"),
    [
        (["-o", "x.csv"], 2, "no vectors are written as .csv"),
        (["-o", "x.npz"], 2, "no vectors are written as .npz"),
        (["-o", "x.npy", "-f", "jsonl"], 2, "x.npy ends in .npy, and --format is jsonl"),
        (["-o", "x.jsonl", "-f", "parquet"], 2, "x.jsonl ends in .jsonl"),
        (["-o", "x.csv", "-f", "npy"], 0, ""),
        (["-o", "x", "-f", "npy"], 0, ""),
        (["-o", "x.ndjson", "-f", "jsonl"], 0, ""),
        (["-o", "x.pq"], 0, ""),
    ],
)
def test_the_output_has_the_format_of_its_name(
    arguments: list[str], status: int, complaint: str, command: Command
) -> None:
    done = command("a b", *arguments)
    assert (done.status, complaint in done.stderr) == (status, True)
    if status == 0:
        start = Path(arguments[1]).read_bytes()[:4]
        kind = {b"\x93NUM": "npy", b"PAR1": "parquet"}.get(start, "jsonl")
        assert kind == {"x.pq": "parquet"}.get(arguments[1], arguments[-1])


def test_paths_at_home(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "lines.txt").write_bytes(LINES)
    assert command("-i", "~/lines.txt", "-o", "~/x.npy").status == 0
    assert np.load(tmp_path / "x.npy").shape == (3, 32)


BAD: dict[str, tuple[bytes, list[int]]] = {
    "lines.txt": (b"a b\ncaf\xe9\n\nc\n", [1, 2]),
    "objects.jsonl": (
        b'{"text": "a b"}\n{"text": null}\n{"text": 3}\n{"text":\n\n{"id": 3}\n[1]\nnull\n'
        b'{"text": "\xe9"}\n{"text": "\\ud800"}\n{"text": "c"}\n',
        [1, 2, 3, 4, 5, 6, 7, 8, 9],
    ),
    "objects.json": (b'["a b", null, {"text": null}, 3, "caf\xe9", "c"]', [1, 2, 3, 4]),
    "table.csv": (b"id,text\n1,a b\n2\n3,\n4,caf\xe9\n5,a, b\n\xe9,a\n7,c\n", [1, 2, 3, 4]),
}


@pytest.mark.parametrize("name", BAD)
def test_on_error_nan_covers_every_bad_row(name: str, command: Command) -> None:
    content, bad = BAD[name]
    Path(name).write_bytes(content)
    done = command("-i", name, "--on-error", "nan")
    assert done.status == 0, done.stderr
    assert done.without_vector == bad
    assert f"{len(bad)} texts have no vector, the first because" in done.stderr
    assert command("-i", name).status == 1
    written = command("-i", name, "--on-error", "nan", "-o", "x.npy")
    assert written.status == 0
    assert np.flatnonzero(np.isnan(np.load("x.npy")[:, 0])).tolist() == bad


def test_the_command_covers_what_python_does(command: Command, obtained: KnownModel) -> None:
    texts: list[Any] = ["a b", None, 3, "", " ", "\ud800", "a " * 200, "c"]
    with embellama.EmbeddingModel(obtained.gguf) as model:
        expected = list(model.embed_batch(texts, on_error="nan", details=True).errors)
    Path("x.json").write_text(json.dumps(texts))
    assert command("-i", "x.json", "--on-error", "nan").without_vector == expected


def test_null_in_parquet(command: Command) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"text": ["a", None, "b"]}), "x.parquet")
    assert "row 2 of x.parquet has no text in 'text' (None)" in command("-i", "x.parquet").stderr
    assert command("-i", "x.parquet", "--on-error", "nan").without_vector == [1]


@pytest.mark.parametrize(
    "kind",
    [
        pyarrow.large_string(),
        pyarrow.string_view(),
        pyarrow.dictionary(pyarrow.int32(), pyarrow.string()),
    ],
    ids=str,
)
def test_columns_of_parquet(kind: Any, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    column = pyarrow.array(TEXTS).cast(kind)
    pyarrow.parquet.write_table(pyarrow.table({"text": column}), "x.pq")
    assert pyarrow.parquet.read_schema("x.pq").field("text").type == kind
    assert_embeds(command("-i", "x.pq"), command)
    with open("x.pq", "rb") as file:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(file))
        assert_embeds(command("-i", "-", "--input-format", "parquet"), command)
        file.seek(0)
        refused = command("-i", "-", "--input-format", "parquet", "--column", "none")
        assert "no column 'none'" in refused.stderr


def test_several_columns(command: Command) -> None:
    rows = [{"title": "a b", "body": "c"}, {"title": None, "body": "d"}, {"title": "", "body": "e"}]
    Path("x.json").write_text(json.dumps(rows))
    done = command("-i", "x.json", "--column", "title,body")
    assert_embeds(done, command, ["a b\nc", "d", "e"])
    Path("y.json").write_text(json.dumps([*rows, {"title": " ", "body": None}, {"title": 3}]))
    done = command("-i", "y.json", "--column", "title,body", "--on-error", "nan")
    assert done.without_vector == [3, 4]
    Path("x.csv").write_text('"last, first",text\na b,c\n')
    assert_embeds(command("-i", "x.csv", "--column", '"last, first"'), command, ["a b"])


def test_delimiters(command: Command) -> None:
    for mark, name in {";": ";", "|": "|", "\t": "tab"}.items():
        with open("x.csv", "w", newline="") as file:
            csv.writer(file, delimiter=mark).writerows([["id", "text"], [1, "a b"]])
        assert_embeds(command("-i", "x.csv", "--delimiter", name), command, ["a b"])
        refused = command("-i", "x.csv")
        assert (refused.status, "--delimiter" in refused.stderr) == (1, True)
    assert command("-i", "x.csv", "--delimiter", "ab").status == 2
    Path("lines.txt").write_bytes(LINES)
    assert "no delimiter" in command("-i", "lines.txt", "--delimiter", ";").stderr
    pyarrow.parquet.write_table(pyarrow.table({"text": TEXTS}), "x.pq")
    assert "no delimiter" in command("-i", "x.pq", "--delimiter", ";").stderr


def test_a_column_that_no_row_has(command: Command) -> None:
    Path("x.jsonl").write_bytes(JSON_LINES)
    Path("x.csv").write_bytes(WRITTEN["table.csv"])
    for name in ("x.jsonl", "x.csv"):
        for option in ("--column", "--keep"):
            done = command("-i", name, option, "txet", "--on-error", "nan")
            assert done.status == 1
            assert "no column 'txet': choose among" in done.stderr
    Path("y.csv").write_text("text,text\na,b\n")
    assert "several columns 'text'" in command("-i", "y.csv").stderr
    # Found before anything is computed.
    done = command("-i", "x.csv", "-i", "y.csv", "-o", "x.npy")
    assert (done.status, Path("x.npy.partial").exists()) == (1, False)


def test_kept_columns(command: Command) -> None:
    moment = datetime.datetime(2024, 2, 29, 12, tzinfo=datetime.timezone.utc)
    table = pyarrow.table(
        {
            "id": pyarrow.array([7, None, 9], pyarrow.int16()),
            "when": pyarrow.array([moment] * 3, pyarrow.timestamp("ns", "UTC")),
            "kind": pyarrow.array(["x", "y", "x"]).dictionary_encode(),
            "tags": [["a"], [], None],
            "share": [0.5, float("nan"), 1.0],
            "text": TEXTS,
        }
    )
    pyarrow.parquet.write_table(table, "x.parquet")
    assert command("-i", "x.parquet", "--keep", "all", "-o", "y.parquet").status == 0
    written = pyarrow.parquet.read_table("y.parquet")
    assert written.column_names == ["index", *table.column_names, "tokens", "embedding"]
    kept = written.select(table.column_names)
    assert kept.schema.types == table.schema.types
    assert kept.drop("share").equals(table.drop("share"))
    done = command("-i", "x.parquet", "--keep", "id,when,share,tags")
    assert [row["id"] for row in done.rows] == [7, None, 9]
    assert done.rows[0]["when"] == "2024-02-29T12:00:00+00:00"
    assert [row["share"] for row in done.rows] == [0.5, None, 1.0]
    assert done.rows[0]["tags"] == ["a"]
    assert "text" not in done.rows[0]


def test_kept_columns_of_json_and_csv(command: Command) -> None:
    records = [{"id": 1, "text": "a", "x": {"y": [1.5]}}, {"text": "b", "id": 2}, {"text": 3}]
    Path("x.json").write_text(json.dumps(records))
    done = command("-i", "x.json", "--keep", "all", "--on-error", "nan")
    own = ("index", "tokens", "embedding")
    assert [{k: v for k, v in row.items() if k not in own} for row in done.rows] == records
    arguments = ["-i", "x.json", "--keep", "id,x", "--on-error", "nan", "-o", "x.parquet"]
    assert command(*arguments).status == 0
    written = pyarrow.parquet.read_table("x.parquet")
    assert written["id"].to_pylist() == [1, 2, None]
    assert written["x"].to_pylist() == [{"y": [1.5]}, None, None]
    Path("x.csv").write_text("id,text\n007,a\n")
    assert command("-i", "x.csv", "--keep", "id", "-o", "y.parquet").status == 0
    assert pyarrow.parquet.read_table("y.parquet")["id"].to_pylist() == ["007"]
    # Of several types: the JSON of each.
    Path("y.json").write_text(json.dumps([{"id": 1, "text": "a"}, {"id": "b", "text": "c"}]))
    assert command("-i", "y.json", "--keep", "id", "-o", "z.parquet").status == 0
    assert pyarrow.parquet.read_table("z.parquet")["id"].to_pylist() == ["1", "b"]


def test_columns_that_can_not_be_kept(command: Command) -> None:
    assert command("a", "--keep", "text").status == 2
    Path("x.json").write_text('[{"index": 1, "text": "a"}]')
    assert "'index' can't be kept" in command("-i", "x.json", "--keep", "all").stderr
    refused = command("-i", "x.json", "--keep", "text", "-o", "x.npy")
    assert (refused.status, "has no place" in refused.stderr) == (2, True)
    rows = [{"id": 1, "text": "a"}] * 8192 + [{"id": "b", "text": "a"}]
    Path("y.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    refused = command("-i", "y.jsonl", "--keep", "id", "-o", "y.parquet")
    assert refused.status == 1
    assert "'id' in row 8193 does not fit" in refused.stderr
    Path("z.jsonl").write_text(Path("y.jsonl").read_text().replace('"b"', '2, "new": 3'))
    refused = command("-i", "z.jsonl", "--keep", "all", "-o", "y.parquet", "-q")
    assert "'new' in row 8193 does not fit" in refused.stderr
    # What is computed is kept, and takes another column.
    done = command("-i", "z.jsonl", "--keep", "id", "-o", "y.parquet")
    assert done.stderr == "embellama: 8193 texts were done before\n"


def test_a_mended_row_and_the_advice_of_the_message(command: Command) -> None:
    texts = [f"{a} {b}" for a in "abcdefgh" for b in "abcdefgh"] * 20
    bad = [*texts, "a " * 200, *texts[:10]]
    Path("x.jsonl").write_text("".join(json.dumps(text) + "\n" for text in bad))
    stopped = command("-i", "x.jsonl", "-o", "x.npy")
    assert "line 1281 of x.jsonl has" in stopped.stderr
    assert "--truncate" in stopped.stderr
    advised = command("-i", "x.jsonl", "-o", "x.npy", "--truncate")
    assert advised.stderr == "embellama: 1024 texts were done before\n"
    assert np.isfinite(np.load("x.npy")).all()
    assert "line 1281" in command("-i", "x.jsonl", "-o", "y.npy").stderr
    mended = ["a line before", *texts, "mended", *texts[:10]]
    Path("other.json").write_text(json.dumps(mended))
    done = command("-i", "other.json", "-o", "y.npy", "--on-error", "nan")
    assert done.stderr == "embellama: 1024 texts were done before\n"
    assert command("-i", "other.json", "-o", "z.npy").status == 0
    np.testing.assert_allclose(np.load("y.npy"), np.load("z.npy"), atol=1e-5)


def test_advice_that_is_taken_before_anything_is_done(command: Command) -> None:
    Path("x.txt").write_text("a " * 200 + "\n")
    assert command("-i", "x.txt", "-o", "x.npy").status == 1
    assert os.listdir() == ["x.txt"]
    for option in (["--truncate"], ["--pooling", "cls", "--truncate"]):
        assert command("-i", "x.txt", "-o", "x.npy", *option).status == 0


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    rows=st.lists(
        st.fixed_dictionaries(
            {
                "id": st.one_of(st.none(), st.integers(-(2**53), 2**53)),
                "name": st.text(st.characters(exclude_categories=["Cs"])),
            }
        ),
        min_size=1,
        max_size=8,
    )
)
def test_kept_values_come_back(command: Command, rows: list[dict[str, Any]]) -> None:
    Path("in.jsonl").write_text("".join(json.dumps({**row, "text": "a"}) + "\n" for row in rows))
    done = command("-i", "in.jsonl", "--keep", "id,name")
    assert [{name: row[name] for name in ("id", "name")} for row in done.rows] == rows
    assert command("-i", "in.jsonl", "--keep", "id,name", "-o", "out.parquet").status == 0
    assert pyarrow.parquet.read_table("out.parquet").select(["id", "name"]).to_pylist() == rows
