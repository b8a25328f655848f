# SPDX-License-Identifier: Apache-2.0
"""How a repository of the Hugging Face Hub becomes a GGUF file.

From a repository with safetensors, the files that the converter reads are downloaded into the
working folder, checked, converted, and deleted: a checkpoint is two to four times as large as the
GGUF file. A file that huggingface_hub's cache holds already is read there. From a repository that
holds GGUF files only, one is downloaded into huggingface_hub's cache.
"""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from embellama.convert.architecture import require_family
from embellama.convert.file_types import file_type_name
from embellama.convert.sentence_transformers import read_sentence_transformers
from embellama.errors import ConfigurationError, ModelLoadError, ModelNotFoundError
from embellama.files.checksum import file_sha256
from embellama.files.working_folder import clear
from embellama.obtaining.conversion import make_gguf, publish_source, require_space
from embellama.obtaining.download_progress import print_obtained
from embellama.obtaining.hub import (
    Repository,
    RepositoryFile,
    cached_file,
    cached_ggufs,
    list_repository,
    refusal,
)
from embellama.obtaining.hub_download import download_files, hub_gguf
from embellama.obtaining.known_models import KNOWN_MODELS
from embellama.obtaining.reference import HubReference

__all__ = [
    "cached_choice",
    "choose_gguf",
    "files_to_convert",
    "gguf_type",
    "in_terms_of_the_repository",
    "obtain_repository",
]

# What the converter reads beside the weights; a module of sentence-transformers has a folder.
_SMALL_FILES = re.compile(
    r"config\.json|tokenizer[\w.-]*|vocab[\w.-]*|merges\.txt|special_tokens_map\.json"
    r"|added_tokens\.json|generation_config\.json|modules\.json|sentence_[\w-]+_config\.json|README\.md"
    r"|config_sentence_transformers\.json|\d+_\w+/config\.json"
)
_INDEX = "model.safetensors.index.json"
_SHARD = re.compile(r"model-\d+-of-\d+\.safetensors")
_MODULE_WEIGHTS = re.compile(r"\d+_\w+/model\.safetensors")

# At the end of a file's name, as in model-Q8_0.gguf and model.f16.gguf.
_TYPE_IN_NAME = re.compile(
    r"(?:^|[-._])(F32|FP32|F16|FP16|BF16|I?Q\d[\w]*|TQ\d\w*|MXFP4\w*)\.gguf$", re.IGNORECASE
)
_OTHER_SPELLINGS = {"FP16": "F16", "FP32": "F32"}
# A file in several parts, and the picture half of a model for pictures.
_NOT_A_MODEL = re.compile(r"-\d{5}-of-\d{5}\.gguf$|mmproj", re.IGNORECASE)
_PREFERRED_TYPES = ("F16", "Q8_0")

_CHECKPOINT = "checkpoint"
_NETWORK = (ConnectionError, TimeoutError)


def obtain_repository(
    reference: HubReference, gguf: Path, file_type: str | None, *, progress: bool
) -> Path:
    """Return a GGUF file of what a repository holds.

    Parameters
    ----------
    reference : HubReference
        A repository.
    gguf : pathlib.Path
        The file of the cache to make, if the repository holds a checkpoint.
    file_type : str or None
        The type of the weights; None for the converter's choice, and of the GGUF files of a
        repository for F16, or Q8_0 where there is no F16 file.
    progress : bool
        Show a progress bar when standard error is a terminal.

    Raises
    ------
    ModelNotFoundError
        If there is no such repository, or the Hub can't be reached.
    ModelLoadError
        If it holds nothing that becomes a GGUF file, a download is damaged, or there is no room.
    ConfigurationError
        If there is no such type.
    """
    name, revision = reference.repository, reference.revision
    try:
        cached = cached_ggufs(name, revision)
    except (ImportError, ValueError) as error:  # ValueError: the client refuses the name
        raise refusal(error, name) from error
    # The type that comes first is chosen whatever else the repository holds.
    wanted = file_type or _PREFERRED_TYPES[0]
    if wanted in map(gguf_type, cached):
        return cached[choose_gguf(name, cached, wanted)]
    try:
        repository = list_repository(name, revision)
    except Exception as error:
        # refusal() says why any exception is caught.
        with contextlib.suppress(ModelNotFoundError, ConfigurationError):
            return cached[choose_gguf(name, cached, file_type)]
        raise refusal(error, name) from error
    files = files_to_convert(repository)
    if files:
        type_name = file_type and file_type_name(file_type)
        made = _convert(repository, files, gguf, type_name, progress=progress)
        print_obtained(name, "the Hugging Face Hub", made, progress)
        return made
    held = [file.name for file in repository.files]
    return hub_gguf(name, choose_gguf(name, held, file_type), revision, progress=progress)


def cached_choice(reference: HubReference, file_type: str | None) -> Path | None:
    """Return the GGUF file of a repository that huggingface_hub's cache holds, if it would do."""
    with contextlib.suppress(ImportError, ValueError, ModelNotFoundError, ConfigurationError):
        cached = cached_ggufs(reference.repository, reference.revision)
        return cached[choose_gguf(reference.repository, cached, file_type)]
    return None


def gguf_type(name: str) -> str | None:
    """Return the type of weights that the name of a GGUF file states, in capitals."""
    found = _TYPE_IN_NAME.search(name)
    if found is None:
        return None
    stated = found[1].upper()
    return _OTHER_SPELLINGS.get(stated, stated)


