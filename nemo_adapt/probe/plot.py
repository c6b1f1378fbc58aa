"""The probe's plot: bits per byte over steps, one line per strategy with its spread over seeds."""

from pathlib import Path
from typing import Any

from nemo_adapt.figures import DPI, INK, new_figure


def curves(result: dict[str, Any], path: Path) -> None:
    """Plot the rows of ``probe.json`` to ``path``, on a logarithmic scale because strategies start far apart."""
    figure, axes = new_figure("bits per byte", "steps", size_inches=(6.4, 4.0))
    for number, row in enumerate(result["rows"]):
        drawn = [at for at in result["points"] if row["mean"][str(at)] is not None]
        means = [row["mean"][str(at)] for at in drawn]
        spreads = [row["spread"][str(at)] for at in drawn]
        style = "-" if number < 10 else "--"  # ten colours, then the same ones dashed
        axes.errorbar(drawn, means, spreads, label=row["strategy"], linestyle=style, linewidth=1.5, capsize=2)
    axes.set_xticks(result["points"])
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.yaxis.set_minor_formatter(lambda value, _: f"{value:g}")
    axes.tick_params(axis="y", which="minor", colors=INK, labelsize=8, length=0)
    axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    figure.savefig(path, dpi=DPI)
