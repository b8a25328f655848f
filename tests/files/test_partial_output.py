# SPDX-License-Identifier: Apache-2.0
"""Corpora on their way whose files were tampered with or can't be written.

Kills, full disks and several processes at once are in tests/stress/files.py.
"""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from support.child_process import TIMEOUT
from support.known_model import KnownModel
from support.tampering import TAMPERINGS, WAYS

from embellama.cli import main
from embellama.files.finished_rows import has_finished_rows

COMMAND = [sys.executable, "-m", "embellama"]


@pytest.fixture
def corpus(obtained: KnownModel, tmp_path: Path) -> Path:
    """Two windows, and a line that stops the run."""
    path = tmp_path / "corpus.txt"
    path.write_text("".join(f"{a} {b}\n" for a in "abcdefgh" for b in "abcdefgh") * 32 + " \n")
    return path


class Done(NamedTuple):
    returncode: int
    stderr: str


Embed = Callable[..., Done]


@pytest.fixture
def embed(
    obtained: KnownModel, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Embed:
    """The command, in this process."""

    def run(*arguments: str | Path) -> Done:
        command = ["embellama", "embed", "-m", str(obtained.gguf), "--threads", "1"]
        monkeypatch.setattr(sys, "argv", [*command, *map(str, arguments)])
        capfd.readouterr()
        status = main()
        return Done(status, capfd.readouterr().err)

    return run


def begin(embed: Embed, corpus: Path, output: Path) -> Path:
    """Have two windows done of a corpus, and mend it."""
    done = embed("-i", corpus, "-o", output)
    assert "line 2049" in done.stderr
    corpus.write_bytes(corpus.read_bytes()[:-2] + b"a\n")
    return output.with_name(f"{output.name}.partial")


@pytest.mark.parametrize("suffix", ["npy", "jsonl", "parquet"])
def test_damaged_rows_are_computed_again(
    embed: Embed, corpus: Path, tmp_path: Path, suffix: str
) -> None:
    output, undisturbed = tmp_path / f"x.{suffix}", tmp_path / f"undisturbed.{suffix}"
    folder = begin(embed, corpus, output)
    rows = folder / "rows"
    content = bytearray(rows.read_bytes())
    content[len(content) * 3 // 4] ^= 1
    rows.write_bytes(content)
    done = embed("-i", corpus, "-o", output)
    assert done.stderr == "embellama: 1024 texts were done before\n"
    assert embed("-i", corpus, "-o", undisturbed).returncode == 0
    assert output.read_bytes() == undisturbed.read_bytes()


@pytest.mark.parametrize(
    ("journal", "kept"),
    [
        ("", 0),
        ("nonsense", 0),
        ("99999999999 00\n", 0),
        ("-5 00\n", 0),
        ("2048 " + "0" * 64 + "\n", 0),
        ("{0}\n\xff\n", 1024),
        ("{0}\n{0}\n", 1024),
        ("{0}\n{1}\n1 2 3", 2048),
        ("{1}\n{0}\n", 0),
    ],
)
def test_a_tampered_journal(
    embed: Embed, corpus: Path, tmp_path: Path, journal: str, kept: int
) -> None:
    output = tmp_path / "x.npy"
    folder = begin(embed, corpus, output)
    lines = (folder / "windows").read_text().splitlines()
    (folder / "windows").write_text(journal.format(*lines), encoding="latin-1")
    done = embed("-i", corpus, "-o", output)
    assert done.stderr == (f"embellama: {kept} texts were done before\n" if kept else "")
    assert np.load(output).shape == (2049, 32)


@pytest.mark.parametrize("record", ["[]", "3", '"x"', "nonsense", "", "{}", '{"model": 1}'])
def test_a_tampered_description(embed: Embed, corpus: Path, tmp_path: Path, record: str) -> None:
    output = tmp_path / "x.npy"
    folder = begin(embed, corpus, output)
    (folder / "job.json").write_text(record)
    done = embed("-i", corpus, "-o", output)
    assert done.returncode == 1
    assert "holds rows of another result" in done.stderr
    assert "--restart" in done.stderr
    assert embed("-i", corpus, "-o", output, "--restart").stderr == ""
    assert np.load(output).shape == (2049, 32)


def test_what_a_killed_run_left_of_a_pipe_is_kept(
    embed: Embed, obtained: KnownModel, corpus: Path, tmp_path: Path
) -> None:
    output = tmp_path / "x.npy"
    process = subprocess.Popen(
        [*COMMAND, "embed", "-m", str(obtained.gguf), "-o", str(output)], stdin=subprocess.PIPE
    )
    assert process.stdin is not None
    process.stdin.write(b"".join(corpus.read_bytes().splitlines(keepends=True)[:1024]))
    process.stdin.flush()
    while not has_finished_rows(output.with_name("x.npy.partial")):
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.communicate()
    done = embed("-i", corpus, "-o", output, "--on-error", "nan")
    assert done.returncode == 0
    assert done.stderr.startswith("embellama: 1024 texts were done before\n")
    assert np.load(output).shape == (2049, 32)
    assert not output.with_name("x.npy.partial").exists()


@pytest.mark.parametrize("name", ["rows", "windows", "job.json"])
@pytest.mark.parametrize("tamper", TAMPERINGS[2:], ids=WAYS[2:])
def test_something_else_in_the_working_folder(
    embed: Embed, corpus: Path, tmp_path: Path, name: str, tamper: Callable[[Path], None]
) -> None:
    output = tmp_path / "x.npy"
    folder = begin(embed, corpus, output)
    tamper(folder / name)
    done = embed("-i", corpus, "-o", output)
    if done.returncode != 0:
        assert f"{output} can't be written" in done.stderr or "--restart" in done.stderr
        done = embed("-i", corpus, "-o", output, "--restart")
    assert done.returncode == 0, done.stderr
    assert np.load(output).shape == (2049, 32)
    assert not folder.exists()


def test_a_file_where_the_working_folder_should_be(embed: Embed, tmp_path: Path) -> None:
    (tmp_path / "x.npy.partial").touch()
    done = embed("a b", "-o", tmp_path / "x.npy")
    assert done.returncode == 1
    assert "x.npy.partial is no folder" in done.stderr


@pytest.mark.parametrize("suffix", ["npy", "jsonl", "parquet"])
def test_a_device_that_is_full(embed: Embed, suffix: str) -> None:
    done = embed("a b", "-o", "/dev/full", "-f", suffix)
    assert done.returncode == 1
    assert "/dev/full can't be written (No space left on device)" in done.stderr


def test_a_standard_output_that_is_full(obtained: KnownModel) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*COMMAND, "embed", "-m", str(obtained.gguf), "a b", "-f", "npy"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
    assert done.returncode == 1
    assert "standard output can't be written (No space left on device)" in done.stderr


def test_a_stream_leaves_no_temporary_file(
    obtained: KnownModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    process = subprocess.Popen(
        [*COMMAND, "embed", "-m", str(obtained.gguf), "-f", "npy"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    process.stdin.write(b"a b\n" * 1024)
    process.stdin.flush()

    def opened() -> Iterator[str]:
        for descriptor in Path(f"/proc/{process.pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                yield os.readlink(descriptor)

    while not any(str(tmp_path) in name for name in opened()):
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.communicate()
    assert list((tmp_path / "temporary").iterdir()) == []


def test_a_full_disk_amid_a_corpus(obtained: KnownModel, corpus: Path, tmp_path: Path) -> None:
    output = tmp_path / "x.npy"
    command = [*COMMAND, "embed", "-m", str(obtained.gguf), "-i", str(corpus), "-o", str(output)]
    limit = 1500 * (24 + 32 * 4)
    done = subprocess.run(
        command,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.returncode == 1
    assert f"{output} can't be written (File too large): make room" in done.stderr
    assert not output.exists()
    # Once there is room.
    done = subprocess.run(
        [*command, "--on-error", "raise"],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.stderr.startswith("embellama: 1024 texts were done before\n")
