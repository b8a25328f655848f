# SPDX-License-Identifier: Apache-2.0
"""Measure how far each family's vectors are from the reference, and write ``figures.json``.

From the root of the repository, some two minutes on two cores::

    PYTHONPATH=tests python docs/models/measure.py

The small models of ``tests/support/family_checkpoints.py`` have random weights;
``tests/data/family_reference.npz`` has their vectors. all-MiniLM-L6-v2 is compared with
sentence-transformers' vectors in ``tests/data/minilm_reference.npz``.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
from support.family_checkpoints import FAMILIES, QUERY, TEXTS, write_family_checkpoint
from support.folders import TESTS

from embellama import EmbeddingModel, ModelConfig, catalog, model_info
from embellama.convert import convert_checkpoint
from embellama.errors import ModelLoadError

SETTINGS = (("F32", "exact"), ("F32", "fast"), ("F16", "fast"), ("Q8_0", "fast"))


def distance(path: Path, accuracy: str, texts: list[str], expected: np.ndarray) -> float:
    """The largest difference of a value of unit vectors, or of a score."""
    with EmbeddingModel(ModelConfig(path, accuracy=accuracy)) as model:
        if expected.ndim == 1:
            scores = {result.index: result.score for result in model.rerank(QUERY, texts)}
            found = np.array([scores[i] for i in range(len(texts))])
        else:
            found = model.embed_batch(texts)
    return float(f"{np.abs(found - expected).max():.1e}")


def family_figures(name: str, expected: np.ndarray) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / name
        write_family_checkpoint(checkpoint, name)
        figures: dict[str, object] = {"kind": "scores" if expected.ndim == 1 else "vectors"}
        for file_type, accuracy in SETTINGS:
            path = Path(folder) / f"{file_type}.gguf"
            try:
                convert_checkpoint(checkpoint, path, file_type=file_type, task=FAMILIES[name].task)
            except ModelLoadError:  # a network whose activations overflow in this type
                figures[f"{file_type} {accuracy}"] = None
                continue
            figures["architecture"] = model_info(path).architecture
            figures[f"{file_type} {accuracy}"] = distance(path, accuracy, list(TEXTS), expected)
    return figures


def minilm_figures() -> dict[str, object]:
    named = {text["name"]: text["text"] for text in json.loads(_data("texts.json").read_text())}
    with np.load(_data("minilm_reference.npz")) as reference:
        texts = [named[name] for name in reference["names"].tolist()]
        expected = reference["vectors"]
    figures: dict[str, object] = {"kind": "vectors", "architecture": "bert"}
    for file_type, accuracy in SETTINGS:
        path = catalog.resolve("all-MiniLM-L6-v2", file_type=file_type)
        figures[f"{file_type} {accuracy}"] = distance(path, accuracy, texts, expected)
    return figures


def _data(name: str) -> Path:
    return TESTS / "data" / name


def main() -> None:
    figures = {"all-MiniLM-L6-v2": minilm_figures()}
    with np.load(_data("family_reference.npz")) as reference:
        for name in FAMILIES:
            kind = "scores" if FAMILIES[name].classifies else "vectors"
            figures[name] = family_figures(name, reference[f"{name} {kind}"])
    path = Path(__file__).with_name("figures.json")
    path.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
