# SPDX-License-Identifier: Apache-2.0
"""The measurements, as JSON and as Markdown."""

from __future__ import annotations

import dataclasses
import json
import statistics
from typing import Any

BASELINE = "embellama F16"


@dataclasses.dataclass
class Measured:
    """A contender's figures, or the reason why there are none."""

    name: str
    unavailable: str | None = None
    notes: list[str] = dataclasses.field(default_factory=list)
    versions: dict[str, str] = dataclasses.field(default_factory=dict)
    load_seconds: list[float] = dataclasses.field(default_factory=list)
    """Seconds from a fresh interpreter to the first vector, each in a process of its own."""
    resident_mb: float | None = None
    """Memory after the first vector, minus that of an interpreter with numpy."""
    peak_mb: float | None = None
    """Peak memory of the whole run, minus that of an interpreter with numpy."""
    batch_sizes: dict[str, int] = dataclasses.field(default_factory=dict)
    cosines: dict[str, tuple[float, float]] = dataclasses.field(default_factory=dict)
    """The lowest and the mean cosine of a workload's vectors to the reference."""
    seconds: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    """Seconds of each round of a workload; for "one" the median of the round's texts."""

    def cosine(self, counts: dict[str, int]) -> tuple[float, float]:
        """Return the lowest and the mean cosine over all workloads."""
        n_texts = sum(counts[workload] for workload in self.cosines)
        total = sum(counts[workload] * mean for workload, (_, mean) in self.cosines.items())
        return min(least for least, _ in self.cosines.values()), total / n_texts


@dataclasses.dataclass
class Comparison:
    """A run: every contender with the same texts, in interleaved rounds."""

    date: str
    machine: str
    n_threads: int
    isa: str | None
    model: str
    texts: dict[str, int]
    """The number of texts of each workload; those of "one" are embedded one at a time."""
    contenders: list[Measured]

    def json(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Comparison:
        values: dict[str, Any] = json.loads(text)
        values["contenders"] = [Measured(**measured) for measured in values["contenders"]]
        return cls(**values)

    def baseline(self) -> Measured | None:
        for measured in self.contenders:
            if measured.name == BASELINE and measured.unavailable is None:
                return measured
        return None

    def times_as_fast(self, workload: str, measured: Measured) -> float | None:
        """Return how many times as fast the baseline is: the median of the rounds' ratios."""
        baseline = self.baseline()
        if baseline is None:
            return None
        pairs = zip(measured.seconds[workload], baseline.seconds[workload], strict=True)
        return statistics.median(theirs / ours for theirs, ours in pairs)

    def figure(self, workload: str, seconds: float) -> float:
        """Return the texts per second, or the milliseconds for one text."""
        return 1000 * seconds if workload == "one" else self.texts[workload] / seconds


def number(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def header(*cells: str) -> list[str]:
    return [row(*cells), f"|{'---|' * len(cells)}"]


def speed_cell(comparison: Comparison, workload: str, measured: Measured) -> str:
    seconds = measured.seconds[workload]
    best, median = (
        number(comparison.figure(workload, value))
        for value in (min(seconds), statistics.median(seconds))
    )
    times = comparison.times_as_fast(workload, measured)
    ratio = "" if times is None or measured.name == BASELINE else f", {times:.2f}x"
    return f"{best} ({median}){ratio}"


def speed_table(comparison: Comparison) -> list[str]:
    lines = header(
        "",
        *(
            "one text, ms" if workload == "one" else f"{workload}, texts/s"
            for workload in comparison.texts
        ),
    )
    for measured in comparison.contenders:
        if measured.unavailable is not None:
            empty = [""] * (len(comparison.texts) - 1)
            lines.append(row(measured.name, f"not measured: {measured.unavailable}", *empty))
            continue
        cells = [speed_cell(comparison, workload, measured) for workload in comparison.texts]
        lines.append(row(measured.name, *cells))
    return lines


def cost_table(comparison: Comparison) -> list[str]:
    lines = header(
        "", "cosine, least", "cosine, mean", "load, s", "memory, MB", "peak, MB", "batch sizes"
    )
    for measured in comparison.contenders:
        if measured.unavailable is not None:
            continue
        least, mean = measured.cosine(comparison.texts)
        assert measured.resident_mb is not None
        assert measured.peak_mb is not None
        lines.append(
            row(
                measured.name,
                f"{least:.7f}",
                f"{mean:.7f}",
                f"{min(measured.load_seconds):.2f}",
                f"{measured.resident_mb:.0f}",
                f"{measured.peak_mb:.0f}",
                ", ".join(f"{size} {workload}" for workload, size in measured.batch_sizes.items()),
            )
        )
    return lines


def versions(comparison: Comparison) -> list[str]:
    names: dict[str, list[str]] = {}
    for measured in comparison.contenders:
        parts = [" ".join(pair) for pair in measured.versions.items()]
        names.setdefault("; ".join([", ".join(parts), *measured.notes]), []).append(measured.name)
    return [f"- {', '.join(of)}: {text or 'not installed'}" for text, of in names.items()]


def markdown(comparison: Comparison) -> str:
    rounds = max((len(s) for m in comparison.contenders for s in m.seconds.values()), default=0)
    counts = ", ".join(
        f"{count} {'one at a time' if workload == 'one' else workload}"
        for workload, count in comparison.texts.items()
    )
    isa = "" if comparison.isa is None else f", held to {comparison.isa} where there is a switch"
    return "\n".join(
        [
            f"{comparison.model} on {comparison.machine}, {comparison.n_threads} threads{isa}; "
            f"{comparison.date}. Texts: {counts}. {rounds} interleaved rounds, tokenization and "
            "Python included.",
            "",
            f"The best round, the median in brackets, and how many times as fast {BASELINE} is "
            "(the median of the rounds' ratios):",
            "",
            *speed_table(comparison),
            "",
            "Cosine to the float32 vectors of transformers, seconds from a bare interpreter to the "
            "first vector, and memory above an interpreter with numpy, after the first vector and "
            "at most:",
            "",
            *cost_table(comparison),
            "",
            "Versions:",
            "",
            *versions(comparison),
            "",
        ]
    )
