# SPDX-License-Identifier: Apache-2.0
"""Which of the ggml libraries the raw loop runs with; they were built with it."""

from __future__ import annotations

import os
from pathlib import Path

import embellama


def environment(program: Path) -> dict[str, str]:
    """Return the environment in which `program` uses the instruction set that embellama uses.

    All libraries in embellama/ggml of the build have the name that the program is linked with, so
    the dynamic linker uses the one that is preloaded.
    """
    name = embellama.backend_info()["llama_cpp_instruction_set"]
    folder = program.resolve().parents[2] / "embellama" / "ggml"
    # The library for bfloat16 also contains the code for AMX. A build for one processor has only
    # the library "generic".
    for candidate in ("avx512_bf16" if name == "amx" else name, "generic"):
        library = folder / f"libembellama-ggml-{candidate}.so"
        if library.exists():
            return os.environ | {"LD_PRELOAD": str(library)}
    raise FileNotFoundError(f"{folder} holds no ggml: build {program.name} again")
