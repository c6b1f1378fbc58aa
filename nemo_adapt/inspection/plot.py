"""Plot of the rows of each table, projected onto their first two principal components."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from nemo_adapt.figures import COLORS, DPI, INK

View = tuple[NDArray[np.float64], NDArray[np.float64], float]


def views(found: Mapping[str, View], path: Path) -> None:
    """Draw one panel per table: kept rows in grey, new rows in colour, the share of variance in the title."""
    figure = Figure(figsize=(4.2 * len(found), 3.8), layout="constrained", facecolor="white")
    for axes, (name, (base, new, share)) in zip(
        figure.subplots(1, len(found), squeeze=False)[0], found.items(), strict=True
    ):
        for points, kind, colour in ((base, "base", COLORS["base"]), (new, "new", COLORS["adapted"])):
            axes.scatter(*points.T, s=6, color=colour, alpha=0.6, linewidths=0, label=kind)
        axes.set_title(f"{name} table, {share:.0%} of variance", fontsize=10, color=INK)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[["top", "right", "left", "bottom"]].set_visible(False)
        axes.legend(frameon=False, fontsize=9, markerscale=2)
    figure.savefig(path, dpi=DPI)
