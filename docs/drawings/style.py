# SPDX-License-Identifier: Apache-2.0
"""What all drawings share: colours that colour-blind people tell apart, and where they go."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

# Okabe and Ito, https://jfly.uni-koeln.de/color/
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")
GREY = "#999999"

plt.rcParams.update(
    {
        "axes.spines.right": False,
        "axes.spines.top": False,
        "figure.constrained_layout.use": True,
        "font.size": 10,
        "legend.frameon": False,
        # The same data give the same file.
        "svg.hashsalt": "embellama",
    }
)


def save(figure: Figure, name: str) -> None:
    """Write ``name.svg`` beside the scripts."""
    path = Path(__file__).parent / f"{name}.svg"
    figure.savefig(path, metadata={"Date": None})
    print(path.name)
