# SPDX-License-Identifier: Apache-2.0
"""What a repository or a URL holds, read without its weights.

Of a GGUF file the header is read by range requests, of safetensors files the names and sizes of the
tensors. The converter then sees files of the full size that hold nothing but these headers.
"""

from __future__ import annotations

import dataclasses
import re
import tempfile
from pathlib import Path

from embellama.convert.examination import ExaminedCheckpoint, examine_checkpoint
from embellama.convert.file_types import file_type_name
from embellama.errors import ModelLoadError
from embellama.gguf.header import GGUFHeader
from embellama.gguf.reader import read_header_of
from embellama.obtaining.hub import (
    Repository,
    RepositoryFile,
    list_repository,
    refusal,
)
from embellama.obtaining.hub_download import download_files, open_hub_file
from embellama.obtaining.hub_repository import (
    choose_gguf,
    files_to_convert,
    in_terms_of_the_repository,
)
from embellama.obtaining.reference import HubReference, WebReference
from embellama.obtaining.remote_file import RemoteFile, refusals_of

__all__ = ["Preview", "preview_repository", "preview_web_file"]

# All that the converter reads but the vocabulary, which may take 30 MB.
_SETTINGS = re.compile(
    r"(.*/)?([\w-]*config[\w-]*|modules|model\.safetensors\.index)\.json|README\.md"
)
_WEIGHTS = ".safetensors"
_MAX_SAFETENSORS_HEADER = 100 * 10**6  # as the safetensors library


@dataclasses.dataclass(frozen=True)
class Preview:
    """A model that would be downloaded.

    Attributes
    ----------
    name : str
        ``org/repo``, or the name of the file.
    url : str
        Its page, or the URL of the file.
    file : str
        The GGUF file that would be taken; empty if a checkpoint would be converted.
    n_bytes : int
        Bytes to download.
    licence : str or None
        As the model's page states it.
    is_gated : bool
        Whether the licence has to be accepted first.
    header : GGUFHeader or None
        Of the GGUF file.
    checkpoint : ExaminedCheckpoint or None
        What would be converted.
    problem : str
        Why it can't be used; empty if it can.
    """

    name: str
    url: str
    file: str = ""
    n_bytes: int = 0
    licence: str | None = None
    is_gated: bool = False
    header: GGUFHeader | None = None
    checkpoint: ExaminedCheckpoint | None = None
    problem: str = ""


def preview_repository(reference: HubReference, file_type: str | None) -> Preview:
    """Look at what :func:`embellama.catalog.resolve` would download from a repository of the Hub.

    Raises
    ------
    ModelNotFoundError, ModelLoadError, ConfigurationError
        As :func:`embellama.obtaining.hub_repository.obtain_repository`.
    """
    name = reference.repository
    try:
        repository = list_repository(name, reference.revision)
    except Exception as error:
        # refusal() says why any exception is caught.
        raise refusal(error, name) from error
    files = [] if reference.file else files_to_convert(repository)
    if files:
        type_name = file_type and file_type_name(file_type)
        return _preview_checkpoint(repository, files, type_name)
    held = [file.name for file in repository.files]
    return _preview_gguf(repository, reference.file or choose_gguf(name, held, file_type))


def _preview_gguf(repository: Repository, file: str) -> Preview:
    seen = Preview(
        name=repository.name,
        url=f"https://huggingface.co/{repository.name}",
        file=file,
        licence=repository.licence,
        is_gated=repository.is_gated,
    )
    try:
        remote = open_hub_file(repository.name, file, repository.commit)
        return _with_header(seen, remote, f"{repository.name}/{file}")
    except Exception as error:
        raise refusal(error, repository.name, file) from error


def preview_web_file(reference: WebReference) -> Preview:
    """Look at a GGUF file at a URL.

    Raises
    ------
    ModelNotFoundError
        If the server can't be reached, has no such file, or gives no parts of it.
    """
    with refusals_of(reference.url):
        remote = RemoteFile(reference.url)
        seen = Preview(reference.file, reference.url, reference.file)
        return _with_header(seen, remote, reference.file)


def _with_header(seen: Preview, remote: RemoteFile, name: str) -> Preview:
    seen = dataclasses.replace(seen, n_bytes=remote.size)
    try:
        return dataclasses.replace(seen, header=read_header_of(remote, remote.size, name))
    except ModelLoadError as error:
        return dataclasses.replace(seen, problem=str(error))


def _preview_checkpoint(
    repository: Repository, files: list[RepositoryFile], file_type: str | None
) -> Preview:
    seen = Preview(
        name=repository.name,
        url=f"https://huggingface.co/{repository.name}",
        n_bytes=sum(file.size or 0 for file in files),
        licence=repository.licence,
        is_gated=repository.is_gated,
    )
    with tempfile.TemporaryDirectory(prefix="embellama-") as folder:
        made = Path(folder) / "checkpoint" / repository.name.partition("/")[2]
        made.mkdir(parents=True)
        try:
            settings = [file for file in files if _SETTINGS.fullmatch(file.name)]
            download_files(made, repository, settings, show=False)
            for file in files:
                if file.name.endswith(_WEIGHTS):
                    _write_outline(repository, file, made / file.name)
            return dataclasses.replace(seen, checkpoint=examine_checkpoint(made, file_type))
        except ModelLoadError as error:
            problem = in_terms_of_the_repository(error, repository.name)
            return dataclasses.replace(seen, problem=str(problem))
        except Exception as error:
            raise refusal(error, repository.name) from error


def _write_outline(repository: Repository, file: RepositoryFile, path: Path) -> None:
    """Write a file of the full size that holds the header, and takes no more room than that."""
    remote = open_hub_file(repository.name, file.name, repository.commit)
    length = remote.read(8)
    n_bytes = int.from_bytes(length, "little")
    if not 0 < n_bytes <= min(_MAX_SAFETENSORS_HEADER, remote.size):
        raise ModelLoadError(f"{path}: not a safetensors file; download it again")
    header = remote.read(n_bytes)
    path.parent.mkdir(exist_ok=True)
    with path.open("wb") as outline:
        outline.write(length + header)
        outline.truncate(remote.size)
