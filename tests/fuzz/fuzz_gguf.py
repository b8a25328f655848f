# SPDX-License-Identifier: Apache-2.0
"""Damage small models in structured ways and compute with them: nothing may end the process.

Each case takes a complete tiny model, changes some of its key-values, tensors, vocabulary, weights
or bytes, and hands it to a worker process, which loads it with some instruction set, accuracy and
number of threads, and embeds texts alone and together. Cases depend on the seed and their number
only::

    python tests/fuzz/fuzz_gguf.py --cases 100000
    python tests/fuzz/fuzz_gguf.py --start 4711 --cases 1 --keep findings
"""

from __future__ import annotations

import dataclasses
import random
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.append(str(Path(__file__).parents[1]))

from case_runner import Case, MakeCase, MiB, run
from gguf_damage import DAMAGES, add_many, damage_bytes
from support.gguf_draft import Draft, draft_of
from support.tiny_model import ARCHITECTURES, SIZES, write_tiny_model

import embellama
from embellama import EmbeddingModel, ModelConfig, PoolingStrategy
from embellama.embedding.verification import ENCODER_TOLERANCE
from embellama.errors import EmbellamaError, ModelLoadError
from embellama.gguf.check import check_model
from embellama.gguf.reader import read_header

TEXTS = [
    "hello world",
    "  two  spaces\n\ttab",
    "caf\u00e9 \U0001f600 [CLS] <s>",
    "a world, a hello! " * 3,
    "z",
]
# Of what the encoder takes over and of what it hands back, or leaves to llama.cpp in part: packed
# weights have rows and columns in multiples of 32, its attention has heads of multiples of 16.
_HEAD_SIZES = [2, 4, 6, 8, 16, 32, 32, 64, 128]
_INSTRUCTION_SETS = embellama.backend_info()["instruction_sets"]
_FILE_TYPES = ["F32", "F32", "F16", "BF16", "Q8_0", "Q4_0", "Q5_1"]


def _settings(rng: random.Random) -> dict[str, Any]:
    """What a user may choose; half of the time nothing but the threads."""
    settings: dict[str, Any] = {"n_threads": rng.choice([1, 2])}
    if rng.random() < 0.5:
        choices = [{"accuracy": "exact"}, {"instruction_set": "generic"}]
        choices += [{"instruction_set": name} for name in _INSTRUCTION_SETS]
        choices += [{"instruction_set": "llama.cpp"}, {"use_mmap": False}]
        settings |= rng.choice(choices)
    return settings


def _bases(folder: Path) -> list[Draft]:
    """Every architecture in several sizes, so that odd hyper-parameters meet shapes that fit."""
    rng = random.Random(0)
    bases = []
    for architecture in ARCHITECTURES:
        for number in range(96 if architecture == "bert" else 24):
            sizes: dict[str, Any] = dict(SIZES)
            if number:
                heads, length = rng.choice([1, 2, 3, 4, 8]), rng.choice(_HEAD_SIZES)
                width = heads * length if rng.random() < 0.6 else rng.choice([32, 48, 256])
                groups = heads if rng.random() < 0.6 else rng.choice([1, 2])
                sizes |= {"head_count": heads, "head_count_kv": groups, "key_length": length}
                sizes |= {"block_count": rng.choice([1, 2, 3]), "embedding_length": width}
                sizes["feed_forward_length"] = rng.choice([32, 33, 64, 256])
                sizes["context_length"] = rng.choice([2, 33, 64, 512])
            path = folder / f"{architecture}-{number}.gguf"
            write_tiny_model(
                path, architecture, file_type=rng.choice(_FILE_TYPES), seed=number, **sizes
            )
            if number == 0 or _is_accepted(path):
                bases.append(draft_of(read_header(path), sizes))
            path.unlink()
    return bases


def _is_accepted(path: Path) -> bool:
    try:
        check_model(read_header(path))
    except ModelLoadError:
        return False
    return True


def _copy(draft: Draft) -> Draft:
    return dataclasses.replace(
        draft,
        key_values=[
            dataclasses.replace(
                item, value=list(item.value) if isinstance(item.value, list) else item.value
            )
            for item in draft.key_values
        ],
        tensors=[dataclasses.replace(tensor, shape=list(tensor.shape)) for tensor in draft.tensors],
        notes=[],
    )


