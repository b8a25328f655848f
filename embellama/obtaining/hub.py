# SPDX-License-Identifier: Apache-2.0
"""The Hugging Face Hub: what a repository holds, its files, and what each refusal means.

huggingface_hub reads HF_HOME, HF_TOKEN, HF_ENDPOINT and HF_HUB_OFFLINE itself.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import errno
import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from embellama.errors import EmbellamaError, ModelLoadError, ModelNotFoundError
from embellama.files.checksum import file_sha256
from embellama.obtaining.conversion import require_space
from embellama.obtaining.known_models import KNOWN_MODELS

__all__ = [
    "DISK_IS_FULL",
    "WITHOUT_CLIENT",
    "Repository",
    "RepositoryFile",
    "cached_file",
    "cached_ggufs",
    "download_to",
    "first_line",
    "hub_file",
    "hub_gguf",
    "hub_is_full",
    "list_repository",
    "refusal",
]

WITHOUT_CLIENT = "huggingface_hub is not installed (pip install huggingface_hub)"

# Seconds after which the Hugging Face Hub counts as unreachable.
_TIMEOUT = 5.0

# The operating system's messages for a disk that can't take more.
DISK_IS_FULL = {os.strerror(number): number for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)}


@dataclasses.dataclass(frozen=True)
class RepositoryFile:
    """A file of a repository, and the hash that the Hub states for it.

    Attributes
    ----------
    name : str
        Its path in the repository.
    size : int
        Bytes.
    sha256 : str or None
        Of a large file.
    blob : str or None
        Git's SHA-1 of a small file.
    """

    name: str
    size: int
    sha256: str | None
    blob: str | None

    def damage(self, path: Path) -> str | None:
        """Return what is wrong with a copy of the file, or None."""
        size = path.stat().st_size
        if size != self.size:
            return f"{self.name} has {size:,} bytes, expected {self.size:,}"
        if self.sha256 is not None:
            digest, expected = file_sha256(path), self.sha256
        elif self.blob is not None:
            # Git hashes a header before the content, and names the blob by SHA-1.
            content = b"blob %d\0" % size + path.read_bytes()
            digest = hashlib.sha1(content, usedforsecurity=False).hexdigest()
            expected = self.blob
        else:
            return None
        return None if digest == expected else f"{self.name} has the hash {digest}, not {expected}"


@dataclasses.dataclass(frozen=True)
class Repository:
    """What a repository holds.

    Attributes
    ----------
    name : str
        ``org/repo``.
    commit : str
        The revision that was listed.
    licence : str or None
        As its model card states it.
    files : tuple of RepositoryFile
    """

    name: str
    commit: str
    licence: str | None
    files: tuple[RepositoryFile, ...]


def list_repository(name: str, revision: str | None) -> Repository:
    """Ask the Hub for the files of a repository.

    Raises
    ------
    ImportError
        If huggingface_hub is missing.
    Exception
        As huggingface_hub and its HTTP library raise it; :func:`refusal` says what it means.
    """
    import huggingface_hub

    info = huggingface_hub.HfApi().model_info(
        name, revision=revision, files_metadata=True, timeout=_TIMEOUT
    )
    files = [
        RepositoryFile(
            file.rfilename,
            file.size or 0,
            file.lfs.sha256 if file.lfs else None,
            None if file.lfs else file.blob_id,
        )
        for file in info.siblings or ()
    ]
    stated = [tag.partition(":")[2] for tag in info.tags or () if tag.startswith("license:")]
    return Repository(name, info.sha or "main", stated[0] if stated else None, tuple(files))


def cached_file(repository: str, name: str, revision: str | None) -> Path | None:
    """Return a file that huggingface_hub's cache holds, or None."""
    import huggingface_hub

    found = huggingface_hub.try_to_load_from_cache(repository, name, revision=revision)
    return Path(found) if isinstance(found, str) else None


def cached_ggufs(repository: str, revision: str | None) -> dict[str, Path]:
    """Return the GGUF files of a repository that huggingface_hub's cache holds, by their names."""
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = Path(
            huggingface_hub.snapshot_download(
                repository, revision=revision, local_files_only=True, allow_patterns="*.gguf"
            )
        )
    except LocalEntryNotFoundError:
        return {}
    return {path.relative_to(folder).as_posix(): path for path in folder.rglob("*.gguf")}


def download_to(directory: Path, repository: Repository, file: RepositoryFile, show: bool) -> None:
    """Download a file of a repository to its place below a directory, or go on with it.

    Raises
    ------
    ModelLoadError
        If what comes is not the file that the Hub states, twice.
    Exception
        As huggingface_hub and its HTTP library raise it; :func:`refusal` says what it means.
    """
    import huggingface_hub

    damage = None
    for fresh in (False, True):
        with _progress(show):
            path = huggingface_hub.hf_hub_download(
                repository.name,
                file.name,
                revision=repository.commit,
                local_dir=directory,
                etag_timeout=_TIMEOUT,
                force_download=fresh,
            )
        damage = file.damage(Path(path))
        if damage is None:
            return
        os.unlink(path)
    raise ModelLoadError(
        f"{repository.name} at {repository.commit}: {damage}; the network or a proxy changes "
        "files: try again, or download the repository on another machine"
    )


