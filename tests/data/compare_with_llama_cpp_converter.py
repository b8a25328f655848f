# SPDX-License-Identifier: Apache-2.0
"""Compare embellama's conversion of a checkpoint with llama.cpp's own, key by key, bit by bit.

    python compare_with_llama_cpp_converter.py LLAMA_CPP CHECKPOINT [PYTHON]

LLAMA_CPP is a checkout of llama.cpp at the release that embellama pins, CHECKPOINT a directory
with a config.json. PYTHON is an interpreter with torch and transformers, which llama.cpp's
converter needs; default: this one.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from gguf import GGUFReader

from embellama.convert import convert_checkpoint


def contents(path: Path) -> dict[str, Any]:
    """Return what a GGUF file holds, but for the order."""
    reader = GGUFReader(path)
    found: dict[str, Any] = {
        name: (field.types, field.contents())
        for name, field in reader.fields.items()
        if not name.startswith("GGUF.")
    }
    for tensor in reader.tensors:
        found[f"tensor {tensor.name}"] = (
            tensor.tensor_type.name,
            tensor.shape.tolist(),
            tensor.data.tobytes(),
        )
    return found


def main(llama_cpp: str, checkpoint: str, python: str = sys.executable) -> int:
    """Print what differs; return 1 if anything does."""
    n_differences = 0
    with tempfile.TemporaryDirectory() as folder:
        for file_type in ("f32", "f16", "bf16"):
            theirs, ours = Path(folder, "theirs.gguf"), Path(folder, "ours.gguf")
            script = f"{llama_cpp}/convert_hf_to_gguf.py"
            options = ["--outfile", str(theirs), "--outtype", file_type]
            subprocess.run([python, script, checkpoint, *options], check=True)
            convert_checkpoint(checkpoint, ours, file_type=file_type)
            same = theirs.read_bytes() == ours.read_bytes()
            left, right = contents(theirs), contents(ours)
            for name in sorted(left.keys() | right.keys()):
                if left.get(name) != right.get(name):
                    n_differences += 1
                    print(f"{name}: {str(left.get(name))[:100]} | {str(right.get(name))[:100]}")
            print(f"{file_type}: {len(left)} keys and tensors, bytes {'' if same else 'not '}equal")
    return int(n_differences > 0)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
