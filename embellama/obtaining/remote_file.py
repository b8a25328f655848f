# SPDX-License-Identifier: Apache-2.0
"""Parts of a file on a server, read by range requests, and what the server's refusals mean."""

from __future__ import annotations

import contextlib
import http.client
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from typing import Any

from embellama.errors import ModelLoadError, ModelNotFoundError
from embellama.obtaining.hub import first_line

__all__ = ["RemoteFile", "refusals_of", "refuse_web_page"]

# Seconds without a byte.
_TIMEOUT = 30.0


class RemoteFile:
    """A file on a server, read from its beginning on.

    Parameters
    ----------
    url : str
        Begins with ``https://`` or ``http://``.
    headers : Mapping[str, str], optional
        Of each request; a redirect to another place does not get them.

    Attributes
    ----------
    size : int
        Bytes of the whole file.

    Raises
    ------
    OSError, http.client.HTTPException
        If the server can't be reached, or refuses.
    ModelNotFoundError
        If it gives no parts of the file.
    ModelLoadError
        If it answers with a web page.
    """

    def __init__(self, url: str, headers: Mapping[str, str] | None = None) -> None:
        self._url = url
        self._headers = dict(headers or {})
        self._at = 0
        with self._answer(0, 1) as answer:
            refuse_web_page(url, answer.headers)
            stated = answer.headers.get("Content-Range", "").rpartition("/")[2]
            if answer.status != 206 or not stated.isdecimal():
                raise ModelNotFoundError(
                    f"{url}: the server gives no parts of files, so that nothing can be said "
                    "before the download: `embellama pull` downloads the file"
                )
            self.size = int(stated)

    def read(self, n_bytes: int) -> bytes:
        """Return the next bytes; fewer only at the end of the file."""
        n_bytes = min(n_bytes, self.size - self._at)
        if n_bytes <= 0:
            return b""
        with self._answer(self._at, self._at + n_bytes) as answer:
            found: bytes = answer.read(n_bytes)
        if len(found) < n_bytes:
            raise http.client.IncompleteRead(found, n_bytes - len(found))
        self._at += n_bytes
        return found

    @contextlib.contextmanager
    def _answer(self, start: int, end: int) -> Iterator[Any]:
        request = urllib.request.Request(self._url, headers={"User-Agent": "embellama"})
        request.add_header("Range", f"bytes={start}-{end - 1}")
        for name, value in self._headers.items():
            request.add_unredirected_header(name, value)
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:
            yield answer


def refuse_web_page(url: str, headers: Any) -> None:
    """Raise ModelLoadError if the headers of an answer are those of a web page."""
    if headers.get("Content-Type", "").startswith("text/html"):
        raise ModelLoadError(
            f"{url} answers with a web page, not with a GGUF file: copy the address of the "
            "download itself"
        )


@contextlib.contextmanager
def refusals_of(url: str, *, retry: str = "; try again") -> Iterator[None]:
    """Turn what is raised when a server refuses, or is silent, into a ModelNotFoundError."""
    try:
        yield
    except urllib.error.HTTPError as error:
        raise ModelNotFoundError(
            f"cannot obtain {url}: the server answers {error.code} {error.reason}; check the URL"
        ) from error
    except (
        urllib.error.URLError,
        http.client.HTTPException,
        ConnectionError,
        TimeoutError,
    ) as error:
        raise ModelNotFoundError(
            f"cannot obtain {url}: the server can't be reached or broke off ({first_line(error)})"
            f"{retry}"
        ) from error
