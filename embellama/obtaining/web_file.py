# SPDX-License-Identifier: Apache-2.0
"""How a GGUF file gets into the cache from a URL that is not the Hugging Face Hub's."""

from __future__ import annotations

import contextlib
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from embellama.errors import ModelLoadError, ModelNotFoundError
from embellama.files.checksum import is_as_recorded
from embellama.files.working_folder import clear
from embellama.obtaining.conversion import (
    cache_folder,
    publish_gguf,
    publish_source,
    remove,
    require_space,
)
from embellama.obtaining.download_progress import print_obtained
from embellama.obtaining.reference import WebReference
from embellama.obtaining.remote_file import refusals_of, refuse_web_page
from embellama.progress import progress_bar, stderr_is_terminal

__all__ = ["obtain_web_file"]

_MAGIC = b"GGUF"
_PART = "download"
_VERSION = "version"
# Seconds without a byte.
_TIMEOUT = 30.0
_RETRY = "; try again, what has come is kept"


def obtain_web_file(reference: WebReference, gguf: Path, *, progress: bool) -> None:
    """Download a GGUF file into the cache, or go on with a download that was interrupted.

    Raises
    ------
    ModelNotFoundError
        If the server can't be reached or has no such file.
    ModelLoadError
        If what it gives is not a GGUF file, or there is no room.
    """
    with cache_folder(reference.url, gguf, progress=progress, keep=_has_begun) as folder:
        if is_as_recorded(gguf):
            return
        part = folder / _PART
        with refusals_of(reference.url, retry=_RETRY):
            _download(reference.url, folder, part, progress and stderr_is_terminal())
        publish_source(
            folder,
            gguf.parent,
            None,
            name=gguf.name,
            url=reference.url,
            licence=None,
            obtained_from=reference.url,
        )
        made = folder / gguf.name
        remove(made)
        part.rename(made)
        publish_gguf(made, gguf)
    print_obtained(gguf.name, reference.url, gguf, progress)


def _has_begun(folder: Path) -> bool:
    return (folder / _PART).is_file()


def _download(url: str, folder: Path, part: Path, show: bool) -> None:
    version = folder / _VERSION
    known = version.read_text(encoding="utf-8") if version.is_file() else ""
    start = part.stat().st_size if known and part.is_file() else 0
    if start == 0:
        clear(folder)
    try:
        _go_on(url, folder, part, start, known, show)
    except urllib.error.HTTPError as error:
        if error.code != 416 or start == 0:
            raise
        # All of the file is here, or the server's is shorter now.
        clear(folder)
        _go_on(url, folder, part, 0, "", show)


def _go_on(url: str, folder: Path, part: Path, start: int, known: str, show: bool) -> None:
    with _answer(url, start, known) as answer:
        start = start if answer.status == 206 else 0
        stated = answer.headers.get("Content-Length")
        size = start + int(stated) if stated and stated.isdecimal() else None
        require_space(folder, (size or 0) - start, url, "EMBELLAMA_CACHE")
        first = answer.read(len(_MAGIC)) if start == 0 else b""
        if start == 0:
            _require_gguf(url, answer.headers, first)
            (folder / _VERSION).write_text(_version(answer.headers), encoding="utf-8")
        _receive(answer, part, start, first, size, show)
    if size is not None and part.stat().st_size != size:
        raise ModelNotFoundError(
            f"cannot obtain {url}: {part.stat().st_size:,} of {size:,} bytes came{_RETRY}"
        )


def _answer(url: str, start: int, version: str) -> contextlib.closing[Any]:
    request = urllib.request.Request(url, headers={"User-Agent": "embellama"})
    if start:
        request.add_header("Range", f"bytes={start}-")
        # A server whose file has changed since answers with all of the new one.
        request.add_header("If-Range", version)
    return contextlib.closing(urllib.request.urlopen(request, timeout=_TIMEOUT))


def _version(headers: Any) -> str:
    """Return what tells whether the file of a server has changed; empty if nothing does."""
    tag: str = headers.get("ETag", "")
    return tag if tag and not tag.startswith("W/") else headers.get("Last-Modified", "")


def _require_gguf(url: str, headers: Any, first: bytes) -> None:
    if first != _MAGIC:
        refuse_web_page(url, headers)
        raise ModelLoadError(
            f"{url} is not a GGUF file: it begins with {first!r}, not with {_MAGIC!r}"
        )


def _receive(
    answer: Any, part: Path, start: int, first: bytes, size: int | None, show: bool
) -> None:
    with (
        open(part, "ab" if start else "wb") as file,
        progress_bar(show, size, unit="B", unit_scale=True) as bar,
    ):
        file.write(first)
        while block := answer.read(1 << 20):
            file.write(block)
            bar.advance_to(file.tell())