def prepare(folder: Path, seed: int) -> MakeCase:
    """Return what makes the case of a number."""
    bases = _bases(folder)
    # The encoder is ours, and computes BERT.
    encoders = [base for base in bases if base.architecture == "bert"]
    path = folder / "case.gguf"

    def make_case(number: int) -> Case:
        rng = random.Random(f"{seed}:{number}")
        draft = _copy(rng.choice(encoders if rng.random() < 0.3 else bases))
        draft.notes.append(f"{draft.architecture} {draft.sizes}")
        for _ in range(rng.choice([0, 1, 1, 1, 2, 2, 3, 5])):
            rng.choice(DAMAGES)(rng, draft)
        if rng.random() < 0.005:
            add_many(rng, draft)
        content = draft.encoded()
        if rng.random() < 0.12:
            content = damage_bytes(rng, content)
            draft.notes.append("bytes")
        path.write_bytes(content)
        request = {"path": str(path), "settings": _settings(rng)}
        return Case(request, "; ".join(draft.notes), 2 * len(content) + 64 * MiB)

    return make_case


def embed(path: str, settings: dict[str, Any]) -> str:
    """Load a file and compute with it."""
    with EmbeddingModel(ModelConfig(path, **settings)) as model:
        if model.pooling is PoolingStrategy.RANK:
            model.rerank("hello", TEXTS)
            return "ranked"
        alone = [_vector_or_error(model, text) for text in TEXTS]
        together = model.embed_batch(TEXTS, on_error="nan", details=True)
        _compare(alone, together, model.core_model.instruction_set != "llama.cpp")
        error = _raised(model)
        assert (error is None) == (not together.errors), f"raises {error!r}: {together.errors}"
        if error is None:
            return "embedded"
        named = getattr(error, "index", None)
        assert named is None or named in together.errors, f"names row {named}: {error}"
        return f"embedded but for some: {error}"


def _raised(model: EmbeddingModel) -> EmbellamaError | None:
    try:
        model.embed_batch(TEXTS)
    except EmbellamaError as error:
        return error
    return None


def _vector_or_error(model: EmbeddingModel, text: str) -> Any:
    try:
        return model.embed(text)
    except EmbellamaError as error:
        return error


def _compare(alone: list[Any], together: Any, by_encoder: bool) -> None:
    """Each row is the text's own vector, or NaN with the text's own error."""
    for index, (single, row) in enumerate(zip(alone, together.embeddings, strict=True)):
        error = together.errors.get(index)
        if isinstance(single, EmbellamaError):
            # llama.cpp adds up in another order beside neighbours, and infinities with it: what is
            # NaN in one order may be skipped, as if it were masked, in another.
            if error is None and not by_encoder:
                assert np.isfinite(row).all(), f"row {index}: {row}"
                continue
            assert type(error) is type(single), f"row {index}: alone {single!r}, together {error!r}"
            assert np.isnan(row).all(), f"row {index} has {error!r} and values"
            continue
        assert error is None, f"row {index} has a vector alone, and together {error!r}"
        assert np.isfinite(single).all(), f"text {index} alone: {single}"
        assert np.isfinite(row).all(), f"row {index}: {row}"
        if by_encoder and single.any():
            distance = 1 - float(single.astype(np.float64) @ row.astype(np.float64))
            assert distance <= ENCODER_TOLERANCE, f"row {index} is {distance:.1e} off"


def warm_up(folder: Path) -> None:
    """Load what stays: libraries, a thread's arenas."""
    for architecture in ("bert", "llama", "t5encoder"):
        path = write_tiny_model(folder / "warm.gguf", architecture)
        for n_threads in (1, 2):
            embed(str(path), {"n_threads": n_threads})


def main() -> int:
    return run(
        (__doc__ or "").splitlines()[0],
        prepare,
        lambda request: embed(**request),
        warm_up,
        keep=lambda case, path: shutil.copy(case.request["path"], path.with_suffix(".gguf")),
    )


if __name__ == "__main__":
    sys.exit(main())
