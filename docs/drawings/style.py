# SPDX-License-Identifier: Apache-2.0
"""Code that all drawings share: colours that colour-blind people can distinguish, and saving."""

from __future__ import annotations

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
    """Write ``name.svg`` into the current folder."""
    figure.savefig(f"{name}.svg", metadata={"Date": None})
    print(f"{name}.svg")
