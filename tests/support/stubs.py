# SPDX-License-Identifier: Apache-2.0
"""Writes the stubs of the methods with long signatures; ``python tests/support/stubs.py``.

The signatures are those that the methods show at run time. What depends on the value of an option,
which only a type checker asks for, is in the rules below: a method has an overload for each type of
numbers, and one for ``details=True``.
"""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from inspect import Parameter
from pathlib import Path
from typing import Any

from embellama.engine_methods import EngineMethods
from embellama.model_methods import ModelMethods

SOURCE = Path(__file__).parents[2] / "embellama"

HEADER = """\
# SPDX-License-Identifier: Apache-2.0
# Written by tests/support/stubs.py.
from collections.abc import Iterable, Iterator
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

"""
# The overloads of methods with `dtype`: a type of numbers, and what an array of it is.
ARRAYS = {
    "Float16": "NDArray[np.float16]",
    "Float32": "NDArray[np.float32]",
    "Int8": "NDArray[np.int8]",
    "UInt8": "NDArray[np.uint8]",
    "DType": "NDArray[Any]",
}
RESULT = "EmbeddingResult"
MULTI_RESULT = "EmbeddingResult[list[NDArray[np.float32]]]"
MULTI = {"embed_multi": "NDArray[np.float32]", "embed_batch_multi": "list[NDArray[np.float32]]"}
IMPORTS = {
    "CacheStats": "embellama.embedding.cache",
    "DType": "embellama.quantization",
    "EmbeddingResult": "embellama.results",
    "Float16": "embellama.quantization",
    "Float32": "embellama.quantization",
    "Int8": "embellama.quantization",
    "Lifecycle": "embellama.embedding.lifecycle",
    "ModelConfig": "embellama.config",
    "Progress": "embellama.progress",
    "RerankResult": "embellama.results",
    "UInt8": "embellama.quantization",
}


def written(parameter: Parameter, annotations: dict[str, str]) -> str:
    """Return a parameter; one with an annotation of its own must be passed, if that says so."""
    if parameter.name == "self":
        return "self"
    annotation = annotations.get(parameter.name, parameter.annotation)
    required = parameter.default is Parameter.empty or annotation.endswith("!")
    default = "" if required else f" = {parameter.default!r}"
    return f"{parameter.name}: {annotation.removesuffix('!')}{default}"


def definition(
    name: str, method: Callable[..., Any], returns: str, annotations: dict[str, str]
) -> str:
    """Return a method with some annotations replaced."""
    parts: list[str] = []
    for parameter in inspect.signature(method).parameters.values():
        if parameter.kind is Parameter.KEYWORD_ONLY and "*" not in parts:
            parts.append("*")
        parts.append(written(parameter, annotations))
    word = "async def" if inspect.iscoroutinefunction(method) else "def"
    return f"    {word} {name}({', '.join(parts)}) -> {returns}: ...\n"


def definitions(name: str, method: Callable[..., Any]) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield what a method returns, and for which types of its arguments."""
    parameters = inspect.signature(method).parameters
    returns = inspect.signature(method).return_annotation
    if "dtype" in parameters:
        in_window = "Iterator[tuple[int, {}]]" if name == "embed_iter" else "{}"
        for dtype, array in ARRAYS.items():
            # Without a default, else two overloads would take a call that names no dtype.
            annotation = dtype if dtype == "Float32" else f"{dtype}!"
            yield in_window.format(array), {"dtype": annotation, "details": "Literal[False]"}
        yield in_window.format(RESULT), {"details": "Literal[True]!"}
        yield in_window.format(f"NDArray[Any] | {RESULT}"), {"details": "bool!"}
    elif name in MULTI:
        yield MULTI[name], {"details": "Literal[False]"}
        yield MULTI_RESULT, {"details": "Literal[True]!"}
        yield f"{MULTI[name]} | {MULTI_RESULT}", {"details": "bool!"}
    else:
        yield str(returns), {}


def stub(kind: type) -> str:
    """Return the stub of the module of a class."""
    body = f"class {kind.__name__}:\n"
    for name, method in vars(kind).items():
        if not inspect.isfunction(method):
            continue
        overloads = list(definitions(name, method))
        decorator = "    @overload\n" if len(overloads) > 1 else ""
        for returns, replaced in overloads:
            body += decorator + definition(name, method, returns, replaced)
    used = sorted(name for name in IMPORTS if re.search(rf"\b{name}\b", body))
    imports = "".join(f"from {IMPORTS[name]} import {name}\n" for name in used)
    return formatted(f'{HEADER}{imports}\n__all__ = ["{kind.__name__}"]\n\n{body}')


def formatted(source: str) -> str:
    for command in (["check", "--fix", "--select", "I,F401", "-q"], ["format", "-q"]):
        source = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--stdin-filename", "stub.pyi", "-"],
            input=source,
            capture_output=True,
            text=True,
            check=True,
            cwd=SOURCE.parent,
        ).stdout
    return source


STUBS = {
    SOURCE / "model_methods.pyi": ModelMethods,
    SOURCE / "engine_methods.pyi": EngineMethods,
}

if __name__ == "__main__":
    for path, kind in STUBS.items():
        path.write_text(stub(kind))
