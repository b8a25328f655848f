# SPDX-License-Identifier: Apache-2.0
"""How a GGUF file gets into the cache from a store that fsspec knows, such as ``s3://``."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from embellama.errors import ModelLoadError, ModelNotFoundError
from embellama.files.checksum import is_as_recorded
from embellama.obtaining.conversion import (
    cache_folder,
    publish_gguf,
    publish_source,
    require_space,
)

__all__ = ["obtain_stored_file"]

_MAGIC = b"GGUF"


def obtain_stored_file(url: str, models: Path, options: Mapping[str, Any]) -> Path:
    """Copy a GGUF file into the cache, once for all processes of this machine.

    Parameters
    ----------
    url : str
    models : pathlib.Path
        The folder of the cache's models.
    options : Mapping
        What fsspec needs to reach it.

    Returns
    -------
    pathlib.Path
        Of the copy. A file that has changed since it was copied is copied anew, to another path.

    Raises
    ------
    ModelNotFoundError
        If there is no such file, or it can't be reached.
    ModelLoadError
        If it is no GGUF file, or the cache can't be written.
    """
    import fsspec

    try:
        files, path = fsspec.url_to_fs(url, **options)
        size, version = files.size(path), files.ukey(path)
    except (OSError, ValueError, ImportError) as error:
        raise ModelNotFoundError(f"cannot obtain {url}: {error}") from error
    name = PurePosixPath(path).name
    digest = hashlib.sha256(f"{url} {version}".encode()).hexdigest()[:12]
    gguf = models / f"{name.removesuffix('.gguf')}-{digest}" / name
    if is_as_recorded(gguf):
        return gguf
    with cache_folder(url, gguf, progress=False) as folder:
        if is_as_recorded(gguf):  # another process has copied it meanwhile
            return gguf
        require_space(folder, size, url, "EMBELLAMA_CACHE")
        made = folder / name
        try:
            files.get_file(path, str(made))
        except (OSError, ValueError) as error:
            raise ModelNotFoundError(f"cannot obtain {url}: {error}") from error
        with made.open("rb") as copy:
            if copy.read(len(_MAGIC)) != _MAGIC:
                raise ModelLoadError(f"{url} is no GGUF file")
        publish_source(
            folder, gguf.parent, None, name=name, url=url, licence=None, obtained_from=url
        )
        publish_gguf(made, gguf)
    return gguf
