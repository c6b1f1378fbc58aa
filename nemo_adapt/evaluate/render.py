"""The report to read: plots, a Markdown file and a self-contained HTML page, from the same tables."""

from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from nemo_adapt.config import PhaseConfig
from nemo_adapt.evaluate import languages, pages, plots, remarks, tables
from nemo_adapt.evaluate.headline import headlines, rows_by_text, tokens_per_sentence
from nemo_adapt.evaluate.measure import CONTINUATION_BYTES
from nemo_adapt.evaluate.report import GATE_SHARE, Report

PLOTS = "plots"
Records = Sequence[Mapping[str, Any]]


def render(report: Report, metrics: Records, held_out: Records, phases: Sequence[PhaseConfig], out: Path) -> None:
    """Write plots/*.png, report.md and report.html into ``out``.

    ``metrics`` and ``held_out`` are the records of the training's files of these names; ``phases``, if more than one,
    are marked on its curve. What was not measured is left out.
    """
    (out / PLOTS).mkdir(parents=True, exist_ok=True)
    view = {
        "report": report,
        "versions": report["versions"],
        "headlines": headlines(report),
        "language": languages.name,
        "direction": languages.direction,
        "task_name": tables.task_name,
        "has_ratios": tables.has_ratios(report),
        "gate_share": GATE_SHARE,
        "enough_bytes": CONTINUATION_BYTES,
        "tables": tables.all_tables(report),
        "text_remarks": [*remarks.unknown(report), *remarks.chosen(report)],
        "dtypes": remarks.dtypes(report),
        "cut": remarks.cut(report),
        "plots": draw(report, metrics, held_out, phases, out / PLOTS),
    }
    pages.write("report", "nemo_adapt.evaluate", view, out)


def draw(
    report: Report, metrics: Records, held_out: Records, phases: Sequence[PhaseConfig], folder: Path
) -> dict[str, str]:
    """Draw every plot that has data; return plot -> path relative to the report, empty if it was not drawn."""
    drawn = {
        "tokens": _tokens(report, folder / "tokens.png"),
        "sweep": plots.lines(folder / "sweep.png", *_sweep(report)),
        "training": _training(metrics, held_out, phases, folder / "training.png"),
        "bits_per_byte": _bits(report, folder / "bits_per_byte.png"),
        "tasks": _tasks(report, folder / "tasks.png"),
    }
    return {name: f"{PLOTS}/{name}.png" if done else "" for name, done in drawn.items()}


def _tokens(report: Report, path: Path) -> bool:
    found = {name: rows_by_text(report["fertility"], report["tokenizers"][name]) for name in report["models"]}
    shared = [key for key in found[report["models"][0]] if all(key in table for table in found.values())]
    among = dict.fromkeys(shared)
    bars = {
        tables.text_name(key, among): [plots.Bar(tokens_per_sentence(table[key])) for table in found.values()]
        for key in shared
    }
    return plots.bars(path, bars, report["models"], "tokens per sentence", 1)


def _bits(report: Report, path: Path) -> bool:
    names = report["models"]
    bars = {
        languages.name(key): [_bar(report["bits_per_byte"][name][key], report["scores"][name][key]) for name in names]
        for key in report["bits_per_byte"][names[0]]
    }
    return plots.bars(path, bars, names, "bits per byte", 2)


def _tasks(report: Report, path: Path) -> bool:
    names, bars = report["models"], {}
    for task, about in report["task_list"].items():
        facts = [report["task_scores"][name][task] for name in names]
        metric = facts[0]["metric"]
        values = [fact["values"][metric] for fact in facts]
        title = f"{tables.task_name(task, about)}\n{tables.METRICS[metric]}"
        bars[title] = [_bar(of["value"], of, tables.scale(metric)) for of in values]
    return plots.horizontal_bars(path, bars, names, "score")


def _bar(value: float, ends: Mapping[str, Any], times: float = 1.0) -> plots.Bar:
    """Return the bar of a value ``times`` a factor, with its interval if ``ends`` has one."""
    return plots.Bar(*(times * each for each in (value, ends["low"], ends["high"]) if each is not None))


def _sweep(report: Report) -> tuple[dict[str, list[tuple[float, float]]], str, str]:
    """Return language -> points (new tokens, tokens relative to the base's for the reference), and the axis labels."""
    found: dict[str, list[tuple[float, float]]] = {}
    for row in report["sweep"]:
        if row["tokens_vs_reference"] is not None:
            found.setdefault(languages.name(row["language"]), []).append(
                (row["new_tokens"], row["tokens_vs_reference"])
            )
    return found, "new tokens", f"tokens over the base's {languages.name(report['reference'])}"


def _training(metrics: Records, held_out: Records, phases: Sequence[PhaseConfig], path: Path) -> bool:
    points = [row for row in metrics if row.get("bits_per_byte") is not None]
    if len(points) < 2:
        return False
    megabytes = [row["bytes"] / 1e6 for row in points]
    seen = {0: 0.0} | {row["step"]: row["bytes"] / 1e6 for row in metrics if "bytes" in row}
    scored: dict[str, list[tuple[float, float]]] = {}
    for row in held_out:
        for language, value in row["bits_per_byte"].items():
            if value is not None:
                scored.setdefault(languages.name(language), []).append((row["bytes"] / 1e6, value))
    plots.training_curve(path, megabytes, [row["bits_per_byte"] for row in points], _phase_starts(seen, phases), scored)
    return True


def _phase_starts(seen: Mapping[int, float], phases: Sequence[PhaseConfig]) -> dict[str, float]:
    """Return the megabytes seen when each phase began; empty for a single phase."""
    if len(phases) < 2:
        return {}
    begins = accumulate((phase.steps for phase in phases[:-1]), initial=0)
    names = [f"{number}. {phase.train}" for number, phase in enumerate(phases, start=1)]
    return {name: _seen(seen, begin) for name, begin in zip(names, begins, strict=True)}


def _seen(seen: Mapping[int, float], step: int) -> float:
    """Return the megabytes seen at a step, between known ones in proportion to the steps."""
    known = np.array(sorted(seen.items()))
    return float(np.interp(step, known[:, 0], known[:, 1]))
