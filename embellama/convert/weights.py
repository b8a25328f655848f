# SPDX-License-Identifier: Apache-2.0
"""The tensors of a checkpoint, in one safetensors file or in several."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from embellama.convert.json_file import read_json_object
from embellama.convert.regular_file import require_regular_file
from embellama.errors import ModelLoadError

_FLOATS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}


class Source(Protocol):
    """What a tensor of the GGUF file is made of."""

    @property
    def path(self) -> Path:
        """The file to name in a message."""

    @property
    def name(self) -> str:
        """Its name in that file."""

    @property
    def dtype(self) -> str:
        """The type of its values, as safetensors spells it."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Outermost dimension first."""

    def read(self) -> npt.NDArray[np.floating[Any]]:
        """Return the values."""


@dataclasses.dataclass(frozen=True)
class Constant:
    """A vector that follows from config.json.

    Attributes
    ----------
    path : pathlib.Path
        The config.json.
    name : str
        What the vector is called in the GGUF file.
    values : tuple of float
    """

    path: Path
    name: str
    values: tuple[float, ...]
    dtype: str = "F32"

    @property
    def shape(self) -> tuple[int, ...]:
        """The number of values."""
        return (len(self.values),)

    def read(self) -> npt.NDArray[np.floating[Any]]:
        """Return the values as float32."""
        return np.array(self.values, np.float32)


@dataclasses.dataclass(frozen=True)
class StoredTensor:
    """Where a tensor lies in a safetensors file.

    Attributes
    ----------
    path : pathlib.Path
        The file.
    name : str
        The tensor's name in it.
    dtype : str
        As safetensors spells it: ``"F32"``, ``"BF16"``.
    shape : tuple of int
        Outermost dimension first.
    offset : int
        The offset of its first byte in the file.
    """

    path: Path
    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int

    def read(self) -> npt.NDArray[np.floating[Any]]:
        """Return the values; bfloat16 becomes float32, because numpy has no bfloat16."""
        if self.dtype not in _FLOATS:
            raise ModelLoadError(
                f"{self.path}: {self.name} is of type {self.dtype}, only "
                f"{', '.join(_FLOATS)} are supported; use the checkpoint before its quantisation"
            )
        count = int(np.prod(self.shape, dtype=np.int64))
        try:
            values = np.fromfile(self.path, _FLOATS[self.dtype], count, offset=self.offset)
        except OSError as error:
            raise ModelLoadError(
                f"{self.path}: can't be read ({error.strerror or error})"
            ) from error
        if values.size != count:
            raise ModelLoadError(f"{self.path}: changed while it was read; try again")
        if self.dtype == "BF16":
            # A bfloat16 is the upper half of a float32.
            values = (values.astype(np.uint32) << 16).view(np.float32)
        if not np.isfinite(values).all():
            raise ModelLoadError(
                f"{self.path}: {self.name} holds a NaN or an infinity; the checkpoint is broken, "
                "use another"
            )
        return values.reshape(self.shape)


def _read_header(path: Path) -> dict[str, StoredTensor]:
    from safetensors import SafetensorError, safe_open

    require_regular_file(path)
    open_untyped: Any = safe_open  # the package's stubs carry no types
    try:
        # safetensors checks the header against the file's size, but does not return the offsets.
        with open_untyped(path, framework="numpy"):
            pass
        with path.open("rb") as file:
            n_bytes = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(n_bytes))
    except (SafetensorError, OSError) as error:
        raise ModelLoadError(
            f"{path}: not a complete safetensors file ({error}); download it again"
        ) from error
    header.pop("__metadata__", None)
    # In the order of names, as in llama.cpp's converter.
    return {
        name: StoredTensor(
            path,
            name,
            entry["dtype"],
            tuple(entry["shape"]),
            8 + n_bytes + entry["data_offsets"][0],
        )
        for name, entry in sorted(header.items())
    }


def _read_sharded(index: Path) -> dict[str, StoredTensor]:
    weight_map = read_json_object(index).get("weight_map")
    if (
        not isinstance(weight_map, dict)
        or not weight_map
        or not all(
            isinstance(file, str) and file and file == Path(file).name
            for file in weight_map.values()
        )
    ):
        raise ModelLoadError(
            f"{index}: weight_map must map the names of tensors to names of files beside it; "
            "download the file again"
        )
    tensors: dict[str, StoredTensor] = {}
    for file in sorted(set(weight_map.values())):
        tensors.update(_read_header(index.with_name(file)))
    found = {(name, tensor.path.name) for name, tensor in tensors.items()}
    strays = sorted({name for name, _ in found ^ set(weight_map.items())})
    if strays:
        raise ModelLoadError(
            f"{index}: does not agree with the files it names about {', '.join(strays[:5])}"
            f"{' and others' if len(strays) > 5 else ''}; download the checkpoint again"
        )
    return tensors


def list_tensors(checkpoint: Path) -> dict[str, StoredTensor]:
    """Return the tensors of a checkpoint by name, or raise ModelLoadError."""
    index = checkpoint / "model.safetensors.index.json"
    if index.is_file():
        return _read_sharded(index)
    single = checkpoint / "model.safetensors"
    if not single.is_file() and any(checkpoint.glob("pytorch_model*.bin")):
        raise ModelLoadError(
            f"{checkpoint}: only pickled weights (pytorch_model.bin), which can't be read safely; "
            "save the model as safetensors: model.save_pretrained(directory) in transformers"
        )
    return _read_header(single)
