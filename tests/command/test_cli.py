# SPDX-License-Identifier: Apache-2.0
"""The command, run as a user runs it: in a process of its own, with real weights."""

from __future__ import annotations

import fcntl
import importlib.metadata
import json
import os
import pty
import shlex
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
from numpy.typing import NDArray
from support.child_process import TIMEOUT
from support.known_model import KnownModel

import embellama
from embellama import catalog, cli
from embellama.convert import convert_checkpoint
from embellama.files.finished_rows import FinishedRows

COMMAND = [sys.executable, "-m", "embellama"]
TEXTS = ["a cat sat on the mat", "deux chats", "猫"]
TOO_LONG = "word " * 600


def run(*arguments: str, stdin: bytes | BinaryIO = b"", **options: Any) -> Any:
    given: dict[str, Any] = {"input": stdin} if isinstance(stdin, bytes) else {"stdin": stdin}
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, timeout=TIMEOUT, **given, **options
    )


Here = Callable[..., "subprocess.CompletedProcess[bytes]"]


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]) -> Here:
    """Like `run`, without a process, for what needs none."""

    def run_here(*arguments: str) -> subprocess.CompletedProcess[bytes]:
        monkeypatch.setattr(sys, "argv", ["embellama", *arguments])
        status = cli.main()
        return subprocess.CompletedProcess(arguments, status, *capsysbinary.readouterr())

    return run_here


def vectors(output: bytes) -> NDArray[np.float32]:
    return np.array([json.loads(line)["embedding"] for line in output.splitlines()], np.float32)


def assert_error(process: Any, *parts: str, status: int = 1) -> None:
    stderr = process.stderr.decode()
    assert process.returncode == status, stderr
    assert "Traceback" not in stderr
    assert stderr.startswith("embellama: error: ")
    assert stderr.count("\n") == 1
    for part in parts:
        assert part in stderr


def on_terminal(*arguments: str, streams: str, stdin: bytes = b"") -> tuple[int, str]:
    """The exit status, and what came to a terminal that has the place of some streams."""
    master, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    pipes: dict[str, Any] = {
        "stdin": subprocess.PIPE,
        "stdout": subprocess.DEVNULL,
        "stderr": subprocess.DEVNULL,
    }
    process = subprocess.Popen(
        [*COMMAND, *arguments], **{**pipes, **dict.fromkeys(streams.split(), terminal)}
    )
    os.close(terminal)
    if process.stdin is not None:
        process.stdin.write(stdin)
        process.stdin.close()
    shown = b""
    while True:
        try:
            part = os.read(master, 4096)
        except OSError:  # Linux says EIO when the last writer is gone.
            break
        if not part:
            break
        shown += part
    os.close(master)
    return process.wait(120), shown.decode()


def test_texts_become_json_lines(minilm: embellama.EmbeddingModel) -> None:
    process = run("embed", *TEXTS)
    assert process.returncode == 0, process.stderr
    # Nothing but the result, where no stream is a terminal.
    assert process.stderr == b""
    expected = minilm.embed_batch(TEXTS, details=True)
    lines = [json.loads(line) for line in process.stdout.splitlines()]
    assert [line["index"] for line in lines] == [0, 1, 2]
    assert [line["tokens"] for line in lines] == expected.token_counts.tolist()
    np.testing.assert_allclose(vectors(process.stdout), expected.embeddings, atol=1e-6)


def test_floats_are_as_short_as_float32_allows() -> None:
    process = run("embed", "a cat")
    printed = json.loads(process.stdout, parse_float=str)["embedding"]
    assert printed == [str(np.float32(text)) for text in printed]
    assert len(printed) == 384


@pytest.mark.parametrize(
    "written",
    [
        "\n".join(TEXTS).encode(),
        "".join(f"{text}\r\n" for text in TEXTS).encode("utf-8-sig"),
    ],
    ids=["no final newline", "Windows"],
)
def test_lines_of_standard_input(written: bytes) -> None:
    process = run("embed", stdin=written)
    assert process.returncode == 0, process.stderr
    np.testing.assert_allclose(vectors(process.stdout), vectors(run("embed", *TEXTS).stdout))


