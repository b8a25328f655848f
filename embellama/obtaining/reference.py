# SPDX-License-Identifier: Apache-2.0
"""What a name that is not a file on this machine refers to: a repository, a file in one, a URL."""

from __future__ import annotations

import dataclasses
import re
import urllib.parse

__all__ = ["HubReference", "WebReference", "parse_reference", "split_type"]


@dataclasses.dataclass(frozen=True)
class HubReference:
    """A repository of the Hugging Face Hub, or a GGUF file in it.

    Attributes
    ----------
    repository : str
        ``org/repo``.
    revision : str or None
        A branch, tag or commit; None for the main branch.
    file : str or None
        The path of a GGUF file in the repository.
    file_type : str or None
        The type of the weights, in capitals.
    """

    repository: str
    revision: str | None = None
    file: str | None = None
    file_type: str | None = None


@dataclasses.dataclass(frozen=True)
class WebReference:
    """A GGUF file elsewhere.

    Attributes
    ----------
    url : str
        Begins with ``https://`` or ``http://``.
    """

    url: str

    @property
    def file(self) -> str:
        """The name of the file; empty if the URL names none."""
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.url).path)
        return path.rpartition("/")[2]


# What the Hub allows in the name of an organisation and of a repository.
_NAME = r"\w[\w.-]*/\w[\w.-]*"
_REVISION = r"[^\s:@]+"
_TYPE = r"[A-Za-z]\w*"
_GGUF = r"(?:[^/\\]+/)*[^/\\]+\.gguf"
_REPOSITORY = re.compile(rf"({_NAME})(?:@({_REVISION}))?(?::({_TYPE}))?")
# A revision with a slash in it, such as refs/pr/1, is for whole repositories only.
_FILE = re.compile(rf"({_NAME})(?:@([^\s:@/]+))?/({_GGUF})")
_HUB_HOSTS = ("huggingface.co", "www.huggingface.co", "hf.co")
_HUB_URL = re.compile(rf"/({_NAME})(?:/(?:resolve|blob|tree|raw)/([^/]+)(?:/(.+))?)?/?")


def split_type(name: str) -> tuple[str, str | None]:
    """Split a type of weights from a short name, such as ``bge-m3:Q8_0``; None if there is none."""
    plain, _, file_type = name.partition(":")
    if "/" not in name and re.fullmatch(_TYPE, file_type):
        return plain, file_type.upper()
    return name, None


def parse_reference(name: str) -> HubReference | WebReference | None:
    """Return what a name refers to; None if it is neither a repository nor a URL.

    A name of two parts that ends in ``.gguf`` counts as the path of a file. A repository of such a
    name is ``hf://org/repo.gguf``.

    Parameters
    ----------
    name : str
        ``org/repo``, ``org/repo@revision``, ``org/repo:Q8_0``, ``org/repo/file.gguf``, any of them
        after ``hf://``, or a URL.

    Returns
    -------
    HubReference, WebReference or None
    """
    if name.startswith(("https://", "http://")):
        return _parse_url(name)
    explicit = name.startswith("hf://")
    text = name.removeprefix("hf://")
    in_repository = _FILE.fullmatch(text)
    if in_repository is not None:
        repository, revision, file = in_repository.groups()
        return HubReference(repository, revision, file)
    whole = _REPOSITORY.fullmatch(text)
    if whole is None or ".." in text or (text.endswith(".gguf") and not explicit):
        return None
    repository, revision, file_type = whole.groups()
    return HubReference(repository, revision, file_type=file_type and file_type.upper())


def _parse_url(url: str) -> HubReference | WebReference | None:
    parts = urllib.parse.urlsplit(url)
    if parts.hostname not in _HUB_HOSTS:
        return WebReference(url)
    path = urllib.parse.unquote(parts.path)
    on_hub = _HUB_URL.fullmatch(path)
    if on_hub is None:
        return WebReference(url)
    repository, revision, file = on_hub.groups()
    if revision == "main":
        revision = None
    if file is not None and not re.fullmatch(_GGUF, file):
        return None
    return HubReference(repository, revision, file)
