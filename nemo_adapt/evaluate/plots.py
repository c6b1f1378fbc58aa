"""The report's plots, as PNG files: one style, no state."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLORS = {"base": "#a3adb8", "adapted": "#0b7f79"}
INK, FAINT = "#1f2933", "#d5dbe1"
SIZE_INCHES = (5.4, 3.1)
"""Small on purpose: the labels stay readable when a phone scales the picture down."""
DPI = 150


def paired_bars(
    path: Path,
    values: Mapping[str, tuple[float, float]],
    unit: str,
    digits: int,
    intervals: Mapping[str, tuple[tuple[float, float], tuple[float, float]]] | None = None,
) -> None:
    """Two bars, base and adapted, per key of ``values``; ``intervals`` (low, high) of both are drawn as error bars."""
    figure, axes = new_figure(ylabel=unit)
    top = max(max(pair) for pair in values.values())
    for side, name in enumerate(COLORS):
        places = [place + (side - 0.5) * 0.38 for place in range(len(values))]
        heights = [pair[side] for pair in values.values()]
        axes.bar(places, heights, width=0.35, color=COLORS[name], label=name)
        for key, place, height in zip(values, places, heights, strict=True):
            low, high = intervals[key][side] if intervals else (height, height)
            if high > low:
                axes.vlines(place, low, high, colors=INK, linewidth=1.0)
            label = f"{height:.{digits}f}"
            axes.text(place, max(height, high) + top * 0.02, label, ha="center", va="bottom", fontsize=10, color=INK)
    axes.set_xticks(range(len(values)), list(values), fontsize=11)
    axes.tick_params(axis="x", length=0)
    axes.set_xlim(-0.6, max(len(values), 2) - 0.4)
    axes.set_ylim(0, top * 1.15)
    axes.legend(frameon=False, fontsize=10, ncols=2, loc="lower right", bbox_to_anchor=(1.0, 1.0), borderpad=0)
    figure.savefig(path, dpi=DPI)


def training_curve(
    path: Path, megabytes: Sequence[float], bits_per_byte: Sequence[float], phases: Mapping[str, float]
) -> None:
    """Training loss over the text seen; ``phases`` gives the megabytes at which each phase began."""
    figure, axes = new_figure(xlabel="text seen (MB)", ylabel="training loss (bits per byte)")
    axes.plot(megabytes, bits_per_byte, color=COLORS["adapted"], linewidth=1.8)
    axes.set_xlim(0, megabytes[-1] * 1.02)
    axes.set_ylim(min(bits_per_byte) * 0.9, max(bits_per_byte) * 1.05)
    last = (megabytes[-1], bits_per_byte[-1])
    axes.plot(*last, "o", color=COLORS["adapted"], markersize=5)
    axes.annotate(f"{last[1]:.2f}", last, (0, 8), textcoords="offset points", ha="right", fontsize=10, color=INK)
    for name, start in phases.items():
        axes.axvline(start, color=INK, linewidth=0.8, linestyle=(0, (2, 3)))
        axes.annotate(
            name,
            (start, 0.03),
            (3, 0),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            rotation="vertical",
            color=INK,
        )
    figure.savefig(path, dpi=DPI)


def new_figure(ylabel: str, xlabel: str = "", size_inches: tuple[float, float] = SIZE_INCHES) -> tuple[Figure, Axes]:
    """An empty figure in the style of all plots."""
    figure = Figure(figsize=size_inches, layout="constrained", facecolor="white")
    axes = figure.add_subplot()
    dress(axes, ylabel, xlabel)
    return figure, axes


def dress(axes: Axes, ylabel: str, xlabel: str = "") -> None:
    """Labels, lines and colours of all plots."""
    axes.set_ylabel(ylabel, fontsize=10, color=INK)
    axes.set_xlabel(xlabel, fontsize=10, color=INK)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(FAINT)
    axes.grid(axis="y", color=FAINT, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, labelsize=10, length=0)