def test_lines_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "lines.txt"
    file.write_text("".join(f"{text}\n" for text in TEXTS), encoding="utf-8")
    from_file = run("embed", "--input", str(file))
    with file.open("rb") as lines:
        redirected = run("embed", "-i", "-", stdin=lines)
    assert from_file.returncode == 0, from_file.stderr
    assert redirected.stdout == from_file.stdout
    assert len(from_file.stdout.splitlines()) == 3


def test_nothing_in_nothing_out(tmp_path: Path) -> None:
    process = run("embed", stdin=b"")
    assert (process.returncode, process.stdout, process.stderr) == (0, b"", b"")
    assert run("embed", "-o", str(tmp_path / "none.npy"), stdin=b"").returncode == 0
    assert np.load(tmp_path / "none.npy").shape == (0, 384)


def test_npy(tmp_path: Path) -> None:
    expected = vectors(run("embed", *TEXTS).stdout)
    by_suffix = tmp_path / "vectors.npy"
    by_format = tmp_path / "vectors"
    assert run("embed", *TEXTS, "-o", str(by_suffix)).returncode == 0
    assert run("embed", *TEXTS, "-o", str(by_format), "-f", "npy").returncode == 0
    piped = run("embed", *TEXTS, "-f", "npy")
    assert by_suffix.read_bytes() == by_format.read_bytes() == piped.stdout
    array = np.load(by_suffix)
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array, expected)

    as_text = tmp_path / "text"
    assert run("embed", *TEXTS, "-o", str(as_text)).returncode == 0
    np.testing.assert_array_equal(vectors(as_text.read_bytes()), expected)


def test_a_named_pipe_is_written_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.npy"
    os.mkfifo(pipe)
    received = []
    reader = threading.Thread(target=lambda: received.append(pipe.read_bytes()))
    reader.start()
    assert run("embed", *TEXTS, "-o", str(pipe)).returncode == 0
    reader.join()
    assert received == [run("embed", *TEXTS, "-f", "npy").stdout]
    assert pipe.is_fifo()


@pytest.mark.parametrize("pooling", ["mean", "cls", "last", "max", "mean_sqrt"])
def test_pooling(pooling: str, minilm_path: Path) -> None:
    process = run("embed", "--pooling", pooling, *TEXTS)
    with embellama.EmbeddingModel(
        embellama.ModelConfig(minilm_path, pooling=embellama.PoolingStrategy(pooling))
    ) as model:
        np.testing.assert_allclose(vectors(process.stdout), model.embed_batch(TEXTS), atol=1e-6)


def test_normalize() -> None:
    raw, peak, unit, taxicab = (
        vectors(run("embed", "a cat", "--normalize", mode).stdout)[0]
        for mode in ("none", "max_abs", "L2", "1")
    )
    assert np.linalg.norm(raw) > 1.1
    np.testing.assert_allclose(np.abs(peak).max(), 32760)
    np.testing.assert_allclose(unit, raw / np.linalg.norm(raw), rtol=1e-5)
    np.testing.assert_allclose(taxicab, raw / np.abs(raw).sum(), rtol=1e-5)


def test_truncate(here: Here) -> None:
    assert_error(run("embed", "a cat", TOO_LONG), "text 2 has 602 tokens", "or use --truncate")

    def tokens(*arguments: str) -> list[int]:
        return [
            json.loads(line)["tokens"] for line in here("embed", *arguments).stdout.splitlines()
        ]

    limit = embellama.model_info("all-MiniLM-L6-v2").max_seq_length
    assert tokens(TOO_LONG, "--truncate") == [limit]
    assert tokens("--max-tokens", "8", TOO_LONG) == [8]
    assert tokens("--truncate", "--max-tokens", "8", TOO_LONG) == [8]
    # A text, also where it is a number.
    assert tokens("--truncate", "2024") == tokens("2024")
    assert tokens("--truncate", "a cat", "2024") == [4, *tokens("2024")]
    for number in ("0", "a cat", "9" * 5000):
        assert_error(here("embed", "--max-tokens", number, "a cat"), "--max-tokens", status=2)


