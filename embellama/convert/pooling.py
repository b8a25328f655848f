# SPDX-License-Identifier: Apache-2.0
"""How sentence-transformers pools the vectors of a checkpoint's tokens."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

from embellama.convert.json_file import read_json, read_json_object
from embellama.errors import ModelLoadError

# enum llama_pooling_type, llama.h
_POOLING_TYPES = {"mean": 1, "cls": 2, "lasttoken": 3}

# The settings that sentence-transformers wrote before version 5.
_FLAGS = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_lasttoken": "lasttoken",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
}

# Modules that do not change llama.cpp's vectors. embellama normalises by default, as Normalize
# does.
_KNOWN_MODULES = ("Dropout", "Normalize", "Pooling", "Transformer")


def _modules(path: Path) -> list[dict[str, Any]]:
    modules = read_json(path)
    if not isinstance(modules, list) or not all(
        isinstance(module, dict)
        and isinstance(module.get("type"), str)
        and isinstance(module.get("path"), str)
        for module in modules
    ):
        raise ModelLoadError(
            f"{path}: must be a list of modules, each with a type and a path; download it again"
        )
    return modules


def _pooling_mode(path: Path) -> str:
    settings = read_json_object(path)
    mode = settings.get("pooling_mode")
    modes = [mode] if isinstance(mode, str) else mode
    if modes is None:
        modes = [name for flag, name in _FLAGS.items() if settings.get(flag)]
    if not isinstance(modes, list) or len(modes) != 1 or modes[0] not in _POOLING_TYPES:
        named = " and ".join(map(str, modes)) if isinstance(modes, list) else repr(modes)
        raise ModelLoadError(
            f"{path}: the pooling is {named or 'none'}; a GGUF can say only "
            f"{', '.join(_POOLING_TYPES)}. Remove modules.json from a copy of the checkpoint, and "
            "choose the pooling when you load the GGUF, if it is one that embellama knows"
        )
    return str(modes[0])


def read_pooling_type(checkpoint: Path) -> int | None:
    """Return the ``llama_pooling_type`` of modules.json; None if the checkpoint has no such file.

    ModelLoadError if no value exists for the pooling, or if llama.cpp can't run another module.
    """
    path = checkpoint / "modules.json"
    if not path.is_file():
        return None
    pooling_type = None
    for module in _modules(path):
        kind = module["type"].rpartition(".")[2]
        if kind not in _KNOWN_MODULES:
            raise ModelLoadError(
                f"{path}: the model has a module {module['type']}, which llama.cpp doesn't run for "
                "this architecture, so that a GGUF would give other vectors than the checkpoint"
            )
        if kind == "Pooling" and pooling_type is None:
            folder = PurePosixPath(module["path"])
            if folder.is_absolute() or ".." in folder.parts:
                raise ModelLoadError(f"{path}: the path {module['path']!r} leaves the checkpoint")
            pooling_type = _POOLING_TYPES[_pooling_mode(checkpoint / folder / "config.json")]
    return pooling_type
