# SPDX-License-Identifier: Apache-2.0
"""Damage small checkpoints in structured ways and convert them: nothing may go wrong unseen.

A worker process converts each. It must get a file that loads, or an error of embellama with nothing
at the destination; nothing else may be written, and no pickle be loaded. Cases depend on the seed
and their number only::

    python tests/fuzz/fuzz_checkpoint.py --cases 10000
    python tests/fuzz/fuzz_checkpoint.py --start 4711 --cases 1 --keep findings
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))

from case_runner import Case, MakeCase, MiB, run
from checkpoint_damage import DAMAGES, Files, write
from support.checkpoints import shard, write_checkpoint
from support.family_checkpoints import FAMILIES, write_family_checkpoint

from embellama import EmbeddingModel, PoolingStrategy
from embellama.convert import convert_checkpoint
from embellama.errors import EmbellamaError

_KINDS = [
    ("BertModel", "WordPiece"),
    ("BertForSequenceClassification", "WordPiece"),
    ("DistilBertModel", "WordPiece"),
    ("XLMRobertaModel", "Unigram"),
    ("XLMRobertaForSequenceClassification", "Unigram"),
    ("RobertaModel", "BPE"),
]
_FILE_TYPES = ["F32", "F16", "BF16", "Q8_0", "Q4_K_M"]


def _bases(folder: Path) -> list[Files]:
    bases = []
    for family in FAMILIES:
        write_family_checkpoint(folder / family, family)
        bases.append(_files(folder / family))
    for number, (architecture, tokenizer) in enumerate(2 * _KINDS):
        path = folder / f"base-{number}"
        weights = write_checkpoint(path, architecture, tokenizer)
        if number >= len(_KINDS):
            shard(path, weights)
        (path / "README.md").write_text("---\nlicense: mit\ntags: [a, b]\nlanguage: en\n---\n")
        modules = [{"type": "sentence_transformers.models.Transformer", "path": ""}]
        modules.append({"type": "sentence_transformers.models.Pooling", "path": "1_Pooling"})
        (path / "modules.json").write_text(json.dumps(modules))
        (path / "1_Pooling").mkdir()
        pooling = {"word_embedding_dimension": 32, "pooling_mode_mean_tokens": True}
        (path / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
        settings = {"prompts": {"query": "the "}, "default_prompt_name": "query"}
        (path / "config_sentence_transformers.json").write_text(json.dumps(settings))
        (path / "sentence_bert_config.json").write_text('{"max_seq_length": 20}')
        bases.append(_files(path))
    return bases


def _files(path: Path) -> Files:
    """Take the files of a folder, which is removed."""
    files = sorted(file for file in path.rglob("*") if file.is_file())
    found: Files = {str(file.relative_to(path)): file.read_bytes() for file in files}
    shutil.rmtree(path)
    return found


def prepare(folder: Path, seed: int) -> MakeCase:
    """Return what makes the case of a number."""
    bases = _bases(folder)
    place = folder / "case"

    def make_case(number: int) -> Case:
        rng = random.Random(f"{seed}:{number}")
        files: Files = dict(rng.choice(bases))
        notes: list[str] = []
        for _ in range(rng.choice([0, 1, 1, 1, 2, 2, 3])):
            rng.choice(DAMAGES)(rng, files, notes)
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        n_bytes = write(files, place / "checkpoint")
        request = {"place": str(place), "file_type": rng.choice(_FILE_TYPES), "task": None}
        config = files.get("config.json")
        if isinstance(config, bytes) and b"lora_adaptations" in config:
            request["task"] = rng.choice([None, "retrieval.query"])
        # A JSON document of empty lists takes some 30 times its bytes as Python objects.
        return Case(request, "; ".join(notes), 32 * n_bytes + 64 * MiB)

    return make_case


def convert(place: str, file_type: str, task: str | None = None) -> str:
    """Convert the checkpoint of a case, and load what came of it."""
    folder = Path(place)
    output = folder / "model.gguf"
    before = _listing(folder)
    os.chdir(folder)
    error = _error_of_conversion(folder / "checkpoint", output, file_type, task)
    after = _listing(folder)
    assert not (folder / "pickled").exists(), "a pickle was loaded"
    assert after - {"model.gguf"} == before, f"wrote {after - before}"
    if error is not None:
        assert "model.gguf" not in after, f"a file in spite of {error!r}"
        return f"refused: {error}"
    with EmbeddingModel(output) as model:
        if model.pooling is PoolingStrategy.RANK:
            model.rerank("hello", ["world"])
        else:
            model.embed("hello world")
    return "converted"


def _error_of_conversion(
    checkpoint: Path, output: Path, file_type: str, task: str | None
) -> EmbellamaError | None:
    try:
        convert_checkpoint(checkpoint, output, file_type=file_type, task=task, n_threads=1)
    except EmbellamaError as error:
        return error
    return None


def _listing(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def warm_up(folder: Path) -> None:
    """Load what stays: libraries, a thread's arenas."""
    for file_type in _FILE_TYPES:
        place = folder / file_type
        place.mkdir()
        write_checkpoint(place / "checkpoint", "BertForSequenceClassification")
        convert(str(place), file_type)


def main() -> int:
    return run(
        (__doc__ or "").splitlines()[0],
        prepare,
        lambda request: convert(**request),
        warm_up,
        keep=lambda case, path: shutil.copytree(
            case.request["place"], path, symlinks=True, ignore_dangling_symlinks=True
        ),
    )


if __name__ == "__main__":
    sys.exit(main())
