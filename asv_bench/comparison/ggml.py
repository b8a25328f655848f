# SPDX-License-Identifier: Apache-2.0
"""Which of the ggml libraries that were built with the raw loop it is to run with."""

from __future__ import annotations

import os
from pathlib import Path

import embellama


def environment(program: Path) -> dict[str, str]:
    """Return the environment in which `program` uses the instruction set that embellama uses.

    The program asks for a library that each of those in embellama/ggml of the build stands for:
    the one that is there already, since it was loaded first, is taken.
    """
    name = embellama.backend_info()["llama_cpp_instruction_set"]
    folder = program.resolve().parents[2] / "embellama" / "ggml"
    # Tiles are beside bfloat16; a build for one processor has one library.
    for candidate in ("avx512_bf16" if name == "amx" else name, "generic"):
        library = folder / f"libembellama-ggml-{candidate}.so"
        if library.exists():
            return os.environ | {"LD_PRELOAD": str(library)}
    raise FileNotFoundError(f"{folder} holds no ggml: build {program.name} again")
