# SPDX-License-Identifier: Apache-2.0
"""One text of token ids, embedded through Python and through Cython without the GIL.

All ways are timed in one process on the same ids and one thread. ``compare_raw_loop.py`` compares
the Python way with C++.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
from pathlib import Path
from types import ModuleType

import numpy as np

import embellama
from embellama.core import Context

from . import workloads

SOURCE = Path(__file__).parents[1] / "doors" / "doors.pyx"


def build_doors() -> str:
    """Compile doors.pyx against the installed embellama; needs Cython and setuptools."""
    folder = tempfile.mkdtemp()
    program = (
        "from Cython.Build import cythonize\n"
        "from setuptools import setup\n"
        f"setup(name='doors', script_args=['build_ext', '--build-lib', {folder!r}],\n"
        f"      ext_modules=cythonize([{str(SOURCE)!r}], build_dir={folder!r}))\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=folder, check=True, capture_output=True)
    return str(next(Path(folder).glob("doors.*.so")))


def import_doors(path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location("doors", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Doors(workloads.Models):
    """Seconds for one text on one thread, from token ids to a unit vector."""

    params = (3, 12, 200)
    param_names = ("n_tokens",)
    sample_time = 0.1

    def setup_cache(self) -> dict[str, str]:
        return {**super().setup_cache(), "doors": build_doors()}

    setup_cache.timeout = 900  # type: ignore[attr-defined]

    def setup(self, paths: dict[str, str], n_tokens: int) -> None:
        self.ids = np.array([101, *[2000 + i for i in range(n_tokens - 2)], 102], dtype=np.int32)
        config = embellama.ModelConfig(paths["F16"], n_threads=1)
        self.model = embellama.EmbeddingModel(config)
        self.context = Context(self.model.core_model)
        self.doors = import_doors(paths["doors"])
        self.model.embed_tokens(self.ids)
        self.doors.encode(self.context, self.ids)

    def time_python_embed_tokens(self, paths: dict[str, str], n_tokens: int) -> None:
        self.model.embed_tokens(self.ids)

    def time_cython_encode(self, paths: dict[str, str], n_tokens: int) -> None:
        self.doors.encode(self.context, self.ids)

    def time_llama_cpp_and_kernels(self, paths: dict[str, str], n_tokens: int) -> None:
        """The functions that encode() calls, without encode() itself: the least possible time."""
        self.doors.compute(self.context, self.ids)

    def teardown(self, paths: dict[str, str], n_tokens: int) -> None:
        self.model.unload()


class Call:
    """A thousand calls that compute nothing: the cost of the calls themselves."""

    def setup_cache(self) -> str:
        return build_doors()

    setup_cache.timeout = 300  # type: ignore[attr-defined]

    def setup(self, path: str) -> None:
        self.doors = import_doors(path)
        self.vector = np.ones(384, dtype=np.float32)

    def time_1000_empty_calls(self, path: str) -> None:
        self.doors.empty_calls(1000)

    def time_1000_kernels_normalize(self, path: str) -> None:
        self.doors.normalize_calls(self.vector, 1000)
