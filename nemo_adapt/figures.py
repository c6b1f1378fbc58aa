"""Figures in the style that all plots share, without pyplot's global state."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLORS = {"base": "#a3adb8", "adapted": "#0b7f79"}
PALETTE = (*COLORS.values(), "#b4552d", "#4a5fa5", "#8a6d1f", "#7a3b69", "#5c6670", "#6ba539", "#c9447a")
INK, FAINT = "#1f2933", "#d5dbe1"
SIZE_INCHES = (5.4, 3.1)
"""Small on purpose: the labels stay readable when a phone scales the image down."""
DPI = 150


def color(number: int) -> str:
    """Return the colour of the model, or curve, with this index; 0 is the baseline model's."""
    return PALETTE[number % len(PALETTE)]


def legend(axes: Axes, entries: int) -> None:
    """Put a legend with ``entries`` entries above the plot."""
    axes.legend(
        frameon=False, fontsize=9, ncols=min(entries, 3), loc="lower right", bbox_to_anchor=(1.0, 1.0), borderpad=0
    )


def new_figure(ylabel: str, xlabel: str = "", size_inches: tuple[float, float] = SIZE_INCHES) -> tuple[Figure, Axes]:
    """Return an empty figure in the style of all plots."""
    figure = Figure(figsize=size_inches, layout="constrained", facecolor="white")
    axes = figure.add_subplot()
    set_style(axes, ylabel, xlabel)
    return figure, axes


def set_style(axes: Axes, ylabel: str, xlabel: str = "") -> None:
    """Set axis labels, and the lines and colours that all plots share."""
    axes.set_ylabel(ylabel, fontsize=10, color=INK)
    axes.set_xlabel(xlabel, fontsize=10, color=INK)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(FAINT)
    axes.grid(axis="y", color=FAINT, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, labelsize=10, length=0)
