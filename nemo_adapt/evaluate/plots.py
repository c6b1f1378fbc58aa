"""The report's plots, as PNG files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nemo_adapt.figures import COLORS, DPI, INK, SIZE_INCHES, color, legend, new_figure

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Bar:
    """A value and the ends of its confidence interval, if it has one."""

    value: float
    low: float = 0.0
    high: float = 0.0


def bars(path: Path, groups: Mapping[str, Sequence[Bar]], names: Sequence[str], unit: str, digits: int) -> bool:
    """Draw a group of bars for each key of ``groups``, one bar for each of ``names``; ``False`` if there is no data."""
    if not groups:
        return False
    width = max(SIZE_INCHES[0], 0.45 * len(groups) * len(names))
    figure, axes = new_figure(ylabel=unit, size_inches=(width, SIZE_INCHES[1]))
    top = max(max(bar.value, bar.high) for group in groups.values() for bar in group)
    for side, name in enumerate(names):
        own = [group[side] for group in groups.values()]
        places = [place + (side - (len(names) - 1) / 2) * 0.76 / len(names) for place in range(len(groups))]
        axes.bar(places, [bar.value for bar in own], width=0.7 / len(names), color=color(side), label=name)
        for place, bar in zip(places, own, strict=True):
            if bar.high > bar.low:
                axes.vlines(place, bar.low, bar.high, colors=INK, linewidth=1.0)
            label = f"{bar.value:.{digits}f}"
            height = max(bar.value, bar.high) + top * 0.02
            axes.text(place, height, label, ha="center", va="bottom", fontsize=10 if len(names) < 4 else 8, color=INK)
    axes.set_xticks(range(len(groups)), list(groups), fontsize=11)
    axes.tick_params(axis="x", length=0)
    axes.set_xlim(-0.6, max(len(groups), 2) - 0.4)
    axes.set_ylim(0, top * 1.15)
    legend(axes, len(names))
    figure.savefig(path, dpi=DPI)
    return True


def horizontal_bars(path: Path, groups: Mapping[str, Sequence[Bar]], names: Sequence[str], unit: str) -> bool:
    """Draw the same as horizontal bars, for many groups with long names."""
    if not groups:
        return False
    height = 0.8 + len(groups) * max(0.5, 0.26 * len(names))
    figure, axes = new_figure(ylabel="", xlabel=unit, size_inches=(SIZE_INCHES[0], height))
    right = max(max(bar.value, bar.high) for group in groups.values() for bar in group) or 1.0
    for side, name in enumerate(names):
        own = [group[side] for group in groups.values()]
        places = [place + (side - (len(names) - 1) / 2) * 0.76 / len(names) for place in range(len(groups))]
        axes.barh(places, [bar.value for bar in own], height=0.7 / len(names), color=color(side), label=name)
        for place, bar in zip(places, own, strict=True):
            if bar.high > bar.low:
                axes.hlines(place, bar.low, bar.high, colors=INK, linewidth=1.0)
            end = max(bar.value, bar.high) + right * 0.01
            axes.text(end, place, f"{bar.value:.1f}", ha="left", va="center", fontsize=9, color=INK)
    axes.set_yticks(range(len(groups)), list(groups), fontsize=9)
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.set_xlim(0, right * 1.12)
    legend(axes, len(names))
    figure.savefig(path, dpi=DPI)
    return True


def lines(path: Path, curves: Mapping[str, Points], xlabel: str, ylabel: str) -> bool:
    """Draw a line for each key of ``curves``; ``False`` if there is no data."""
    if not curves:
        return False
    figure, axes = new_figure(ylabel=ylabel, xlabel=xlabel)
    for number, (name, points) in enumerate(curves.items()):
        axes.plot(*zip(*points, strict=True), "o-", color=color(number + 1), linewidth=1.8, markersize=4, label=name)
    legend(axes, len(curves))
    figure.savefig(path, dpi=DPI)
    return True


def training_curve(
    path: Path,
    megabytes: Sequence[float],
    bits_per_byte: Sequence[float],
    phases: Mapping[str, float],
    held_out: Mapping[str, Points],
) -> None:
    """Draw training loss and held-out scores by language, in bits per byte over the megabytes of text seen.

    ``phases``: name of each phase -> megabytes seen when it began.
    """
    figure, axes = new_figure(xlabel="text seen (MB)", ylabel="bits per byte")
    axes.plot(megabytes, bits_per_byte, color=COLORS["adapted"], linewidth=1.8, label="training loss")
    axes.set_xlim(0, megabytes[-1] * 1.02)
    scored = [value for points in held_out.values() for _, value in points]
    axes.set_ylim(min([*bits_per_byte, *scored]) * 0.9, max([*bits_per_byte, *scored]) * 1.05)
    last = (megabytes[-1], bits_per_byte[-1])
    axes.plot(*last, "o", color=COLORS["adapted"], markersize=5)
    axes.annotate(f"{last[1]:.2f}", last, (0, 8), textcoords="offset points", ha="right", fontsize=10, color=INK)
    for number, (name, points) in enumerate(held_out.items(), start=2):
        axes.plot(
            *zip(*points, strict=True),
            "s--",
            color=color(number),
            linewidth=1.2,
            markersize=4,
            label=f"{name}, held out",
        )
    if held_out:
        legend(axes, 1 + len(held_out))
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
