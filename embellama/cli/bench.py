# SPDX-License-Identifier: Apache-2.0
"""``embellama bench``: how fast a model is on this machine."""

from __future__ import annotations

import itertools
import json
import random
import resource
import statistics
import time
from typing import Any

import click
import numpy as np

from embellama import catalog
from embellama.cli import options
from embellama.config import Accuracy, ModelConfig, PoolingStrategy
from embellama.core import backend_info
from embellama.machine.cores import usable_cores
from embellama.model import EmbeddingModel

__all__ = ["bench"]

# Tokens of a text, special ones included: a query, a sentence or two, a paragraph.
_LENGTHS = (8, 64, 256)
# Tokens of a batch for each core: enough for several micro-batches.
_TOKENS_PER_THREAD = 1024

_DISTINCT_TEXTS = 64

_WORDS = """
    after against also always among another around because before between both bridge building
    called change children city close common country day different during early earth enough every
    family far field first food form found four garden given great group half hand hard head high
    home house important island kind known land large last later letter life light line little
    long made many most mountain move name near never new next night north now number often old
    once open order other over own page paper part people place plant point power problem question
    rain read right river road room round school sea second several ship short side small some
    sound south start state still stone story such system table thing three time together town
    tree turn under until very voice walk war water way week white whole wind winter without wood
    word work world year young
""".split()


@click.command()
@options.model()
@options.file_type
@options.accuracy
@options.threads
@click.option(
    "--instruction-set",
    metavar="NAME",
    help="Compute an encoder with these instructions, such as avx2, or by llama.cpp.  [default: "
    "the best of this processor]",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=2.0,
    show_default=True,
    help="Least time of each measurement.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@options.quiet
def bench(
    model: str,
    file_type: str | None,
    accuracy: str,
    threads: int | None,
    instruction_set: str | None,
    seconds: float,
    as_json: bool,
    quiet: bool,
) -> None:
    """Measure a model on this machine: rates, latency, memory.

    Texts are random English words. `texts/s` is the median over batches of 1,024 tokens a thread;
    `alone` is the time of one text by itself. Other work on the machine makes both worse.
    """
    config = ModelConfig(
        catalog.resolve(model, file_type=file_type, progress=not quiet),
        accuracy=Accuracy(accuracy),
        n_threads=threads,
        instruction_set=instruction_set,
    )
    start = time.perf_counter()
    with EmbeddingModel(config) as embedding_model:
        loaded = time.perf_counter() - start
        embedding_model.warmup()
        rows = [
            _measured(embedding_model, length, seconds)
            for length in _LENGTHS
            if length <= embedding_model.max_sequence_length
        ]
        report = {
            "model": str(config.model_path),
            "weights": embedding_model.model_size,
            "instruction_set": embedding_model.core_model.instruction_set,
            "load_seconds": loaded,
            "texts": rows,
            # Linux reports KiB (getrusage(2)).
            "peak_memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            "backend": backend_info(),
        }
    if as_json:
        click.echo(json.dumps(report, indent=2))
    else:
        _print(report)


def _measured(model: EmbeddingModel, length: int, seconds: float) -> dict[str, Any]:
    n_threads = model.config.n_threads or usable_cores()
    texts = _texts(model, length, n_threads * _TOKENS_PER_THREAD // length)
    n_tokens = sum(model.count_tokens(text) for text in texts)
    if model.pooling is PoolingStrategy.RANK:
        batches = _durations(lambda _: model.rerank("which word", texts), seconds)
        alone = _durations(lambda i: model.rerank("word", [texts[i % len(texts)]]), seconds)
    elif model.pooling is PoolingStrategy.NONE:
        batches = _durations(lambda _: model.embed_batch_multi(texts), seconds)
        alone = _durations(lambda i: model.embed_multi(texts[i % len(texts)]), seconds)
    else:
        batches = _durations(lambda _: model.embed_batch(texts), seconds)
        alone = _durations(lambda i: model.embed(texts[i % len(texts)]), seconds)
    batch = statistics.median(batches)
    return {
        "tokens": n_tokens / len(texts),
        "texts_per_second": len(texts) / batch,
        "tokens_per_second": n_tokens / batch,
        "alone_milliseconds": 1e3 * statistics.median(alone),
        "alone_milliseconds_p95": 1e3 * float(np.quantile(alone, 0.95)),
    }


def _texts(model: EmbeddingModel, length: int, count: int) -> list[str]:
    source = random.Random("embellama bench")
    texts = []
    for _ in range(min(count, _DISTINCT_TEXTS)):
        words = source.choices(_WORDS, k=length)
        while len(words) > 1 and model.count_tokens(" ".join(words)) > length:
            words.pop()
        texts.append(" ".join(words))
    return list(itertools.islice(itertools.cycle(texts), count))


def _durations(call: Any, seconds: float) -> list[float]:
    """Return how long each call took. The calls take `seconds` in all, after one to warm up."""
    call(0)
    durations: list[float] = []
    while sum(durations) < seconds:
        start = time.perf_counter()
        call(len(durations))
        durations.append(time.perf_counter() - start)
    return durations


def _print(report: dict[str, Any]) -> None:
    backend = report["backend"]
    click.echo(f"{report['model']}")
    click.echo(f"llama.cpp {backend['llama_cpp']} on {'; '.join(backend['devices'])}")
    click.echo(f"instruction set {report['instruction_set']}")
    click.echo(
        f"weights {report['weights'] / 1e6:.1f} MB, loaded in {report['load_seconds']:.2f} s"
    )
    click.echo("")
    click.echo("tokens   texts/s   tokens/s      alone   95 of 100")
    for row in report["texts"]:
        click.echo(
            f"{row['tokens']:6.0f} {row['texts_per_second']:9.1f} {row['tokens_per_second']:10.0f} "
            f"{row['alone_milliseconds']:7.2f} ms {row['alone_milliseconds_p95']:8.2f} ms"
        )
    click.echo("")
    click.echo(f"peak memory of this process {report['peak_memory'] / 1e6:.1f} MB")