def test_models_and_their_types(minilm_path: Path) -> None:
    named = run("embed", "a cat", "-m", "ALL-minilm-l6-v2", "--threads", "1")
    by_path = run("embed", "a cat", "--model", str(minilm_path), "--threads", "1")
    assert named.returncode == 0, named.stderr
    assert named.stdout == by_path.stdout
    full = run("embed", "a cat", "--file-type", "f32")
    assert full.stdout != named.stdout
    np.testing.assert_allclose(vectors(full.stdout), vectors(named.stdout), atol=1e-3)


def test_accuracy(here: Here, minilm_path: Path) -> None:
    exact = vectors(here("embed", "a cat", "--accuracy", "exact").stdout)
    config = embellama.ModelConfig(minilm_path, accuracy="exact")
    with embellama.EmbeddingModel(config) as model:
        np.testing.assert_allclose(exact[0], model.embed("a cat"), atol=1e-6)
    assert_error(here("embed", "a cat", "--accuracy", "some"), "'some'", status=2)


def test_errors_take_one_line(here: Here, tmp_path: Path) -> None:
    assert_error(here("embed", "x", "-m", "all-MiniLM-L6"), "did you mean 'all-MiniLM-L6-v2'")
    (tmp_path / "bad.gguf").write_bytes(b"GGUF" + bytes(100))
    assert_error(here("embed", "x", "-m", str(tmp_path / "bad.gguf")), "bad.gguf")
    assert_error(here("info", str(tmp_path / "none.gguf")), "none.gguf")
    assert_error(here("embed", "x", "--file-type", "Q9_9"), "Q9_9")
    assert_error(here("embed", "x", "-o", str(tmp_path / "none" / "x.npy")), "No such file")
    (tmp_path / "folder").mkdir()
    assert_error(here("embed", "x", "-m", str(tmp_path / "folder")), "embellama convert")
    assert_error(here("embed", "a cat", " "), "text 2 is white space only")


def test_wrong_usage_has_status_2(here: Here, tmp_path: Path) -> None:
    lines = tmp_path / "lines"
    lines.write_text("a cat\n")
    assert_error(here("embed", "x", "-i", str(lines)), "not both", status=2)
    assert_error(here("embed", "-i", str(tmp_path / "none")), "none", status=2)
    assert_error(here("embed", "x", "--nonsense"), "--nonsense", status=2)
    assert_error(here("embed", "x", "--normalize", "0.5"), "'0.5'", status=2)
    assert_error(here("embed", "x", "--pooling", "none"), "mean_sqrt", status=2)
    assert_error(here("embed", "x", "--threads", "0"), "--threads", status=2)
    assert_error(here("nonsense"), "nonsense", "`embellama --help` tells more", status=2)
    assert_error(here("rerank"), "`embellama rerank --help` tells more", status=2)
    assert_error(here(), "Missing command", status=2)


def test_completion_in_a_shell(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    def completed(words: str) -> list[str]:
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", str(words.count(" ")))
        return here().stdout.decode().splitlines()

    monkeypatch.setenv("_EMBELLAMA_COMPLETE", "bash_source")
    assert "complete -o nosort -F" in here().stdout.decode()
    monkeypatch.setenv("_EMBELLAMA_COMPLETE", "bash_complete")
    assert completed("embellama emb") == ["plain,embed"]
    assert "plain,--max-tokens" in completed("embellama embed --max")
    assert "plain,all-MiniLM-L6-v2" in completed("embellama embed -m ALL-")


def test_a_terminal_is_not_read_from_unasked_nor_sent_an_array() -> None:
    status, shown = on_terminal("embed", streams="stdin stderr")
    assert status == 2
    assert "no text" in shown
    status, shown = on_terminal("embed", "x", "-f", "npy", streams="stdout stderr")
    assert status == 2
    assert "use -o or a pipe" in shown


def test_the_progress_bar_is_for_terminals(tmp_path: Path) -> None:
    status, shown = on_terminal("embed", *TEXTS, streams="stderr")
    assert status == 0
    assert "3/3" in shown
    lines = tmp_path / "lines"
    lines.write_text("a cat\n" * 7)
    assert "7/7" in on_terminal("embed", "-i", str(lines), streams="stderr")[1]
    assert "2 texts" in on_terminal("embed", streams="stderr", stdin=b"a cat\na dog\n")[1]
    assert on_terminal("embed", "--quiet", *TEXTS, streams="stderr") == (0, "")
    assert on_terminal("embed", "a cat", streams="stderr") == (0, "")
    # Between vectors there is no place for it.
    status, shown = on_terminal("embed", *TEXTS, streams="stdout stderr")
    assert (status, vectors(shown.encode()).shape) == (0, (3, 384))


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (b"", "is empty"),
        (b" \t", "is white space only"),
        (b"caf\xe9", "is not UTF-8 (invalid continuation byte at byte 4 of the line)"),
        (TOO_LONG.rstrip().encode(), "has 602 tokens"),
    ],
    ids=["empty", "white space", "Latin-1", "too long"],
)
def test_a_bad_line_is_named(line: bytes, complaint: str, tmp_path: Path) -> None:
    written = b"a cat\na dog\n" + line + b"\na cow\n"
    assert_error(run("embed", stdin=written), f"line 3 of standard input {complaint}")
    file = tmp_path / "lines.txt"
    file.write_bytes(written)
    assert_error(run("embed", "-i", str(file)), f"line 3 of {file} {complaint}")


