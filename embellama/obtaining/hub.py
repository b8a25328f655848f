# SPDX-License-Identifier: Apache-2.0
"""The Hugging Face Hub: what a repository holds, what is cached, and what each refusal means.

huggingface_hub reads HF_HOME, HF_TOKEN, HF_ENDPOINT and HF_HUB_OFFLINE itself.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import errno
import hashlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from embellama.errors import EmbellamaError, ModelLoadError, ModelNotFoundError
from embellama.files.checksum import file_sha256
from embellama.obtaining.known_models import KNOWN_MODELS

__all__ = [
    "DISK_IS_FULL",
    "TIMEOUT",
    "WITHOUT_CLIENT",
    "Repository",
    "RepositoryFile",
    "cached_file",
    "cached_ggufs",
    "first_line",
    "list_repository",
    "refusal",
    "silenced",
]

WITHOUT_CLIENT = "huggingface_hub is not installed (pip install huggingface_hub)"

# Seconds after which the Hugging Face Hub counts as unreachable.
TIMEOUT = 5.0

# The operating system's messages for a disk that can't take more.
DISK_IS_FULL = {os.strerror(number): number for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)}


@dataclasses.dataclass(frozen=True)
class RepositoryFile:
    """A file of a repository, and the hash that the Hub states for it.

    Attributes
    ----------
    name : str
        Its path in the repository.
    size : int or None
        Bytes; None if that was not asked for.
    sha256 : str or None
        Of a large file.
    blob : str or None
        Git's SHA-1 of a small file.
    """

    name: str
    size: int | None
    sha256: str | None
    blob: str | None

    def damage(self, path: Path) -> str | None:
        """Return what is wrong with a copy of the file, or None."""
        size = path.stat().st_size
        if self.size is not None and size != self.size:
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
    is_gated : bool
        Whether its files are for those only who accepted the licence.
    files : tuple of RepositoryFile
    """

    name: str
    commit: str
    licence: str | None
    is_gated: bool
    files: tuple[RepositoryFile, ...]


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """Keep huggingface_hub's bars and notices from the terminal; embellama has its own."""
    from huggingface_hub.utils.tqdm import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    notices = logging.getLogger("huggingface_hub")
    level = notices.level
    had_bars = not are_progress_bars_disabled()
    notices.setLevel(logging.ERROR)
    if had_bars:
        disable_progress_bars()
    try:
        yield
    finally:
        notices.setLevel(level)
        if had_bars:
            enable_progress_bars()


@silenced()
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
        name, revision=revision, files_metadata=True, timeout=TIMEOUT
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
    licence = stated[0] if stated else None
    return Repository(name, info.sha or "main", licence, bool(info.gated), tuple(files))


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
    full = _hub_is_full(error)
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
            + (". Or set HF_HUB_DISABLE_XET=1, which takes another way" if _is_xet(error) else "")
        )
    return ModelNotFoundError(f"cannot obtain {wanted}: {why}")


def _is_xet(error: Exception) -> bool:
    """Whether Xet's library failed; its exceptions have no class of their own."""
    return any(name in str(error) for name in ("CAS", "xet", "Xet"))


def _hub_is_full(error: Exception) -> str:
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
