# SPDX-License-Identifier: Apache-2.0
"""The adapters of jina-embeddings-v3, one for each task: one of them is added to the weights.

The checkpoint holds low-rank matrices beside each weight. A and B of a matrix W of a linear module
make W + B A alpha / rank; those of a table of embeddings make W + A B alpha / rank
(LoRAParametrization in jinaai/xlm-roberta-flash-implementation).
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from embellama.convert.config_json import Config
from embellama.convert.weights import Source, StoredTensor
from embellama.errors import ConfigurationError, ModelLoadError

__all__ = ["merge_adapter", "task_instruction"]

_ORIGINAL = ".parametrizations.weight.original"
_ADAPTERS = (".parametrizations.weight.0.lora_A", ".parametrizations.weight.0.lora_B")
_BLOCK_ROWS = 4096  # of a table of embeddings, whose product would take as much memory as it

_logger = logging.getLogger("embellama")


@dataclasses.dataclass(frozen=True)
class _AdaptedTensor:
    """A weight to which a task's adapter is added.

    Attributes
    ----------
    original, left, right : StoredTensor
        The weight; two factors for each task, whose product has the weight's shape.
    task : int
        The number of the task.
    scale : float
        What the product is multiplied by.
    """

    original: StoredTensor
    left: StoredTensor
    right: StoredTensor
    task: int
    scale: float
    dtype: str = "F32"  # of the sum

    @property
    def path(self) -> Path:
        return self.original.path

    @property
    def name(self) -> str:
        return self.original.name

    @property
    def shape(self) -> tuple[int, ...]:
        return self.original.shape

    def read(self) -> npt.NDArray[np.floating[Any]]:
        left, right = (
            part.read()[self.task].astype(np.float32) for part in (self.left, self.right)
        )
        values = self.original.read().astype(np.float32)
        with np.errstate(over="ignore", invalid="ignore"):
            right *= np.float32(self.scale)
            for start in range(0, len(values), _BLOCK_ROWS):
                rows = slice(start, start + _BLOCK_ROWS)
                values[rows] += left[rows] @ right
        if not np.isfinite(values).all():
            raise ModelLoadError(
                f"{self.path}: {self.name} with its adapter is too large for float32; the "
                "checkpoint is broken, use another"
            )
        return values


def _tasks(config: Config) -> list[str]:
    tasks = config.values.get("lora_adaptations") or []
    if (
        not isinstance(tasks, list)
        or not all(isinstance(task, str) and task.isprintable() for task in tasks)
        or len(set(tasks)) != len(tasks)
    ):
        raise config.error(f"lora_adaptations must be a list of tasks, not {tasks!r}")
    return tasks


def _check_task(config: Config, tasks: list[str], task: str | None) -> None:
    if task is None:
        if tasks:
            _logger.warning(
                "%s: converted without an adapter, as the checkpoint computes without a task. "
                "It has adapters for %s: choose one as `task`, or on the command line by --task",
                config.path.parent,
                ", ".join(tasks),
            )
    elif not tasks:
        raise ConfigurationError(
            f"task is {task!r}, but {config.path.parent} has no adapters; leave it out"
        )
    elif task not in tasks:
        raise ConfigurationError(f"task must be one of {', '.join(tasks)}, not {task!r}")


def task_instruction(config: Config, task: str) -> str:
    """Return what the checkpoint puts before a text for a task; may be empty."""
    instructions = config.values.get("task_instructions") or {}
    instruction = instructions.get(task, "") if isinstance(instructions, dict) else None
    if not isinstance(instruction, str):
        raise config.error(f"task_instructions must map tasks to texts, not {instructions!r}")
    return instruction


def merge_adapter(
    config: Config, stored: Mapping[str, StoredTensor], task: str | None
) -> dict[str, Source]:
    """Return a checkpoint's tensors, with a task's adapter in the weights and no adapters.

    Parameters
    ----------
    config : Config
    stored : dict of str to StoredTensor
        The tensors by name.
    task : str or None
        None for the weights without an adapter.

    Raises
    ------
    ConfigurationError
        If the checkpoint has no such task.
    ModelLoadError
        If its adapters are not what its config.json says.
    """
    tasks = _tasks(config)
    _check_task(config, tasks, task)
    found: dict[str, Source] = {}
    for name, tensor in stored.items():
        if name.endswith(_ORIGINAL):
            module = name.removesuffix(_ORIGINAL)
            found[f"{module}.weight"] = (
                tensor if task is None else _adapted(config, stored, module, tasks, task)
            )
        elif not name.endswith(_ADAPTERS):
            found[name] = tensor
    if task is not None and not any(isinstance(t, _AdaptedTensor) for t in found.values()):
        raise config.error("lora_adaptations names tasks, but the weights hold no adapters")
    return found


def _adapted(
    config: Config,
    stored: Mapping[str, StoredTensor],
    module: str,
    tasks: list[str],
    task: str,
) -> _AdaptedTensor:
    original = stored[module + _ORIGINAL]
    first, second = (stored.get(module + adapter) for adapter in _ADAPTERS)
    if first is None or second is None:
        raise ModelLoadError(f"{original.path}: {module} has no adapters; download it again")
    left, right = (first, second) if module.endswith("_embeddings") else (second, first)
    rank = config.size("lora_rank", 4)
    n_rows, *others = original.shape
    if left.shape != (len(tasks), n_rows, rank) or right.shape != (len(tasks), rank, *others):
        raise ModelLoadError(
            f"{original.path}: the adapters of {module} have the shapes {first.shape} and "
            f"{second.shape}, which do not fit {len(tasks)} tasks, the rank {rank} and "
            f"{original.shape}; download the checkpoint again"
        )
    scale = config.number("lora_alpha", 1.0, below=1e9) / rank
    return _AdaptedTensor(original, left, right, tasks.index(task), scale)
