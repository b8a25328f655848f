# SPDX-License-Identifier: Apache-2.0
"""Compare the speed of two installed builds of embellama, architecture by architecture.

    python asv_bench/compare_builds.py OTHER_PYTHON [--rounds 7] [--threads 2] [--only PART]
    python asv_bench/compare_builds.py --limits avx512_vnni avx512

The first build is that of the Python that runs this script. The second is that of OTHER_PYTHON,
for example made by ``pip install -Csetup-args=-Dcpu=native .``. ``--limits`` gives the two builds
different values of EMBELLAMA_INSTRUCTION_SET; without OTHER_PYTHON both are the same build. Both
stay loaded, and take turns at each measurement. A ratio above 1 means that the first is faster.
The models have random weights, in the sizes of small real ones; the vectors of both builds are
compared too.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

TOP = Path(__file__).resolve().parent.parent

SIZES = {
    "embedding_length": 512,
    "block_count": 4,
    "head_count": 8,
    "head_count_kv": 8,
    "key_length": 64,
    "feed_forward_length": 1024,
    "context_length": 512,
}
MODELS = [
    ("bert", "F16"),
    ("bert", "Q8_0"),
    ("nomic-bert", "F16"),
    ("nomic-bert-moe", "F16"),
    ("jina-bert-v2", "F16"),
    ("eurobert", "F16"),
    ("modern-bert", "F16"),
    ("gemma-embedding", "Q8_0"),
    ("t5encoder", "F16"),
    ("llama", "F32"),
    ("llama", "F16"),
    ("llama", "BF16"),
    ("llama", "Q8_0"),
    ("llama", "Q4_0"),
    ("qwen3", "F16"),
    ("qwen3", "Q4_K"),
    ("qwen3", "Q6_K"),
]
# llama.h, llama_ftype
QUANTISED = {"Q4_K": 15, "Q6_K": 18}
DTYPES = ["float32", "float16", "int8", "ubinary"]

# The program of each of the two processes. It answers each line of JSON with a line of JSON.
SERVER = """
import json, os, sys, time
import numpy as np
import embellama
from embellama import kernels
from embellama.core import quantize

models = {}
rows = np.random.default_rng(0).standard_normal((2000, 384), dtype=np.float32)

def embed(path, instruction_set, n_threads):
    key = path, instruction_set
    if key not in models:
        config = embellama.ModelConfig(path, n_threads=n_threads, instruction_set=instruction_set)
        models[key] = embellama.EmbeddingModel(config)
    texts = ["hello world " * (2 + i % 9) for i in range(48)]
    models[key].embed_batch(texts[:4])
    begin = time.perf_counter()
    vectors = models[key].embed_batch(texts)
    return time.perf_counter() - begin, vectors[:4].tolist()

def dtype(name):
    begin = time.perf_counter()
    for _ in range(20):
        embellama.quantize(rows, name) if name != "float32" else kernels.normalize_rows(rows)
    return time.perf_counter() - begin, []

def convert(source, file_type):
    begin = time.perf_counter()
    quantize(source, source + str(os.getpid()), file_type)
    return time.perf_counter() - begin, []

def load(path):
    begin = time.perf_counter()
    with embellama.EmbeddingModel(path) as model:
        model.embed("hello")
    return time.perf_counter() - begin, []

for line in sys.stdin:
    name, *arguments = json.loads(line)
    print(json.dumps(globals()[name](*arguments)), flush=True)
"""


class Build:
    def __init__(self, python: str, limit: str) -> None:
        self.process = subprocess.Popen(
            [python, "-c", SERVER],
            env=os.environ | {"EMBELLAMA_INSTRUCTION_SET": limit},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=tempfile.gettempdir(),
        )

    def measure(self, *call: Any) -> tuple[float, list[Any]]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(call) + "\n")
        self.process.stdin.flush()
        seconds, result = json.loads(self.process.stdout.readline())
        return seconds, result


def write_models(folder: Path) -> dict[str, str]:
    sys.path.insert(0, str(TOP / "tests"))
    from support.tiny_model import write_tiny_model

    from embellama.core import quantize

    paths = {}
    for architecture, file_type in MODELS:
        path = folder / f"{architecture}-{file_type}.gguf"
        kind = "F16" if file_type in QUANTISED else file_type
        write_tiny_model(path, architecture, file_type=kind, **SIZES)
        if file_type in QUANTISED:
            source = path.rename(path.with_suffix(".f16"))
            quantize(str(source), str(path), QUANTISED[file_type])
        paths[f"{architecture} {file_type}"] = str(path)
    return paths


def compare(first: Build, second: Build, n_rounds: int, *call: Any) -> tuple[float, float, float]:
    """Return the median ratio of times, the ratio of the best times, and the largest difference."""
    ratios, best, difference = [], [float("inf")] * 2, 0.0
    for round_index in range(n_rounds + 1):
        pair = [first, second] if round_index % 2 else [second, first]
        answers = {build: build.measure(*call) for build in pair}
        (a, x), (b, y) = answers[first], answers[second]
        for left, right in zip(x, y, strict=True):
            difference = max(
                difference, *(abs(p - q) for p, q in zip(left, right, strict=True)), 0.0
            )
        if round_index:  # the first warms up
            ratios.append(b / a)
            best = [min(best[0], a), min(best[1], b)]
    return median(ratios), best[1] / best[0], difference


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("other_python", nargs="?", default=sys.executable)
    parser.add_argument("--limits", nargs=2, default=["", ""], metavar="INSTRUCTION_SET")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", default="", help="measure what has this in its name")
    arguments = parser.parse_args()
    first = Build(sys.executable, arguments.limits[0])
    second = Build(arguments.other_python, arguments.limits[1])
    with tempfile.TemporaryDirectory() as folder:
        paths = write_models(Path(folder))
        calls: list[tuple[str, tuple[Any, ...]]] = []
        for name, path in paths.items():
            calls.append((f"{name}, llama.cpp", ("embed", path, "llama.cpp", arguments.threads)))
            if name.startswith("bert"):
                calls.append((f"{name}, encoder", ("embed", path, None, arguments.threads)))
        calls += [(f"rows as {name}", ("dtype", name)) for name in DTYPES]
        calls.append(("quantise to Q8_0", ("convert", paths["llama F32"], 7)))
        calls.append(("quantise to Q4_K", ("convert", paths["llama F32"], 15)))
        calls.append(("load, first vector", ("load", paths["llama F16"])))
        print(f"{'':32} median   best  difference of a value")
        for name, call in calls:
            if arguments.only in name:
                middle, best, difference = compare(first, second, arguments.rounds, *call)
                print(f"{name:32} {middle:6.3f} {best:6.3f}  {difference:.1e}", flush=True)


if __name__ == "__main__":
    main()