def test_an_argument_that_is_no_text() -> None:
    process = subprocess.run(
        [*COMMAND, "embed", "a cat", b"caf\xe9"], capture_output=True, timeout=TIMEOUT
    )
    assert_error(process, "text 2 ", "U+DCE9")


def test_lines_are_counted_across_windows() -> None:
    process = run("embed", stdin=b"a\n" * 1030 + b"\n")
    assert_error(process, "line 1031 of standard input is empty")
    # Those of the first window had gone out already.
    assert [json.loads(line)["index"] for line in process.stdout.splitlines()] == [*range(1024)]


def test_a_failure_leaves_the_old_output(tmp_path: Path) -> None:
    output = tmp_path / "vectors.npy"
    output.write_bytes(b"old")
    output.chmod(0o600)
    assert_error(run("embed", "-o", str(output), stdin=b"a\n" * 1030 + b"\n"), "line 1031")
    assert {path.name for path in tmp_path.iterdir()} == {"vectors.npy", "vectors.npy.partial"}
    assert output.read_bytes() == b"old"
    assert run("embed", "-o", str(output), stdin=b"a\n" * 1030).returncode == 0
    assert np.load(output).shape == (1030, 384)
    assert [path.name for path in tmp_path.iterdir()] == ["vectors.npy"]
    assert output.stat().st_mode & 0o777 == 0o600