def hub_file(
    repository: str, name: str, revision: str | None, show: bool, *, fresh: bool = False
) -> Path:
    """A file of a Hub repository, from huggingface_hub's cache if it is there and not `fresh`."""
    import huggingface_hub
    from huggingface_hub.constants import HF_HUB_CACHE
    from huggingface_hub.errors import LocalEntryNotFoundError

    if not fresh:
        with contextlib.suppress(LocalEntryNotFoundError):
            return Path(
                huggingface_hub.hf_hub_download(
                    repository, name, revision=revision, local_files_only=True
                )
            )
    # hf_hub_download retries for half a minute if the Hub is unreachable; this call tries once.
    stated = huggingface_hub.get_hf_file_metadata(
        huggingface_hub.hf_hub_url(repository, name, revision=revision), timeout=_TIMEOUT
    )
    require_space(Path(HF_HUB_CACHE), stated.size or 0, f"{repository}/{name}", "HF_HOME")
    with _progress(show):
        path = Path(
            huggingface_hub.hf_hub_download(
                repository,
                name,
                revision=revision,
                etag_timeout=_TIMEOUT,
                force_download=fresh,
            )
        )
    # huggingface_hub compares the size only. The ETag of a large file is its SHA-256.
    if re.fullmatch("[0-9a-f]{64}", stated.etag or "") and file_sha256(path) != stated.etag:
        path.resolve().unlink()
        path.unlink(missing_ok=True)  # the link to it, where the cache has links
        raise ModelLoadError(
            f"{repository}: {name} came with another SHA-256 than {stated.etag}, which the Hub "
            "states; the network or a proxy changes files: try again"
        )
    return path


@contextlib.contextmanager
def _progress(show: bool) -> Iterator[None]:
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


def hub_gguf(repository: str, name: str, revision: str | None, show: bool) -> Path:
    """Return a GGUF file of the Hugging Face Hub, downloaded into the Hub's own cache.

    Raises
    ------
    ModelNotFoundError
        If the Hub has no such file, can't be reached, or ``huggingface_hub`` is missing.
    ModelLoadError
        If there is no room, or another file comes.
    """
    try:
        return hub_file(repository, name, revision, show)
    except Exception as error:
        # refusal() says why any exception is caught.
        raise refusal(error, repository, name) from error


def refusal(error: Exception, repository: str, name: str = "") -> EmbellamaError:
    """Return the exception that says why the Hub does not give a repository, or a file of it.

    The exceptions of huggingface_hub's HTTP library have no base class common to all versions, so
    any exception of a download is given to this function.
    """
    wanted = f"{repository}/{name}" if name else repository
    if isinstance(error, EmbellamaError):
        return error
    if isinstance(error, ImportError):
        return ModelNotFoundError(
            f"{wanted} is not a file, and on the Hugging Face Hub can't be looked for: "
            f"{WITHOUT_CLIENT}"
        )
    full = hub_is_full(error)
    if full:
        return ModelLoadError(f"cannot download {wanted}: {full}")
    from huggingface_hub import constants, errors

    page = f"https://huggingface.co/{repository}"
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    if constants.HF_HUB_OFFLINE and isinstance(error, errors.OfflineModeIsEnabled):
        why = (
            "it is not in the cache, and HF_HUB_OFFLINE forbids downloading it: unset that, or "
            "fill the cache on another machine"
        )
    elif isinstance(error, errors.GatedRepoError) or (
        status == 403 and not isinstance(error, errors.EntryNotFoundError)
    ):
        why = (
            f"the Hugging Face Hub gives it to those only who accepted its licence: accept the "
            f"licence at {page} and set HF_TOKEN to a token of that account"
        )
    elif isinstance(error, errors.RepositoryNotFoundError):
        # The Hub answers so without a token for private repositories too.
        known = {entry.repository.lower(): entry.repository for entry in KNOWN_MODELS}
        near = difflib.get_close_matches(repository.lower(), known, n=1, cutoff=0.85)
        why = (
            f"the Hugging Face Hub has no repository {repository}"
            + (f"; did you mean {known[near[0]]}?" if near else "; check the name.")
            + f" If it is private or gated: accept the licence at {page} and set HF_TOKEN"
        )
    elif isinstance(error, errors.HFValidationError):
        why = "no repository can have this name"
    elif isinstance(error, errors.RevisionNotFoundError):
        why = f"the repository has no such revision: see {page}/commits/main"
    elif isinstance(error, errors.EntryNotFoundError) and not isinstance(
        error, errors.LocalEntryNotFoundError
    ):
        why = f"the repository has no such file: see {page}/tree/main"
    elif status == 401:
        why = "the Hugging Face Hub refuses the token in HF_TOKEN: set a valid one, or none"
    elif status == 429:
        why = (
            "the Hugging Face Hub takes no more requests for now (429): try again in a few "
            "minutes, or set HF_TOKEN, with which it takes more"
        )
    else:
        why = (
            f"the Hugging Face Hub can't be reached or broke off ({first_line(error)}): check the "
            "network and try again; files that came whole are kept"
        )
    return ModelNotFoundError(f"cannot obtain {wanted}: {why}")


def hub_is_full(error: Exception) -> str:
    """Return the message for a full disk; empty if the error has another cause."""
    if not isinstance(error, OSError) or error.errno not in DISK_IS_FULL.values():
        return ""
    from huggingface_hub.constants import HF_HUB_CACHE

    return (
        f"its cache, {HF_HUB_CACHE}, can't be written ({error.strerror}); make room there, or set "
        "the environment variable HF_HOME to another directory"
    )


def first_line(error: Exception) -> str:
    """Return the type of an exception and the first line of its message."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
