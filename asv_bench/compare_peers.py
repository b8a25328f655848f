# SPDX-License-Identifier: Apache-2.0
"""Compare embellama with other libraries: same weights, texts and threads, a process for each.

Run it where embellama is installed; README.md beside this file has the details. Rounds of all
contenders alternate, so that other work on the machine affects all of them.
"""

from __future__ import annotations

import datetime
import importlib
import os
import platform
import re
from pathlib import Path

import click
import platformdirs
from benchmarks import workloads
from comparison import plot
from comparison.contender import Contender, Vectors, each
from comparison.report import Comparison, markdown
from peers import ISA_LEVELS, Settings

from embellama import catalog

PEERS = (
    "embellama",
    "raw_loop",
    "openvino",
    "onnxruntime",
    "fastembed",
    "torch",
    "llama_cpp_python",
)
CONTENDERS = {
    f"{name.replace('_', '-')}-{variant}": (name, variant)
    for name in PEERS
    for variant in importlib.import_module(f"peers.{name}").VARIANTS
}
# The number of short texts in the latency workload.
N_SINGLE = 40
# Processor features that libraries may use, as /proc/cpuinfo spells them.
INSTRUCTION_SETS = ("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16")


def machine() -> str:
    cpuinfo = Path("/proc/cpuinfo").read_text(encoding="ascii")
    values = dict(re.findall(r"^(.+?)\t+: (.*)$", cpuinfo.partition("\n\n")[0], re.MULTILINE))
    flags = values.get("flags", "").split()
    found = ", ".join(name for name in INSTRUCTION_SETS if name in flags)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return (
        f"{values.get('model name', platform.machine())} ({found}), {os.cpu_count()} CPUs, "
        f"{memory:.0f} GB, {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}"
    )


def settings_for(exported: Path, n_threads: int, isa: str | None) -> Settings:
    gguf = {
        file_type: catalog.resolve(workloads.MODEL, file_type=file_type)
        for file_type in workloads.FILE_TYPES
    }
    # The catalog keeps the checkpoint here, from which it makes the GGUF files.
    checkpoint = gguf["F16"].parent / workloads.MODEL
    return Settings(checkpoint, gguf, exported, n_threads, isa)


def reference_vectors(torch: Contender, texts: dict[str, list[str]], logs: Path) -> Vectors:
    """Return transformers' vectors in float32, one text at a time and so without padding."""
    torch.load(texts, logs)
    vectors = {workload: torch.vectors(workload) for workload in texts}
    torch.process.close()
    return vectors


@click.command()
@click.option(
    "--contender",
    "chosen",
    type=click.Choice(list(CONTENDERS)),
    multiple=True,
    default=list(CONTENDERS),
    help="One of those to compare; repeatable. Default: all.",
)
@click.option("--rounds", type=click.IntRange(1), default=7, show_default=True)
@click.option("--loads", type=click.IntRange(1), default=3, show_default=True)
@click.option(
    "--times",
    type=click.IntRange(1),
    default=4,
    show_default=True,
    help="Texts of a workload, as a multiple of those asv takes (workloads.MIXES).",
)
@click.option(
    "--threads",
    type=click.IntRange(1),
    default=len(os.sched_getaffinity(0)),
    show_default="the CPUs this process may use",
)
@click.option("--isa", type=click.Choice(ISA_LEVELS), help="Hold all to this instruction set.")
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("build/compare_peers"),
    show_default=True,
    help="Where comparison.json, .md and .svg and the logs go.",
)
@click.option(
    "--environments",
    type=click.Path(file_okay=False, path_type=Path, resolve_path=True),
    default=platformdirs.user_cache_path("embellama", appauthor=False) / "peers",
    show_default=True,
    help="Where the peers are installed, once.",
)
@click.option("--set-up-only", is_flag=True, help="Install the peers, and measure nothing.")
def main(
    chosen: tuple[str, ...],
    rounds: int,
    loads: int,
    times: int,
    threads: int,
    isa: str | None,
    output: Path,
    environments: Path,
    set_up_only: bool,
) -> None:
    """Compare the installed embellama with other libraries and write a report."""
    exported = environments / "exported"
    for folder in (exported, output):
        folder.mkdir(parents=True, exist_ok=True)
    settings = settings_for(exported, threads, isa)
    texts = {mix: workloads.texts(mix, times) for mix in workloads.MIXES}
    texts["one"] = texts["short"][:N_SINGLE]
    contenders = [Contender(*CONTENDERS[key], isa) for key in chosen]
    reference = Contender("torch", "fp32", None)

    def set_up(contender: Contender) -> None:
        click.echo(f"set up {contender.measured.name}", err=True)
        contender.set_up(environments, settings)

    # The reference comes first, because other peers read the files that it exports.
    each([reference], set_up)
    if reference.measured.unavailable is not None:
        raise click.ClickException(f"no reference: {reference.measured.unavailable}")
    each(contenders, set_up)
    if set_up_only:
        for contender in contenders:
            click.echo(f"{contender.measured.name}: {contender.measured.unavailable or 'ready'}")
        return

    vectors = reference_vectors(reference, texts, output)
    for _ in range(loads):
        each(contenders, Contender.load, texts, output)
    for workload in texts:
        click.echo(f"batch sizes and vectors, {workload}", err=True)
        each(contenders, Contender.tune, workload)
        each(contenders, Contender.check, workload, vectors[workload])
    for index in range(rounds):
        click.echo(f"round {index + 1} of {rounds}", err=True)
        for workload in texts:
            # Rotated, so that every contender is at every position equally often.
            shift = index % len(contenders)
            order = contenders[shift:] + contenders[:shift]
            each(order, Contender.round, workload)
    each(contenders, Contender.finish)

    comparison = Comparison(
        date=datetime.date.today().isoformat(),
        machine=machine(),
        n_threads=threads,
        isa=isa,
        model=workloads.MODEL,
        texts={workload: len(rows) for workload, rows in texts.items()},
        contenders=[contender.measured for contender in contenders],
    )
    report = markdown(comparison)
    (output / "comparison.json").write_text(comparison.json(), encoding="utf-8")
    (output / "comparison.md").write_text(report, encoding="utf-8")
    plot.save(comparison, output / "comparison.svg")
    click.echo(report)


if __name__ == "__main__":
    main()
