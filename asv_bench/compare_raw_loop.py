# SPDX-License-Identifier: Apache-2.0
"""Compare embellama with a raw C++ loop over llama.cpp: same file, texts, plan, kernels, threads.

Build the loop, raw_loop/raw_loop.cpp, from the project's own llama.cpp. In the top folder, after
``pip install meson ninja cython``::

    meson setup build/raw_loop -Dbenchmarks=true
    meson compile -C build/raw_loop raw_loop

Then compare it with the installed embellama::

    python asv_bench/compare_raw_loop.py build/raw_loop/asv_bench/raw_loop/raw_loop

Rounds of the two alternate, so that other work on the machine affects both. `best` is the ratio of
the two best rounds, and `median` the median of the ratios of neighbouring rounds; above 1
embellama is faster. `processor` is the ratio of the processor times, raw loop to embellama.
Processor time counts only the process itself, so this ratio distinguishes a busy machine from a
slow library. At 0.97 or more embellama costs almost nothing on top of llama.cpp; if all columns
are below that, it wastes time. `difference` is the largest difference between two values of the
vectors: both compute the same.
"""

from __future__ import annotations

import dataclasses
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
from benchmarks import workloads
from comparison.ggml import environment
from numpy.typing import NDArray

import embellama
from embellama import catalog

# The number of texts in the latency workload.
N_SINGLE = 40


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Rounds of one workload; a round is (texts/s or ms, processor seconds)."""

    workload: str
    one: bool
    raw: list[tuple[float, float]]
    ours: list[tuple[float, float]]
    difference: float

    def row(self) -> str:
        raw, ours = ([figure for figure, _ in rounds] for rounds in (self.raw, self.ours))
        ratios = [b / a for a, b in zip(raw, ours, strict=True)]
        processor = statistics.median(
            a / b for (_, a), (_, b) in zip(self.raw, self.ours, strict=True)
        )
        if self.one:
            ratios = [1 / ratio for ratio in ratios]
            best = min(raw), min(ours)
            cells = [f"{figure:.3f} ms" for figure in best]
            ratio = best[0] / best[1]
        else:
            best = max(raw), max(ours)
            cells = [f"{figure:.0f} texts/s" for figure in best]
            ratio = best[1] / best[0]
        cells += [f"{ratio:.3f}", f"{statistics.median(ratios):.3f}", f"{processor:.3f}"]
        return " | ".join(["", self.workload, *cells, f"{self.difference:.0e}", ""]).strip()


class RawLoop:
    """The C++ program, which runs one round when it is asked."""

    def __init__(self, command: list[str], folder: Path) -> None:
        self.vectors = folder / "vectors.f32"
        self.process = subprocess.Popen(
            [*command, "--paced", "--vectors", str(self.vectors)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(Path(command[0])),
        )

    def round(self) -> tuple[float, float]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        figure, milliseconds = self.process.stdout.readline().split()
        return float(figure), float(milliseconds) / 1000

    def finish(self) -> NDArray[np.float32]:
        self.process.communicate()
        if self.process.returncode != 0:
            raise click.ClickException(f"raw_loop ended with status {self.process.returncode}")
        return np.fromfile(self.vectors, dtype=np.float32)


def embellama_round(model: embellama.EmbeddingModel, texts: list[str]) -> tuple[float, float]:
    before = time.process_time()
    start = time.perf_counter()
    model.embed_batch(texts)
    seconds = time.perf_counter() - start
    return len(texts) / seconds, time.process_time() - before


def embellama_singles(model: embellama.EmbeddingModel, texts: list[str]) -> tuple[float, float]:
    before = time.process_time()
    latencies = []
    for text in texts:
        start = time.perf_counter()
        model.embed(text)
        latencies.append(time.perf_counter() - start)
    return 1000 * statistics.median(latencies), time.process_time() - before


def compare(
    program: str, path: Path, workload: str, n_threads: int, rounds: int, *, one: bool
) -> Comparison:
    texts = workloads.texts("short" if one else workload)
    if one:
        texts = texts[:N_SINGLE]
    # The loop computes with llama.cpp's own code, so embellama does too: only the code around it
    # is compared.
    config = embellama.ModelConfig(path, n_threads=n_threads, instruction_set="llama.cpp")
    ours: Callable[[embellama.EmbeddingModel, list[str]], tuple[float, float]]
    ours = embellama_singles if one else embellama_round
    with tempfile.TemporaryDirectory() as name, embellama.EmbeddingModel(config) as model:
        folder = Path(name)
        file = folder / "texts.txt"
        file.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
        command = [program, str(path), str(file), "--threads", str(n_threads)]
        raw = RawLoop([*command, "--rounds", str(rounds), *(["--one"] if one else [])], folder)
        ours(model, texts)
        results: list[tuple[tuple[float, float], tuple[float, float]]] = []
        for index in range(rounds):
            # Each of the two goes first equally often.
            if index % 2:
                results.append((raw.round(), ours(model, texts)))
            else:
                result = ours(model, texts)
                results.append((raw.round(), result))
        # Single texts, as in the round, because products of other shapes round differently.
        vectors = (
            np.stack([model.embed(text) for text in texts]) if one else model.embed_batch(texts)
        )
        difference = float(np.abs(raw.finish().reshape(vectors.shape) - vectors).max())
    return Comparison(
        workload, one, [raw for raw, _ in results], [ours for _, ours in results], difference
    )


@click.command()
@click.argument("program", type=click.Path(exists=True, dir_okay=False, resolve_path=True))
@click.option("--file-type", default="F16", show_default=True, help="Type of the weights.")
@click.option("--threads", type=click.IntRange(1), default=2, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=15, show_default=True)
def main(program: str, file_type: str, threads: int, rounds: int) -> None:
    """Compare the installed embellama with PROGRAM, the built raw_loop."""
    path = catalog.resolve(workloads.MODEL, file_type=file_type)
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    click.echo(f"{path.name}, {threads} threads, {rounds} rounds; load of the machine {load}\n")
    click.echo("| workload | raw loop | embellama | best | median | processor | difference |")
    click.echo("|---|---|---|---|---|---|---|")
    for workload in workloads.MIXES:
        click.echo(compare(program, path, workload, threads, rounds, one=False).row())
    click.echo(compare(program, path, "one", threads, rounds, one=True).row())


if __name__ == "__main__":
    main()
