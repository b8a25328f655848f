# SPDX-License-Identifier: Apache-2.0
"""How files of the Hugging Face Hub are downloaded: into its own cache, or into a folder."""

from __future__ import annotations

import contextlib
import os
import queue
import re
import threading
from collections.abc import Sequence
from pathlib import Path

from embellama.errors import ModelLoadError
from embellama.files.checksum import file_sha256
from embellama.obtaining.conversion import require_space
from embellama.obtaining.download_progress import download_bar, print_obtained, size_on_disk
from embellama.obtaining.hub import (
    TIMEOUT,
    Repository,
    RepositoryFile,
    cached_file,
    refusal,
    silenced,
)
from embellama.obtaining.remote_file import RemoteFile
from embellama.progress import stderr_is_terminal

__all__ = ["download_files", "hub_gguf", "open_hub_file"]

_FILES_AT_ONCE = 4


@silenced()
def download_files(
    directory: Path, repository: Repository, files: Sequence[RepositoryFile], show: bool
) -> None:
    """Download files of a repository to their places below a directory, several at once.

    What is there already is kept, and of what huggingface_hub's cache holds a link is made.

    Raises
    ------
    ModelLoadError
        If what comes is not the file that the Hub states, twice.
    Exception
        As huggingface_hub and its HTTP library raise it; :func:`embellama.obtaining.hub.refusal`
        says what it means.
    """
    missing = [file for file in files if not _link_to_cache(directory, repository, file)]
    waiting: queue.SimpleQueue[RepositoryFile] = queue.SimpleQueue()
    for file in missing:
        waiting.put(file)
    outcomes: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()

    def work() -> None:
        outcome = None
        try:
            while outcome is None:
                _download(directory, repository, waiting.get_nowait())
        except queue.Empty:
            pass
        except Exception as error:
            outcome = error
            _drain(waiting)
        outcomes.put(outcome)

    if not missing:
        return
    _require_answer(repository, missing[0])
    before = size_on_disk(directory.rglob("*"))
    kept = sum(file.size or 0 for file in missing if (directory / file.name).is_file())
    total = sum(file.size or 0 for file in missing) or None
    with download_bar(
        repository.name,
        lambda: kept + size_on_disk(directory.rglob("*")) - before,
        total,
        show,
    ):
        # Daemons: after Ctrl-C the process ends without waiting for what they download.
        workers = [
            threading.Thread(target=work, daemon=True)
            for _ in range(min(_FILES_AT_ONCE, len(missing)))
        ]
        for worker in workers:
            worker.start()
        try:
            # The folder may be removed after a failure, so all have to be done with it.
            failed = [error for error in [outcomes.get() for _ in workers] if error is not None]
        finally:
            _drain(waiting)
    if failed:
        raise failed[0]


def _drain(waiting: queue.SimpleQueue[RepositoryFile]) -> None:
    """Take away the files that no worker has begun with."""
    with contextlib.suppress(queue.Empty):
        while True:
            waiting.get_nowait()


def _require_answer(repository: Repository, file: RepositoryFile) -> None:
    """Raise if the Hub is out of reach; hf_hub_download would try again for half a minute."""
    import huggingface_hub

    url = huggingface_hub.hf_hub_url(repository.name, file.name, revision=repository.commit)
    huggingface_hub.get_hf_file_metadata(url, timeout=TIMEOUT)


def _link_to_cache(directory: Path, repository: Repository, file: RepositoryFile) -> bool:
    target = directory / file.name
    if target.is_symlink():
        target.unlink()
    cached = cached_file(repository.name, file.name, repository.commit)
    if cached is None or file.damage(cached) is not None:
        return False
    target.unlink(missing_ok=True)
    target.parent.mkdir(exist_ok=True)
    target.symlink_to(cached.resolve())
    return True


def _download(directory: Path, repository: Repository, file: RepositoryFile) -> None:
    import huggingface_hub

    damage = None
    for fresh in (False, True):
        path = huggingface_hub.hf_hub_download(
            repository.name,
            file.name,
            revision=repository.commit,
            local_dir=directory,
            etag_timeout=TIMEOUT,
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


@silenced()
def _to_hub_cache(repository: str, name: str, revision: str | None, show: bool) -> Path:
    import huggingface_hub
    from huggingface_hub.constants import HF_HUB_CACHE

    # hf_hub_download retries for half a minute if the Hub is unreachable; this call tries once.
    stated = huggingface_hub.get_hf_file_metadata(
        huggingface_hub.hf_hub_url(repository, name, revision=revision), timeout=TIMEOUT
    )
    require_space(Path(HF_HUB_CACHE), stated.size or 0, f"{repository}/{name}", "HF_HOME")
    blobs = Path(HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}" / "blobs"
    incomplete = f"{stated.etag}*.incomplete"
    with download_bar(name, lambda: size_on_disk(blobs.glob(incomplete)), stated.size, show):
        path = Path(
            huggingface_hub.hf_hub_download(
                repository, name, revision=revision, etag_timeout=TIMEOUT
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


def hub_gguf(repository: str, name: str, revision: str | None, *, progress: bool) -> Path:
    """Return a GGUF file of the Hugging Face Hub, downloaded into the Hub's own cache.

    Raises
    ------
    ModelNotFoundError
        If the Hub has no such file, can't be reached, or ``huggingface_hub`` is missing.
    ModelLoadError
        If there is no room, or another file comes.
    """
    try:
        cached = cached_file(repository, name, revision)
        if cached is not None:
            return cached
        path = _to_hub_cache(repository, name, revision, progress and stderr_is_terminal())
    except Exception as error:
        # refusal() says why any exception is caught.
        raise refusal(error, repository, name) from error
    print_obtained(name, f"{repository} on the Hugging Face Hub", path, progress)
    return path


@silenced()
def open_hub_file(repository: str, name: str, revision: str | None) -> RemoteFile:
    """Open a file of the Hub where it lies."""
    import huggingface_hub

    stated = huggingface_hub.get_hf_file_metadata(
        huggingface_hub.hf_hub_url(repository, name, revision=revision), timeout=TIMEOUT
    )
    # A token is for the Hub alone; large files lie elsewhere, at URLs that are signed.
    token = huggingface_hub.get_token()
    at_hub = stated.location.startswith(f"{huggingface_hub.constants.ENDPOINT.rstrip('/')}/")
    authorization = {"Authorization": f"Bearer {token}"} if token and at_hub else None
    return RemoteFile(stated.location, authorization)
