# SPDX-License-Identifier: Apache-2.0
"""A Hugging Face Hub on this machine: listings, redirected downloads, and refusals.

It answers as the Hub does: large files are redirected to another path, with SHA-256 and size in
X-Linked-Etag and X-Linked-Size; small ones are sent at once, with Git's SHA-1 as their ETag.
"""

from __future__ import annotations

import dataclasses
import hashlib
import http.server
import json
import threading
import time
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

COMMIT = "5" * 40


@dataclasses.dataclass
class HubRepository:
    """A repository that the server has.

    Attributes
    ----------
    files : dict of str to bytes
    status : int
        What requests for it are answered with instead, and `error_code` beside it.
    error_code : str
        X-Error-Code, such as GatedRepo.
    token : str
        With it, requests are answered whatever `status` is.
    pause : float
        Seconds before each answer.
    stated : dict of str to bytes
        Files whose hashes the listing states for those of `files`.
    breaks_after : dict of str to int
        After how many bytes the connection of a download ends.
    piece_pause : float
        Seconds after each tenth of a download.
    is_gated : bool
        Whether the listing says so.
    xet_storage : str
        Where the Hub says that large files are to be had in Xet's way; empty for nowhere.
    """

    files: dict[str, bytes]
    status: int = 200
    error_code: str = ""
    token: str = ""
    pause: float = 0.0
    stated: dict[str, bytes] = dataclasses.field(default_factory=dict)
    breaks_after: dict[str, int] = dataclasses.field(default_factory=dict)
    piece_pause: float = 0.0
    is_gated: bool = False
    xet_storage: str = ""


