# SPDX-License-Identifier: Apache-2.0
"""A checkpoint's config.json with checked access."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from embellama.convert.json_file import read_json_object
from embellama.errors import ModelLoadError
from embellama.gguf.architectures import MAX_LAYERS

__all__ = ["Config"]

# GELU's exact form by erf, and its approximation by tanh, as transformers' ACT2FN names them.
GELU_ERF = ("gelu", "gelu_python")
GELU_TANH = ("gelu_accurate", "gelu_fast", "gelu_new", "gelu_python_tanh", "gelu_pytorch_tanh")

_MAX_LABELS = 2**16  # each gets a name in the GGUF


class Config:
    """The settings of config.json.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.values = read_json_object(path)

    def error(self, message: str) -> ModelLoadError:
        """Return an error with `message` about this file."""
        return ModelLoadError(f"{self.path}: {message}")

    def size(self, name: str, default: int) -> int:
        """Return a positive number."""
        value = self.values.get(name)
        value = default if value is None else value
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 2**31:
            raise self.error(f"{name} must be a positive integer, not {value!r}")
        return value

    def number(self, name: str, default: float, *, below: float) -> float:
        """Return a number from 0 to below `below`."""
        value = self.values.get(name)
        value = default if value is None else value
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < below:
            raise self.error(f"{name} must be a number from 0 to below {below:g}, not {value!r}")
        return float(value)

    def flag(self, name: str, default: bool) -> bool:
        """Return a truth value."""
        value = self.values.get(name)
        if value is not None and not isinstance(value, bool):
            raise self.error(f"{name} must be true or false, not {value!r}")
        return default if value is None else value

    def refuse_unless(self, name: str, default: Any, accepted: Iterable[Any]) -> None:
        """Raise ModelLoadError unless a setting is one of those that llama.cpp computes."""
        value = self.values.get(name, default)
        if not any(value == possible for possible in accepted):
            raise self.error(
                f"{name} is {value!r}, which llama.cpp doesn't compute for this architecture; this "
                "checkpoint can't become a GGUF"
            )

    def n_layers(self, name: str, default: int) -> int:
        """Return the number of layers."""
        n_layers = self.size(name, default)
        if n_layers > MAX_LAYERS:
            raise self.error(f"{n_layers} layers; llama.cpp runs at most {MAX_LAYERS}")
        return n_layers

    def check_heads(self, width: int, n_heads: int) -> None:
        """Refuse a width that attention heads can't share."""
        if width % n_heads:
            raise self.error(f"a width of {width} can't be split among {n_heads} attention heads")

    def rope_base(self, kind: str, old_name: str, default: float) -> float:
        """Return the base of RoPE in layers of a `kind`.

        transformers 5 writes it by the kind, older releases under `old_name`.
        """
        by_kind = self.values.get("rope_parameters")
        rope = by_kind.get(kind) if isinstance(by_kind, dict) else None
        if not isinstance(rope, dict):
            return self.number(old_name, default, below=1e9)
        if rope.get("rope_type", "default") != "default":
            raise self.error(f"rope_type is {rope['rope_type']!r}, which is not supported")
        base = rope.get("rope_theta", default)
        if isinstance(base, bool) or not isinstance(base, (int, float)) or not 0 < base < 1e9:
            raise self.error(f"rope_theta must be a positive number, not {base!r}")
        return float(base)

    def labels(self, classifies: bool) -> tuple[str, ...]:
        """Return the names of a head's classes; none if they need not be written."""
        id2label = self.values.get("id2label")
        if not id2label:
            # transformers' default is two classes, called LABEL_0 and LABEL_1.
            number = self.size("num_labels", 2)
            if number > _MAX_LABELS:
                raise self.error(f"num_labels is {number}; at most {_MAX_LABELS} are supported")
            id2label = {str(index): f"LABEL_{index}" for index in range(number)}
        try:
            labels = {int(index): label for index, label in id2label.items()}
        except (AttributeError, ValueError):
            labels = {}
        if (
            not labels
            or sorted(labels) != list(range(len(labels)))
            or not all(isinstance(label, str) for label in labels.values())
        ):
            raise self.error(f"id2label must name the classes from 0 on, not {id2label!r}")
        names = tuple(labels[index] for index in range(len(labels)))
        # Without a head, two dummy labels are only transformers' default. With a head the labels
        # must be written: llama.cpp takes the number of classes from them (llama-model.cpp,
        # n_cls_out).
        if not classifies and len(names) == 2 and names[0] == "LABEL_0":
            return ()
        return names
