# SPDX-License-Identifier: Apache-2.0
"""Short texts a second by library, from the first table of the page Benchmarks."""

from __future__ import annotations

from pathlib import Path

from matplotlib import pyplot as plt
from style import COLOURS, GREY, save

BENCHMARKS = Path(__file__).parents[1] / "benchmarks.md"
SHOWN = [
    "embellama F16",
    "OpenVINO bf16",
    "PyTorch bf16",
    "ONNX Runtime fp32",
    "fastembed fp32",
    "llama-cpp-python F16",
]


def short_texts() -> dict[str, float]:
    """Texts per second of each library, as the page says."""
    rates: dict[str, float] = {}
    for line in BENCHMARKS.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) > 2 and cells[1] in SHOWN:
            rates.setdefault(cells[1], float(cells[2].split()[0]))
    return rates


def main() -> None:
    """Draw."""
    rates = short_texts()
    names = SHOWN[::-1]
    # Not wider than a phone shows at its full size.
    figure, axis = plt.subplots(figsize=(4.6, 2.3))
    colours = [COLOURS[0] if name.startswith("embellama") else GREY for name in names]
    bars = axis.barh(names, [rates[name] for name in names], color=colours)
    axis.bar_label(bars, fmt="%.0f", padding=3)
    axis.set_xticks([])
    axis.spines["bottom"].set_visible(False)
    axis.tick_params(left=False)
    axis.margins(x=0.12)
    save(figure, "rates")


if __name__ == "__main__":
    main()