def test_a_closed_pipe_is_no_error() -> None:
    process = subprocess.Popen(
        [*COMMAND, "embed"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdin.write(b"a cat\n" * 1000)
    process.stdin.close()
    assert process.stdout.readline().startswith(b'{"index": 0')
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(60) == 0
    process.stderr.close()


def test_a_full_disk_is_an_error() -> None:
    with Path("/dev/full").open("wb") as full:
        process = subprocess.run(
            [*COMMAND, "embed", "a cat"],
            stdin=subprocess.DEVNULL,
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=TIMEOUT,
        )
    assert_error(process, "No space left on device")


def run_closed(
    descriptor: int, *arguments: str, **options: Any
) -> subprocess.CompletedProcess[bytes]:
    """Like `run`, with a stream that is closed, as ``<&-`` and ``>&-`` in a shell close one."""
    command = shlex.join([*COMMAND, *arguments])
    return subprocess.run(
        ["sh", "-c", f"{command} {descriptor}>&-"], capture_output=True, timeout=TIMEOUT, **options
    )


def test_a_closed_stdin_is_an_error_where_it_is_read(tmp_path: Path) -> None:
    unreadable = "standard input can't be read: Bad file descriptor"
    assert_error(run_closed(0, "embed", "-q"), unreadable)
    assert_error(run_closed(0, "embed", "-i", "-"), unreadable)
    assert_error(run_closed(0, "rerank", "a query", "-m", "all-MiniLM-L6-v2"), unreadable)
    process = run_closed(0, "embed", "a cat")
    assert (process.returncode, process.stderr) == (0, b"")


def test_a_closed_stdout_is_an_error_where_it_is_written(tmp_path: Path) -> None:
    assert_error(run_closed(1, "embed", "a cat"), "standard output can't be written (Bad file")
    assert_error(run_closed(1, "embed", "a cat", "-f", "npy"), "standard output can't be written")
    assert_error(run_closed(1, "models"), "Bad file descriptor")
    output = tmp_path / "vectors.jsonl"
    process = run_closed(1, "embed", "a cat", "-o", str(output))
    assert (process.returncode, process.stderr) == (0, b"")
    assert output.read_bytes() == run("embed", "a cat").stdout


def test_a_closed_stderr_loses_no_output(tmp_path: Path) -> None:
    process = run_closed(2, "embed", "a cat")
    assert process.returncode == 0
    assert process.stdout == run("embed", "a cat").stdout
    assert run_closed(2, "embed", " ").returncode == 1
    assert run_closed(2, "embed", "--nonsense").returncode == 2


def test_ctrl_c(tmp_path: Path) -> None:
    lines, output = tmp_path / "lines.txt", tmp_path / "out.jsonl"
    # A first window that is done at once, and minutes of work after it.
    lines.write_text("a\n" * 1024 + (TOO_LONG + "\n") * 1024)
    process = subprocess.Popen(
        [*COMMAND, "embed", "--truncate", "-i", str(lines), "-o", str(output)],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        # A shell's background job ignores Ctrl-C, and so would what it starts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + TIMEOUT
    windows = tmp_path / "out.jsonl.partial" / "windows"
    while not (windows.exists() and windows.stat().st_size):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    # Into the second window.
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=TIMEOUT)
    folder = tmp_path / "out.jsonl.partial"
    assert (process.returncode, stderr.decode()) == (
        130,
        f"embellama: stopped; 1024 texts are done and kept in {folder}: the same command goes on "
        "from there\n",
    )
    # What was done is kept for the next run, under a name that is not the result's.
    assert {path.name for path in tmp_path.iterdir()} == {"lines.txt", "out.jsonl.partial"}
    with FinishedRows(folder, 384, 512) as finished:
        assert finished.n_found == 1024


def test_info(minilm_path: Path) -> None:
    described = json.loads(run("info", "--json").stdout)
    assert described["file"] == str(minilm_path)
    assert described["file_size"] == minilm_path.stat().st_size
    assert described["name"] == "all-MiniLM-L6-v2"
    assert described["architecture"] == "bert"
    assert described["dimensions"] == 384
    assert described["context_length"] == 512
    assert described["pooling"] == "mean"
    assert described["parameters"] == 22565376
    assert set(described["tensor_types"]) == {"F16", "F32"}
    assert described["licence"] == "Apache-2.0"
    assert described["source"] == "https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2"

    shown = run("info", str(minilm_path)).stdout.decode()
    assert "22,565,376" in shown
    assert "MB" in shown
    for value in (described["file"], "bert", "384", "512", "mean", "Apache-2.0"):
        assert value in shown


def test_models(
    here: Here, minilm_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = here("models").stdout.decode()
    assert "all-MiniLM-L6-v2: 384 dimensions, Apache-2.0" in shown
    assert f"{minilm_path.stat().st_size / 1e6:.1f} MB  {minilm_path}" in shown
    monkeypatch.setenv("EMBELLAMA_CACHE", str(tmp_path))
    empty = here("models").stdout.decode()
    assert "downloaded on first use" in empty
    assert str(tmp_path) in empty
    filtered = here("models", "ALL-minilm").stdout.decode()
    assert "all-MiniLM-L12-v2: 384 dimensions" in filtered
    assert "bge-" not in filtered
    described = json.loads(here("models", "bge-reranker-base", "--json").stdout)
    assert described["cache"] == str(tmp_path)
    (reranker,) = described["models"]
    assert (reranker["pooling"], reranker["dimensions"], reranker["files"]) == ("rank", 0, [])


def test_pull_and_remove(here: Here, known_model: KnownModel) -> None:
    assert here("pull", "tiny").stdout.decode() == f"{known_model.gguf}\n"
    q8_0 = known_model.directory / "tiny-Q8_0.gguf"
    assert here("pull", "tiny", "--file-type", "q8_0").stdout.decode() == f"{q8_0}\n"
    (listed,) = json.loads(here("models", "--json").stdout)["models"]
    size = q8_0.stat().st_size
    assert {"path": str(q8_0), "size": size} in listed["files"]
    assert here("rm", "tiny:Q8_0").stdout.decode() == f"removed {size / 1e6:.1f} MB  {q8_0}\n"
    assert sorted(known_model.directory.glob("*.gguf*")) == [
        known_model.gguf,
        known_model.gguf.with_name(f"{known_model.gguf.name}.sha256"),
    ]
    assert here("rm", "org/tiny", "--quiet").stdout == b""
    assert not known_model.directory.exists()
    assert_error(here("rm", "tiny"), "holds nothing of tiny")
    assert_error(here("rm", "org/other"), "holds nothing of org/other", "hf cache rm")
    assert_error(here("rm", "tiyn"), "did you mean 'tiny'")


def test_what_else_the_cache_keeps_is_listed(here: Here, known_model: KnownModel) -> None:
    folder = known_model.cache / "models" / "org--other"
    folder.mkdir(parents=True)
    (folder / "other-F16.gguf").touch()
    (folder / "SOURCE.json").write_text('{"repository": "org/other"}')
    shown = here("models", "other").stdout.decode()
    assert f"org/other:\n      0.0 MB  {folder / 'other-F16.gguf'}\n" in shown
    assert_error(here("rm", "org/other/other-F16.gguf"), "hf cache rm model/org/other")
    assert here("rm", "org/other").returncode == 0
    assert not folder.exists()
    (folder / "org--other.partial" / "checkpoint").mkdir(parents=True)
    assert here("rm", "org/other").returncode == 0
    assert not folder.exists()


def test_the_default_model_from_the_environment(
    here: Here, minilm_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMBELLAMA_MODEL_PATH", "no-such-model")
    assert_error(here("info"), "no-such-model")
    assert_error(here("embed", "a cat"), "no-such-model")
    assert here("info", str(minilm_path)).returncode == 0


def test_convert(here: Here, minilm_path: Path, tmp_path: Path) -> None:
    checkpoint = minilm_path.with_name("all-MiniLM-L6-v2")
    output = tmp_path / "model.gguf"
    process = run("convert", str(checkpoint), str(output))
    assert (process.returncode, process.stdout, process.stderr) == (0, b"", b"")
    # Not the cached file, which an older release may have made.
    expected = convert_checkpoint(checkpoint, tmp_path / "expected.gguf", file_type="F16")
    assert output.read_bytes() == expected.read_bytes()
    assert here("convert", str(checkpoint), str(output), "--type", "q8_0").returncode == 0
    assert json.loads(here("info", "--json", str(output)).stdout)["tensor_types"]["Q8_0"] > 30
    assert_error(here("convert", str(checkpoint), str(output), "--type", "Q9_9"), "Q9_9")
    assert_error(here("convert", str(checkpoint), str(output), "--task", "any"), "no adapters")
    assert_error(here("convert", str(tmp_path), str(output)), "config.json")
    assert_error(here("convert", str(tmp_path / "none"), str(output)), "none", status=2)


def test_help_and_version(here: Here) -> None:
    version = run("--version")
    assert version.stdout.decode() == f"embellama {importlib.metadata.version('embellama')}\n"
    overview = here("-h").stdout.decode()
    for name in ("embed", "rerank", "bench", "info", "models", "pull", "rm", "convert"):
        assert f"\n  {name} " in overview
        process = here(name, "--help")
        assert process.returncode == 0
        assert f"Usage: embellama {name}" in process.stdout.decode()


def test_the_command_is_installed() -> None:
    (entry,) = importlib.metadata.entry_points(group="console_scripts", name="embellama")
    assert entry.value == "embellama.cli:main"


def test_the_default_model_is_known() -> None:
    assert "all-MiniLM-L6-v2" in [entry.name for entry in catalog.known_models()]
