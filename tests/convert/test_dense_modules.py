# SPDX-License-Identifier: Apache-2.0
"""Dense modules after the pooling: read from a checkpoint, stored in the GGUF, computed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import load_file, save_file
from support.checkpoints import change_json, write_json
from support.family_checkpoints import TEXTS, WIDTH, write_family_checkpoint
from support.tiny_model import write_tiny_bert

from embellama import DimensionMismatchError, EmbeddingModel, ModelConfig, model_info
from embellama.cli.model_files import info as info_command
from embellama.convert import convert_checkpoint
from embellama.errors import ModelLoadError

Spoil = Callable[[Path], None]


@pytest.fixture
def leaf(tmp_path: Path) -> Path:
    """A BERT with mean pooling, and a Dense module from 32 to 48 dimensions."""
    write_family_checkpoint(tmp_path / "leaf", "leaf")
    return tmp_path / "leaf"


def set_modules(*kinds: str) -> Spoil:
    def spoil(folder: Path) -> None:
        paths = {"Transformer": "", "Pooling": "1_Pooling", "Dense": "2_Dense"}
        write_json(
            folder / "modules.json",
            [
                {
                    "path": paths.get(kind.rpartition(".")[2], kind),
                    "type": kind if "." in kind else f"sentence_transformers.models.{kind}",
                }
                for kind in kinds
            ],
        )

    return spoil


def set_dense(**changes: Any) -> Spoil:
    return lambda folder: change_json(folder / "2_Dense" / "config.json", **changes)


def test_token_vectors_are_those_before_the_modules(leaf: Path, tmp_path: Path) -> None:
    path = convert_checkpoint(leaf, tmp_path / "leaf.gguf", file_type="F32")
    weights = load_file(leaf / "2_Dense" / "model.safetensors")
    config = ModelConfig(path, accuracy="exact", normalization="none")
    for pooling in ("mean", "cls", "max"):
        with EmbeddingModel(config.replace(pooling=pooling)) as model:
            assert model.embedding_dimensions == 48
            rows = model.embed_multi(TEXTS[0])
            assert rows.shape == (len(model.tokenize(TEXTS[0])), WIDTH)
            pooled = {"mean": rows.mean(0), "cls": rows[0], "max": rows.max(0)}[pooling]
            expected = weights["linear.weight"] @ pooled + weights["linear.bias"]
            np.testing.assert_allclose(model.embed(TEXTS[0]), expected, atol=1e-5)


def test_outputs_of_other_types_and_lengths(leaf: Path, tmp_path: Path) -> None:
    path = convert_checkpoint(leaf, tmp_path / "leaf.gguf", file_type="F32")
    with EmbeddingModel(ModelConfig(path, accuracy="exact")) as model:
        vectors = model.embed_batch(TEXTS)
        assert vectors.shape == (len(TEXTS), 48)
        short = model.embed_batch(TEXTS, truncate_dim=40)
        expected = vectors[:, :40] / np.linalg.norm(vectors[:, :40], axis=1, keepdims=True)
        np.testing.assert_allclose(short, expected, atol=1e-6)
        half = model.embed_batch(TEXTS, dtype="float16")
        np.testing.assert_array_equal(half, vectors.astype(np.float16))
        with pytest.raises(DimensionMismatchError, match="from 1 to 48"):
            model.embed_batch(TEXTS, truncate_dim=49)


def test_a_layer_norm_before_a_cut_comes_after_the_modules(tmp_path: Path) -> None:
    path = write_tiny_bert(
        tmp_path / "tiny.gguf",
        metadata={"embellama.layer_norm_before_cut": True},
        tensors={"dense_2.weight": np.random.default_rng(0).standard_normal((48, 32), np.float32)},
    )
    with EmbeddingModel(ModelConfig(path, normalization="none")) as model:
        whole = model.embed("hello world").astype(np.float64)
        expected = (whole - whole.mean()) / np.sqrt(whole.var() + 1e-5)
        short = model.embed_batch(["hello world"], truncate_dim=40)[0]
        np.testing.assert_allclose(short, expected[:40], atol=1e-5)


def test_what_a_file_says_of_its_modules(leaf: Path, tmp_path: Path) -> None:
    info = model_info(convert_checkpoint(leaf, tmp_path / "leaf.gguf"))
    assert [str(module) for module in info.dense_modules] == ["32 to 48 with bias"]
    assert (info.embedding_length, info.embedding_dimensions) == (32, 48)
    set_dense(activation_function="torch.nn.modules.activation.Tanh")(leaf)
    info = model_info(convert_checkpoint(leaf, tmp_path / "leaf.gguf"))
    assert [str(module) for module in info.dense_modules] == ["32 to 48 with bias, tanh"]
    shown = CliRunner().invoke(info_command, [str(info.path)]).stdout
    assert re.search(r"dimensions: +48\n", shown)
    assert re.search(r"dense modules: +32 to 48 with bias, tanh\n", shown)
    # sentence-transformers' defaults.
    write_json(leaf / "2_Dense" / "config.json", {"in_features": 32, "out_features": 48})
    assert model_info(convert_checkpoint(leaf, tmp_path / "leaf.gguf")).dense_modules == (
        info.dense_modules
    )


@pytest.mark.parametrize("file_type", ["F16", "BF16", "Q8_0"])
def test_modules_in_other_types(leaf: Path, tmp_path: Path, file_type: str) -> None:
    exact = convert_checkpoint(leaf, tmp_path / "exact.gguf", file_type="F32")
    path = convert_checkpoint(leaf, tmp_path / "leaf.gguf", file_type=file_type)
    stored = {tensor.name: tensor.tensor_type.name for tensor in gguf.GGUFReader(path).tensors}
    assert (stored["dense_2.weight"], stored["dense_2.bias"]) == (file_type, "F32")
    config = ModelConfig(exact, accuracy="exact")
    with EmbeddingModel(config) as right, EmbeddingModel(config.replace(model_path=path)) as model:
        cosines = np.einsum("ij,ij->i", right.embed_batch(TEXTS), model.embed_batch(TEXTS))
    assert cosines.min() > (0.99 if file_type == "Q8_0" else 0.9995)


REFUSED: dict[str, tuple[Spoil, str]] = {
    "activation": (
        set_dense(activation_function="torch.nn.modules.activation.ReLU"),
        r"2_Dense/config\.json: activation_function is 'torch\.nn\.modules\.activation\.ReLU'",
    ),
    "residual": (set_dense(use_residual=True), "use_residual is true"),
    "tokens": (set_dense(module_input_name="token_embeddings"), "module_input_name is 'token_emb"),
    "scores": (set_dense(module_output_name="scores"), "module_output_name is 'scores'"),
    "width": (set_dense(in_features=64), "in_features is 64, but the vector .* has 32"),
    "weights": (set_dense(out_features=64), "the weights have the shapes"),
    "no bias": (set_dense(bias=False), "the weights have the shapes"),
    "pickle": (
        lambda folder: (folder / "2_Dense" / "model.safetensors").rename(
            folder / "2_Dense" / "pytorch_model.bin"
        ),
        "only pickled weights",
    ),
    "before the pooling": (
        set_modules("Transformer", "Dense", "Pooling"),
        "Dense that does not stand between Pooling and Normalize",
    ),
    "after the normalisation": (
        set_modules("Transformer", "Pooling", "Normalize", "Dense"),
        "Dense that does not stand between Pooling and Normalize",
    ),
    "too many": (
        set_modules("Transformer", "Pooling", "Dense", "Dense", "Dense"),
        "3 modules Dense; a GGUF has room for 2",
    ),
    "another package's": (
        set_modules("Transformer", "Pooling", "pylate.models.Dense"),
        r"has a module pylate\.models\.Dense, which embellama doesn't compute",
    ),
    "unknown": (
        set_modules("Transformer", "Pooling", "LayerNorm"),
        r"has a module sentence_transformers\.models\.LayerNorm",
    ),
}


@pytest.mark.parametrize(("spoil", "message"), REFUSED.values(), ids=REFUSED)
def test_refused(leaf: Path, tmp_path: Path, spoil: Spoil, message: str) -> None:
    spoil(leaf)
    with pytest.raises(ModelLoadError, match=message):
        convert_checkpoint(leaf, tmp_path / "leaf.gguf")


def test_two_modules_must_fit_together(tmp_path: Path) -> None:
    write_family_checkpoint(tmp_path / "tiny", "embeddinggemma")
    folder = tmp_path / "tiny" / "3_Dense"
    assert json.loads((folder / "config.json").read_text())["in_features"] == 96
    change_json(folder / "config.json", in_features=95)
    save_file({"linear.weight": np.zeros((32, 95), np.float32)}, folder / "model.safetensors")
    with pytest.raises(ModelLoadError, match=r"in_features is 95, but the vector .* has 96"):
        convert_checkpoint(tmp_path / "tiny", tmp_path / "tiny.gguf")
