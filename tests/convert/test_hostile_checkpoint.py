# SPDX-License-Identifier: Apache-2.0
"""Checkpoints that somebody made to break the conversion."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.checkpoints import change_json, write_checkpoint
from support.folders import TESTS

from embellama.convert import convert_checkpoint
from embellama.errors import ModelLoadError

Spoil = Callable[[Path], None]


def _card(front_matter: str) -> Spoil:
    return lambda folder: (folder / "README.md").write_text(f"---\n{front_matter}\n---\n", "utf-8")


def _generation(**values: object) -> Spoil:
    return lambda folder: (folder / "generation_config.json").write_text(json.dumps(values))


def _link(name: str, target: str) -> Spoil:
    def spoil(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(target)

    return spoil


def _pipe(name: str) -> Spoil:
    def spoil(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)

    return spoil


def _pooling(modes: object) -> Spoil:
    def spoil(folder: Path) -> None:
        modules = [{"type": "Transformer", "path": ""}, {"type": "Pooling", "path": "1_Pooling"}]
        (folder / "modules.json").write_text(json.dumps(modules))
        (folder / "1_Pooling").mkdir()
        (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode": modes}))

    return spoil


# Each stands for the ten before it: together for 10^10 strings.
_ALIASES = "a0: &a0 [x]\n" + "\n".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 11)
)

HOSTILE = {
    "aliases in the card": (_card(f"{_ALIASES}\ntags: *a10"), "has YAML aliases"),
    "lists of lists in the card": (_card("tags: [[a], [b]]"), "an array of arrays"),
    "NUL in the card": (_card(r'name: "a\0b"'), "'general.name' holds a NUL"),
    "numbers among the tags": (_card("tags: [a, 1]"), "model card's metadata"),
    "half a surrogate pair in the card": (_card(r'name: "\ud800"'), "model card's metadata"),
    "brackets in each other": (_card("a: " + "[" * 50_000), "more than 100 brackets"),
    "number to base 60": (_card("version: " + "1:" * 500_000 + "1"), "1000001 digits"),
    "large card": (_card("a" * 2**21), "2097161 bytes large, 2097152 are allowed"),
    "text for a number": (_generation(top_k="many"), "generation_config"),
    "number too large": (_generation(top_k=2**40), "generation_config"),
    "billions of labels": (
        lambda folder: change_json(folder / "config.json", num_labels=2**31 - 1),
        "at most 65536",
    ),
    "config is a device": (_link("config.json", "/dev/zero"), "no regular file"),
    "weights are a device": (_link("model.safetensors", "/dev/zero"), "no regular file"),
    "config is a pipe": (_pipe("config.json"), "no regular file"),
    "weights are a pipe": (_pipe("model.safetensors"), "no regular file"),
    "a link to itself": (_link("config.json", "config.json"), "can't be read"),
    "modules with an endless name": (
        lambda folder: (folder / "modules.json").write_text(
            json.dumps([{"type": "Transformer", "path": 5000 * "x"}])
        ),
        "is no name of a folder",
    ),
    "a token that is a list": (
        lambda folder: change_json(
            folder / "tokenizer.json",
            post_processor={"type": "BertProcessing", "cls": [["a"], 2], "sep": ["[SEP]", 3]},
        ),
        "malformed post_processor",
    ),
    "a pooling that is a list": (_pooling([[]]), r"the pooling is \[\]"),
    "modules with a NUL": (
        lambda folder: (folder / "modules.json").write_text(
            json.dumps([{"type": "Transformer", "path": "a\0b"}])
        ),
        "is no name of a folder",
    ),
    "modules elsewhere": (
        lambda folder: (folder / "modules.json").write_text(
            '[{"type": "Pooling", "path": "../../etc"}]'
        ),
        "leaves the checkpoint",
    ),
}


@pytest.mark.parametrize(("spoil", "message"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_checkpoint(tmp_path: Path, spoil: Spoil, message: str) -> None:
    checkpoint = tmp_path / "tiny"
    write_checkpoint(checkpoint)
    spoil(checkpoint)
    with pytest.raises(ModelLoadError, match=message):
        convert_checkpoint(checkpoint, tmp_path / "tiny.gguf")
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]


def test_character_map_of_unigram(tmp_path: Path) -> None:
    checkpoint = tmp_path / "tiny"
    write_checkpoint(checkpoint, "XLMRobertaModel", "Unigram")
    normalizer = {"type": "Precompiled", "precompiled_charsmap": "AAECAwQFBgc="}
    change_json(checkpoint / "tokenizer.json", normalizer=normalizer)
    with pytest.raises(ModelLoadError, match=r"tiny: the GGUF .* is cut short"):
        convert_checkpoint(checkpoint, tmp_path / "tiny.gguf")


def test_large_json(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "tiny")
    with (tmp_path / "tiny" / "tokenizer.json").open("r+b") as file:
        file.truncate(2**27 + 1)  # without taking the room
    with pytest.raises(ModelLoadError, match="134217729 bytes large"):
        convert_checkpoint(tmp_path / "tiny", tmp_path / "tiny.gguf")


class _Program:
    def __init__(self, trace: Path) -> None:
        self._trace = trace

    def __reduce__(self) -> tuple[object, tuple[str, ...]]:
        return os.mkdir, (str(self._trace),)


def test_no_pickle_is_loaded(tmp_path: Path) -> None:
    checkpoint, trace = tmp_path / "tiny", tmp_path / "trace"
    write_checkpoint(checkpoint)
    (checkpoint / "pytorch_model.bin").write_bytes(pickle.dumps(_Program(trace)))
    convert_checkpoint(checkpoint, tmp_path / "tiny.gguf")
    (checkpoint / "model.safetensors").unlink()
    with pytest.raises(ModelLoadError, match="only pickled weights"):
        convert_checkpoint(checkpoint, tmp_path / "other.gguf")
    assert not trace.exists()


@pytest.mark.slow
def test_fuzzer_finds_nothing() -> None:
    fuzzer = str(TESTS / "fuzz" / "fuzz_checkpoint.py")
    command = [sys.executable, fuzzer, "--cases", "500"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout
    assert "\n0 findings" in result.stdout
