# SPDX-License-Identifier: Apache-2.0
"""The comparison as a bar chart, with a panel for each workload."""

from __future__ import annotations

import textwrap
from pathlib import Path

from comparison.report import Comparison, number


def save(comparison: Comparison, path: Path) -> None:
    import matplotlib

    matplotlib.use("svg")
    # The same figures give the same file, with text that can be searched.
    matplotlib.rcParams.update({"svg.hashsalt": "embellama", "svg.fonttype": "none"})
    from matplotlib import pyplot

    measured = [contender for contender in comparison.contenders if contender.unavailable is None]
    names = [contender.name for contender in measured]
    colours = ["C1" if name.startswith("embellama") else "C0" for name in names]
    height = 1.4 + 0.25 * len(names)
    figure, panels = pyplot.subplots(
        1, len(comparison.texts), sharey=True, layout="constrained", figsize=(11, height)
    )
    for panel, workload in zip(panels, comparison.texts, strict=True):
        figures = [
            comparison.figure(workload, min(contender.seconds[workload])) for contender in measured
        ]
        bars = panel.barh(names, figures, color=colours)
        panel.bar_label(bars, [f" {number(value)}" for value in figures], fontsize=8)
        panel.margins(x=0.25)
        one = workload == "one"
        panel.set_title("one text, ms\n(less is better)" if one else f"{workload}\ntexts/s")
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(labelsize=8)
    panels[0].invert_yaxis()
    isa = "" if comparison.isa is None else f", {comparison.isa}"
    caption = f"{comparison.model} on {comparison.machine}, {comparison.n_threads} threads{isa}"
    # The library itself is the first package that a contender names.
    libraries = dict(next(iter(contender.versions.items())) for contender in measured)
    listed = ", ".join(" ".join(pair) for pair in libraries.items())
    figure.supxlabel(textwrap.fill(listed, 150), fontsize=8)
    figure.suptitle(textwrap.fill(caption, 110), fontsize=9)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
