# SPDX-License-Identifier: Apache-2.0
"""Compare the encoder's instruction sets with llama.cpp's own code, in one process, on one file.

It measures the installed embellama::

    python asv_bench/compare_encoder.py --file-type F16

Rounds of all alternate, so that other work on the machine affects all of them. Figures are the
best of all rounds, in processor time, which counts only the process itself. They cover the whole
way from text to vector, with tokenization. `GFLOP/s` counts only the products with weights, two
operations per weight and token. `share` is the share of one core's peak, which ``--peaks`` takes
from ``raw_loop/multiply_peak`` (built with ``-Dbenchmarks=true``). `cosine` is the lowest cosine
to llama.cpp's vectors of the F32 file.
"""

from __future__ import annotations

import statistics
import subprocess
import time
from collections.abc import Callable

import click
import numpy as np
from benchmarks import workloads

import embellama
from embellama import catalog

# MiniLM's weights that multiply every token: 6 layers of 4 * 384**2 + 2 * 384 * 1536.
WEIGHTS = 6 * (4 * 384**2 + 2 * 384 * 1536)
N_SINGLE = 40


def batch(model: embellama.EmbeddingModel, texts: list[str]) -> float:
    """Return the processor seconds for all texts."""
    start = time.process_time()
    model.embed_batch(texts)
    return time.process_time() - start


def singles(model: embellama.EmbeddingModel, texts: list[str]) -> float:
    """Return the median of the seconds for one text."""
    seconds = []
    for text in texts:
        start = time.perf_counter()
        model.embed(text)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def best_of(
    models: dict[str, embellama.EmbeddingModel],
    measure: Callable[[embellama.EmbeddingModel, list[str]], float],
    texts: list[str],
    rounds: int,
) -> dict[str, float]:
    """Return the least seconds of all rounds; the models take turns in each round."""
    best = dict.fromkeys(models, float("inf"))
    for _ in range(rounds):
        for name, model in models.items():
            best[name] = min(best[name], measure(model, texts))
    return best


@click.command()
@click.option("--file-type", default="F16", show_default=True, help="Type of the weights.")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=10, show_default=True)
@click.option("--peaks", type=click.Path(exists=True, dir_okay=False), help="multiply_peak.")
def main(file_type: str, threads: int, rounds: int, peaks: str | None) -> None:
    """Compare the installed embellama's encoder with llama.cpp."""
    path = catalog.resolve(workloads.MODEL, file_type=file_type)
    exact_path = catalog.resolve(workloads.MODEL, file_type="F32")
    lines = subprocess.check_output([peaks], text=True).split("\n") if peaks else []
    limits = {name: float(rate) for name, rate in (line.split() for line in lines if line)}
    names = ["llama.cpp", *reversed(embellama.backend_info()["instruction_sets"])]
    models = {
        name: embellama.EmbeddingModel(
            embellama.ModelConfig(path, n_threads=threads, instruction_set=name)
        )
        for name in names
    }
    exact = embellama.EmbeddingModel(
        embellama.ModelConfig(exact_path, instruction_set="llama.cpp", n_threads=threads)
    )
    click.echo(f"{path.name}, {threads} threads, best of {rounds} rounds; limits {limits}\n")
    click.echo("| workload | instruction set | texts/s or ms | ratio | GFLOP/s | share | cosine |")
    click.echo("|---|---|---|---|---|---|---|")
    for workload in workloads.MIXES:
        texts = workloads.texts(workload)
        n_tokens = sum(exact.count_tokens(text) for text in texts)
        reference = exact.embed_batch(texts)
        best = best_of(models, batch, texts, rounds)
        for name, seconds in best.items():
            rate = 2e-9 * WEIGHTS * n_tokens / seconds
            share = f"{100 * rate / limits[name]:.0f} %" if name in limits else ""
            cosine = np.sum(models[name].embed_batch(texts) * reference, axis=1).min()
            cells = [workload, name, f"{len(texts) / seconds:.0f}"]
            cells += [f"{best['llama.cpp'] / seconds:.2f}", f"{rate:.0f}", share, f"{cosine:.6f}"]
            click.echo(f"| {' | '.join(cells)} |")
    best = best_of(models, singles, workloads.texts("short")[:N_SINGLE], rounds)
    for name, seconds in best.items():
        ratio = best["llama.cpp"] / seconds
        click.echo(f"| one | {name} | {1000 * seconds:.2f} ms | {ratio:.2f} | | | |")


if __name__ == "__main__":
    main()
