# SPDX-License-Identifier: Apache-2.0
"""A Hugging Face Hub and a package index on this machine, which can be made to fail."""

from __future__ import annotations

import hashlib
import http.server
import multiprocessing
import time
from pathlib import Path

from support.known_model import COMMIT

FAULTS = (
    "403",
    "404",
    "500",
    "cut",  # the connection ends in the middle of a file
    "long",  # more is announced than comes
    "short",  # less is announced than comes
    "loop",  # redirected to itself
    "other",  # another file of the same length
    "silent",  # accepts the request and says nothing
    "stalls",  # says nothing any more from the middle of a file on
)


class _Request(http.server.BaseHTTPRequestHandler):
    server: DownloadServer

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, *, body: bool) -> None:
        if self.path.startswith("/simple/"):
            self.send(b'<a href="/%s">%s</a>' % ((self.server.wheel.name.encode(),) * 2), body)
            return
        if self.path.endswith(".whl"):
            content: bytes | None = self.server.wheel.read_bytes()
        else:
            repository, _, path = self.path.strip("/").partition("/resolve/")
            content = self.server.files.get(f"{repository}/{path.partition('/')[2]}")
        fault = self.server.fault
        if fault == "silent":
            time.sleep(30)
        elif fault == "loop":
            self.send_response(302)
            self.send_header("Location", self.path)
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif content is None or fault.isdecimal():
            self.send_response(404 if content is None else int(fault))
            if content is None:
                self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            self.send(content, body, fault)

    def send(self, content: bytes, body: bool, fault: str = "") -> None:
        self.server.n_files.value += body
        name = hashlib.sha256(content).hexdigest()
        start = 0
        asked = self.headers["Range"]
        if asked and self.server.knows_ranges:
            start = int(asked.removeprefix("bytes=").partition("-")[0])
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        announced = len(content) - start + {"long": 10, "short": -10}.get(fault, 0)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{name}"')
        self.send_header("Content-Length", str(announced))
        self.send_header("Content-Type", "text/html")  # pip wants its index to be that
        self.end_headers()
        if not body:
            return
        if fault == "other":
            middle = len(content) // 2
            content = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        end = (start + len(content)) // 2 if fault in ("cut", "stalls") else len(content)
        piece = self.server.piece or len(content) + 1
        for at in range(start, end, piece):
            self.wfile.write(content[at : min(at + piece, end)])
            time.sleep(self.server.pause)
        if fault == "stalls":
            time.sleep(30)

    def log_message(self, format: str, *arguments: object) -> None:
        pass


class DownloadServer(http.server.ThreadingHTTPServer):
    """The server; its faults may be changed from another process than the one that serves.

    Parameters
    ----------
    wheel : Path
        What the package index has.
    """

    daemon_threads = True

    def __init__(self, wheel: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Request)
        self.wheel = wheel
        self.files: dict[str, bytes] = {}
        self.knows_ranges = True
        # A file goes in pieces of so many bytes, with so many seconds after each.
        self.piece = 0
        self.pause = 0.0
        self._fault = multiprocessing.RawArray("c", 16)
        self.n_files = multiprocessing.RawValue("q")

    @property
    def fault(self) -> str:
        """One of `FAULTS`, or the empty string."""
        return self._fault.value.decode()

    @fault.setter
    def fault(self, name: str) -> None:
        assert name in ("", *FAULTS)
        self._fault.value = name.encode()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def hub(self) -> dict[str, str]:
        """The environment in which it is the Hugging Face Hub."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DOWNLOAD_TIMEOUT": "1",
            "NO_PROXY": "127.0.0.1",
        }

    @property
    def package_index(self) -> dict[str, str]:
        """The environment in which it is the package index."""
        return {
            "PIP_NO_INDEX": "0",
            "PIP_FIND_LINKS": "",
            "PIP_INDEX_URL": f"{self.url}/simple",
            "PIP_NO_CACHE_DIR": "1",
            "PIP_RETRIES": "0",
            "PIP_TIMEOUT": "1",
            "NO_PROXY": "127.0.0.1",
        }

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # a client that was killed