def files_of(folder: Path) -> dict[str, bytes]:
    """The files of a repository that holds what a folder does."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def is_large(name: str) -> bool:
    return name.endswith((".safetensors", ".gguf"))


class _Request(http.server.BaseHTTPRequestHandler):
    server: HubServer
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, *, body: bool) -> None:
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        self.server.requests.append((self.command, path, self.headers["Range"]))
        if path.startswith("/blobs/"):
            repository, _, name = path.removeprefix("/blobs/").partition("//")
            self.send_file(self.server.repositories[repository], name, body)
            return
        if path.startswith("/web/"):
            self.send_web_file(path.removeprefix("/web/"), body)
            return
        if path.startswith("/xet/"):
            self.send_xet_token(self.server.repositories[path.removeprefix("/xet/")])
            return
        if path.startswith("/api/models/"):
            name, _, revision = path.removeprefix("/api/models/").partition("/revision/")
            file = None
        else:
            name, _, rest = path.strip("/").partition("/resolve/")
            revision, _, file = rest.partition("/")
        repository = self.server.repositories.get(name)
        if repository is not None:
            time.sleep(repository.pause)
        if repository is None:
            # The Hub hides from strangers which repositories there are.
            self.refuse(404 if self.headers["Authorization"] else 401, "RepoNotFound")
        elif repository.status != 200 and not self.is_granted(repository):
            self.refuse(repository.status, repository.error_code)
        elif revision not in ("", "main", COMMIT):
            self.refuse(404, "RevisionNotFound")
        elif file is None:
            self.send_bytes(json.dumps(self.listing(name, repository)).encode(), body)
        elif file not in repository.files:
            self.refuse(404, "EntryNotFound")
        elif is_large(file):
            content = repository.stated.get(file, repository.files[file])
            self.send_response(302)
            # Clients follow a redirect within the Hub's own host before they read the headers.
            store = f"http://localhost:{self.server.server_port}"
            self.send_header("Location", f"{store}/blobs/{name}//{file}")
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("X-Linked-Etag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("X-Linked-Size", str(len(content)))
            if repository.xet_storage:
                self.send_header("X-Xet-Hash", hashlib.sha256(content).hexdigest())
                self.send_header("X-Xet-Refresh-Route", f"{self.server.url}/xet/{name}")
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            self.send_file(repository, file, body)

    def is_granted(self, repository: HubRepository) -> bool:
        token = repository.token
        return bool(token) and self.headers["Authorization"] == f"Bearer {token}"

    def listing(self, name: str, repository: HubRepository) -> dict[str, object]:
        siblings: list[dict[str, object]] = []
        for file, content in repository.files.items():
            content = repository.stated.get(file, content)
            sibling: dict[str, object] = {"rfilename": file, "size": len(content)}
            sibling["blobId"] = git_blob(content)
            if is_large(file):
                sha256 = hashlib.sha256(content).hexdigest()
                sibling["lfs"] = {"sha256": sha256, "size": len(content), "pointerSize": 134}
            siblings.append(sibling)
        return {
            "id": name,
            "sha": COMMIT,
            "gated": "manual" if repository.is_gated else False,
            "tags": ["sentence-transformers", "license:mit"],
            "siblings": siblings,
        }

    def send_xet_token(self, repository: HubRepository) -> None:
        self.send_response(200)
        self.send_header("X-Xet-Cas-Url", repository.xet_storage)
        self.send_header("X-Xet-Access-Token", "token")
        self.send_header("X-Xet-Token-Expiration", str(int(time.time()) + 3600))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def refuse(self, status: int, error_code: str) -> None:
        self.send_response(status)
        if error_code:
            self.send_header("X-Error-Code", error_code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def send_file(self, repository: HubRepository, name: str, body: bool) -> None:
        content = repository.files[name]
        tag = hashlib.sha256(content).hexdigest() if is_large(name) else git_blob(content)
        end = repository.breaks_after.get(name)
        self.send_bytes(content, body, tag, end=end, pause=repository.piece_pause)

    def send_web_file(self, name: str, body: bool) -> None:
        content = self.server.web_files.get(name)
        if content is None:
            self.refuse(404, "")
            return
        kind = (
            "text/html; charset=utf-8" if content.startswith(b"<") else "application/octet-stream"
        )
        tag = hashlib.sha256(content).hexdigest()
        self.send_bytes(content, body, tag, kind, end=self.server.web_breaks_after)

    def send_bytes(
        self,
        content: bytes,
        body: bool,
        tag: str = "0",
        kind: str = "application/json",
        *,
        end: int | None = None,
        pause: float = 0.0,
    ) -> None:
        asked = self.headers["Range"]
        if self.headers["If-Range"] not in (None, f'"{tag}"') or not self.server.knows_ranges:
            asked = None
        first, _, last = (asked or "bytes=0-").removeprefix("bytes=").partition("-")
        start, whole = int(first), len(content)
        if start >= whole > 0:
            self.refuse(416, "")
            return
        content = content[: int(last) + 1] if last else content
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{whole}")
        self.send_header("X-Repo-Commit", COMMIT)
        # As it does to those without a token; the client prints it.
        self.send_header("X-HF-Warning", "unauthenticated; set a HF_TOKEN")
        self.send_header("ETag", f'"{tag}"')
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        if body:
            sent = content[start:end]
            piece = max(1, len(sent) // 10) if pause else len(sent) + 1
            with self.server.one_more_download():
                for at in range(0, len(sent), piece):
                    self.wfile.write(sent[at : at + piece])
                    time.sleep(pause)
            self.close_connection = end is not None

    def log_message(self, format: str, *arguments: object) -> None:
        pass


def git_blob(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class HubServer(http.server.ThreadingHTTPServer):
    """The server.

    Attributes
    ----------
    repositories : dict of str to HubRepository
    web_files : dict of str to bytes
        What lies below /web/ and is not the Hub's.
    web_breaks_after : int or None
        After how many bytes the connection of such a download ends.
    knows_ranges : bool
        Whether parts of files can be asked for.
    most_at_once : int
        Downloads that were under way at the same time.
    requests : list of (str, str, str or None)
        Method, path and Range of each request.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Request)
        self.repositories: dict[str, HubRepository] = {}
        self.web_files: dict[str, bytes] = {}
        self.web_breaks_after: int | None = None
        self.knows_ranges = True
        self.most_at_once = 0
        self._at_once = 0
        self._lock = threading.Lock()
        self.requests: list[tuple[str, str, str | None]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def environment(self) -> dict[str, str]:
        """The environment in which it is the Hugging Face Hub."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DOWNLOAD_TIMEOUT": "1",
            "NO_PROXY": "127.0.0.1,localhost",
        }

    @contextmanager
    def one_more_download(self) -> Iterator[None]:
        """Count those at the same time."""
        with self._lock:
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            yield
        finally:
            with self._lock:
                self._at_once -= 1

    def downloads(self) -> list[str]:
        """The files whose content was asked for, since the last call."""
        names = [
            path for method, path, _ in self.requests if method == "GET" and "/api/" not in path
        ]
        self.requests.clear()
        return [path.rpartition("/")[2] for path in names]

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # a client that was killed


@contextmanager
def serving() -> Iterator[HubServer]:
    """Run a server in a thread."""
    with HubServer() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
