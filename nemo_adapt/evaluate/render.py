"""The report for people: plots, one Markdown file and one self-contained HTML page, from the same tables."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from nemo_adapt.config import PhaseConfig
from nemo_adapt.evaluate import languages, plots
from nemo_adapt.evaluate.report import GATE_SHARE, Report, fertility_pairs, headlines, tokens_per_sentence

PLOTS = "plots"


@dataclass(frozen=True)
class Table:
    """Cells as text; the first column names the row, the others hold numbers."""

    columns: list[str]
    rows: list[list[str]]


def render(report: Report, metrics: Sequence[Mapping[str, Any]], phases: Sequence[PhaseConfig], out: Path) -> None:
    """Write plots/*.png, report.md and report.html into ``out``.

    ``metrics``: the lines of the training's metrics.jsonl; ``phases``: its phases, marked on the curve where there is
    more than one. What was not measured is left out.
    """
    (out / PLOTS).mkdir(parents=True, exist_ok=True)
    view = {
        "report": report,
        "headlines": headlines(report),
        "language": languages.name,
        "gate_share": GATE_SHARE,
        "tables": {
            "fertility": fertility_table(report),
            "tokenizer": _facts(report["tokenizer"]),
            "training": training_table(report["training"]),
            "bits_per_byte": bits_table(report),
        },
        "plots": draw(report, metrics, phases, out / PLOTS),
    }
    for name, escape in (("report.md", False), ("report.html", True)):
        environment = Environment(
            loader=PackageLoader("nemo_adapt.evaluate"),
            autoescape=escape,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
        )
        environment.filters |= {"embed": _embed, "cell": _markdown_cell}
        text = environment.get_template(f"{name}.j2").render(view | {"out": out})
        (out / name).write_text(text, encoding="utf-8")


def draw(
    report: Report, metrics: Sequence[Mapping[str, Any]], phases: Sequence[PhaseConfig], folder: Path
) -> dict[str, str]:
    """Draw what there are data for; returns the plots' paths relative to the report, empty for what was not drawn."""
    drawn = {"tokens": "", "training": ""}
    pairs = fertility_pairs(report["fertility"])
    heights = {_row_name(key, pairs): (tokens_per_sentence(a), tokens_per_sentence(b)) for key, (a, b) in pairs.items()}
    if heights:
        plots.paired_bars(folder / "tokens.png", heights, "tokens per sentence", 1)
        drawn["tokens"] = f"{PLOTS}/tokens.png"
    points = [row for row in metrics if row.get("bits_per_byte") is not None]
    if len(points) > 1:
        megabytes = [row["bytes"] / 1e6 for row in points]
        starts = _phase_starts([row["step"] for row in points], megabytes, phases)
        plots.training_curve(folder / "training.png", megabytes, [row["bits_per_byte"] for row in points], starts)
        drawn["training"] = f"{PLOTS}/training.png"
    names = {key: languages.name(key) for key in report["change"]}
    base, adapted = (report["bits_per_byte"][side] for side in plots.COLORS)
    spans = [
        {key: (fact["low"], fact["high"]) for key, fact in report["scores"][side].items()} for side in plots.COLORS
    ]
    plots.paired_bars(
        folder / "bits_per_byte.png",
        {name: (base[key], adapted[key]) for key, name in names.items()},
        "bits per byte",
        2,
        {name: (spans[0][key], spans[1][key]) for key, name in names.items()},
    )
    return drawn | {"bits_per_byte": f"{PLOTS}/bits_per_byte.png"}


def fertility_table(report: Report) -> Table:
    """Tokens per sentence, bytes per token and tokens relative to the reference language, before and after."""
    reference = languages.name(report["reference"])
    columns = ["Text", "Sentences", "Tokens per sentence", "Change", "Bytes per token", f"Against {reference}"]
    pairs = fertility_pairs(report["fertility"])
    rows = []
    for key, (base, extended) in pairs.items():
        before, after = tokens_per_sentence(base), tokens_per_sentence(extended)
        rows.append(
            [
                _row_name(key, pairs),
                f"{base['sentences']:,}",
                f"{before:.1f} → {after:.1f}",
                f"{after / before - 1:+.1%}" if before else "–",
                f"{base['bytes_per_token']:.2f} → {extended['bytes_per_token']:.2f}",
                f"{_times(base)} → {_times(extended)}",
            ]
        )
    return Table(columns, rows)


def bits_table(report: Report) -> Table:
    """Bits per byte with 95% intervals, and the change over the same documents with its own."""
    columns = ["Text", "Base", "Adapted", "Difference", "Change", "Documents", "kB"]
    rows = []
    for key, change in report["change"].items():
        facts = {side: report["scores"][side][key] for side in ("base", "adapted")}
        values = [
            f"{report['bits_per_byte'][side][key]:.3f} [{fact['low']:.3f}, {fact['high']:.3f}]"
            for side, fact in facts.items()
        ]
        difference = f"{change['bits_per_byte']:+.3f} [{change['low']:+.3f}, {change['high']:+.3f}]"
        sizes = [f"{facts['base']['documents']:,}", f"{facts['base']['bytes'] / 1e3:,.1f}"]
        rows.append([languages.name(key), *values, difference, f"{change['share']:+.1%}", *sizes])
    return Table(columns, rows)


def training_table(summary: Mapping[str, Any]) -> Table:
    """The size and the speed of the training, of those values that its summary has."""
    formats = {
        "steps": ("Steps", "{:,}"),
        "tokens": ("Tokens", "{:,}"),
        "bytes": ("Bytes", "{:,}"),
        "seconds": ("Seconds", "{:,.0f}"),
        "tokens_per_second": ("Tokens per second", "{:,.0f}"),
    }
    shown = {title: form.format(summary[key]) for key, (title, form) in formats.items() if key in summary}
    return Table(list(shown), [list(shown.values())] if shown else [])


def _facts(values: Mapping[str, Any]) -> Table:
    """The plain values of a dictionary, and of dictionaries in it, as rows of name and value."""
    rows = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            rows += [[f"{key} {name}", shown] for name, shown in _facts(value).rows]
        elif isinstance(value, (str, int, float)):
            rows.append(
                [key, f"{value:,}" if type(value) is int else f"{value:.4g}" if type(value) is float else str(value)]
            )
    return Table(["", ""], [[name.replace("_", " "), shown] for name, shown in rows])


def _row_name(key: tuple[str, str], among: Mapping[tuple[str, str], Any]) -> str:
    """The language, with the text's name behind it where a language has several texts."""
    language, text = key
    several = sum(other == language for other, _ in among) > 1
    return languages.name(language) + (f" ({Path(text).name})" if several else "")


def _times(row: Mapping[str, Any]) -> str:
    value = row.get("tokens_vs_reference")
    return "–" if value is None else f"{value:.2f}×"


def _phase_starts(steps: Sequence[int], megabytes: Sequence[float], phases: Sequence[PhaseConfig]) -> dict[str, float]:
    """Megabytes seen where each phase began; empty for a single phase."""
    if len(phases) < 2:
        return {}
    begins = accumulate((phase.steps for phase in phases[:-1]), initial=0)
    names = [f"{number}. {phase.train}" for number, phase in enumerate(phases, start=1)]
    seen = dict(zip([0, *steps], [0.0, *megabytes], strict=True))
    return {
        name: max(size for step, size in seen.items() if step <= begin)
        for name, begin in zip(names, begins, strict=True)
    }


def _embed(relative: str, out: Path) -> str:
    """A picture as a data URL."""
    return "data:image/png;base64," + base64.b64encode((out / relative).read_bytes()).decode()


def _markdown_cell(text: str) -> str:
    """Text that cannot end a cell or a line, nor become markup."""
    escaped = " ".join(str(text).split())
    for character in "\\`*_|<[":
        escaped = escaped.replace(character, "\\" + character)
    return escaped