def choose_gguf(repository: str, names: Iterable[str], file_type: str | None) -> str:
    """Choose one of the GGUF files of a repository.

    Without a type it is the one in F16, else the one in Q8_0, else the only one.

    Parameters
    ----------
    repository : str
        For messages.
    names : iterable of str
        All files of the repository.
    file_type : str or None
        What to choose.

    Raises
    ------
    ModelNotFoundError
        If the repository holds no GGUF file.
    ConfigurationError
        If none is of the type, or several are and the choice is open.
    """
    ggufs = sorted(
        name for name in names if name.endswith(".gguf") and not _NOT_A_MODEL.search(name)
    )
    if not ggufs:
        raise ModelNotFoundError(
            f"{repository} on the Hugging Face Hub holds neither model.safetensors nor a GGUF "
            "file; weights of another kind have to be saved as safetensors first, in transformers "
            "by model.save_pretrained(directory), and converted by `embellama convert`"
        )
    by_type: dict[str | None, list[str]] = {}
    for name in ggufs:
        by_type.setdefault(gguf_type(name), []).append(name)
    found = ggufs if len(ggufs) == 1 and file_type is None else []
    for kind in (file_type,) if file_type else _PREFERRED_TYPES:
        found = found or by_type.get(kind, [])
    if len(found) == 1:
        return found[0]
    wanted = f"of type {file_type}" if file_type else "of type F16 or Q8_0"
    problem = f"several GGUF files {wanted}" if found else f"no GGUF file {wanted}"
    types = ", ".join(sorted(f":{kind}" for kind in by_type if kind and len(by_type[kind]) == 1))
    raise ConfigurationError(
        f"{repository} holds {problem}: name one, such as {repository}/{(found or ggufs)[0]}"
        + (f", or choose a type: {types}" if types else "")
        + f". It holds {', '.join(ggufs)}"
    )


def files_to_convert(repository: Repository) -> list[RepositoryFile]:
    """Return the files that the converter needs, small ones first; empty without safetensors."""
    by_name = {file.name: file for file in repository.files if _is_below(file.name)}
    if _INDEX in by_name:
        weights = [name for name in by_name if name == _INDEX or _SHARD.fullmatch(name)]
    else:
        weights = [name for name in by_name if name == "model.safetensors"]
    if not weights or "config.json" not in by_name:
        return []
    weights += [name for name in by_name if _MODULE_WEIGHTS.fullmatch(name)]
    small = [name for name in by_name if _SMALL_FILES.fullmatch(name)]
    return [by_name[name] for name in (*sorted(small), *sorted(weights))]


def _is_below(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts


def _convert(
    repository: Repository,
    files: list[RepositoryFile],
    gguf: Path,
    type_name: str | None,
    *,
    progress: bool,
) -> Path:
    directory = gguf.parent

    def checkpoint(folder: Path, show: bool) -> Path:
        clear(folder, keep=_CHECKPOINT)
        # The directory's name becomes the name of the model in the GGUF file.
        made = folder / _CHECKPOINT / repository.name.partition("/")[2]
        made.mkdir(parents=True, exist_ok=True)
        try:
            _fetch(repository, files, made, type_name, show)
        except Exception as error:
            if isinstance(error, OSError) and error.errno and not isinstance(error, _NETWORK):
                raise  # of the disk
            raise refusal(error, repository.name) from error
        readme = made / "README.md"
        publish_source(
            folder,
            directory,
            readme if readme.is_file() else None,
            name=repository.name,
            repository=repository.name,
            revision=repository.commit,
            url=f"https://huggingface.co/{repository.name}",
            licence=repository.licence,
            obtained_from=f"Hugging Face Hub, {repository.name} at {repository.commit}",
            sha256={file.name: file.sha256 or file_sha256(made / file.name) for file in files},
        )
        return made

    try:
        return make_gguf(
            repository.name,
            gguf,
            type_name,
            checkpoint,
            entry=next((e for e in KNOWN_MODELS if e.repository == repository.name), None),
            progress=progress,
            keep=_can_be_resumed,
        )
    except ModelLoadError as error:
        raise in_terms_of_the_repository(error, repository.name) from error


def _can_be_resumed(folder: Path) -> bool:
    """Whether the work that has just failed in `folder` may succeed with the files that came."""
    return (folder / _CHECKPOINT).is_dir() and not isinstance(sys.exc_info()[1], ModelLoadError)


def in_terms_of_the_repository(error: ModelLoadError, repository: str) -> ModelLoadError:
    """Say what the converter refuses without the paths of the working folder."""
    text = re.sub(
        rf"\S*/{_CHECKPOINT}/{re.escape(repository.partition('/')[2])}[/:]\s?", "", str(error)
    )
    if text == str(error):
        return error
    return ModelLoadError(
        f"{repository} can't be converted: {text}. Or look for a GGUF file of the model that "
        "others have made, and name it as org/repo/file.gguf"
    )


def _fetch(
    repository: Repository,
    files: list[RepositoryFile],
    directory: Path,
    type_name: str | None,
    show: bool,
) -> None:
    weights = [file for file in files if file.name.endswith(".safetensors")]
    small = [file for file in files if file not in weights]
    download_files(directory, repository, small, show=False)
    _require_convertible(directory, type_name)
    # At least this much: the weights of most checkpoints are float32.
    n_bytes = sum(file.size or 0 for file in weights)
    made = n_bytes // 2 if type_name in (None, "F16", "BF16") else n_bytes
    missing = [file for file in weights if not (directory / file.name).exists()]
    missing = [f for f in missing if not cached_file(repository.name, f.name, repository.commit)]
    n_needed = sum(file.size or 0 for file in missing) + made
    require_space(directory, n_needed, repository.name, "EMBELLAMA_CACHE")
    download_files(directory, repository, weights, show)


def _require_convertible(directory: Path, type_name: str | None) -> None:
    """Raise as the converter does, before anything large is downloaded for nothing."""
    require_family(read_sentence_transformers(directory).transformer, type_name)
