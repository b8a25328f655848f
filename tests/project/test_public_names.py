# SPDX-License-Identifier: Apache-2.0
"""What `embellama.` and Tab show, and that each of it is what its name says."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
from types import ModuleType

import pytest

import embellama

PACKAGES = [
    embellama,
    *(
        importlib.import_module(found.name)
        for found in pkgutil.walk_packages(embellama.__path__, "embellama.")
        if found.ispkg
    ),
]


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_no_module_is_hidden_by_a_name(package: ModuleType) -> None:
    """`import embellama.x as x` gives the attribute x of the package."""
    for found in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        module = importlib.import_module(found.name)
        assert getattr(package, found.name.rpartition(".")[2]) is module


def test_completion_lists_what_is_public() -> None:
    listed = dir(embellama)
    assert {*embellama.__all__, "__version__"} <= set(listed)
    for name in set(listed) - {*embellama.__all__, "__version__"}:
        assert isinstance(getattr(embellama, name), ModuleType), name
    for name in listed:
        assert getattr(embellama, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'embed'"):
        embellama.embed  # type: ignore[attr-defined]  # noqa: B018


def test_a_module_is_imported_when_it_is_asked_for() -> None:
    program = (
        "import sys, embellama\n"
        "assert 'embellama.convert.weights' not in sys.modules\n"
        "assert {'convert', 'catalog', '__version__'} <= set(dir(embellama))\n"
        "print(embellama.convert.convert_checkpoint.__name__, embellama.__version__)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["convert_checkpoint", embellama.__version__]
