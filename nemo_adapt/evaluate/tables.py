"""The tables of the report, with cells as text, from the content of report.json."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nemo_adapt.evaluate import languages
from nemo_adapt.evaluate.headline import rows_by_text, tokens_per_sentence
from nemo_adapt.evaluate.report import Report

METRICS = {
    "acc_bytes": "accuracy, %",
    "chrf": "chrF",
    "rouge_l": "ROUGE-L",
    "spbleu": "spBLEU",
}
ACCURACIES = ("acc_bytes", "acc", "acc_norm")
"""Metrics that are stored as fractions and shown as percentages."""
NOT_SHOWN = ("acc", "acc_norm")
"""Accuracies not normalized by bytes: only in report.json, as they favour one tokenizer or one script."""
NOTHING = "–"


@dataclass(frozen=True)
class Table:
    """A table with cells as text; the first column names the line, the others hold numbers."""

    columns: list[str]
    rows: list[list[str]]


def all_tables(report: Report) -> dict[str, Table]:
    """Return every table by name; the pages leave out those without rows."""
    return {
        "fertility": fertility(report),
        "tokenizer": facts(report["tokenizer"]),
        "training": training(report["training"]),
        "bits_per_byte": bits(report),
        "generation": generation(report),
        "tasks": tasks(report),
        "lost": lost(report),
        "stages": stages(report),
        "cost": cost(report),
    }


def fertility(report: Report) -> Table:
    """Return tokens per sentence, bytes per token, and tokens relative to the reference language's.

    The last column but one divides by the first tokenizer's tokens for the reference text, the last by its own; they
    are left out where no text is parallel to that one.
    """
    reference = languages.name(report["reference"])
    ratios = {"tokens_vs_reference": f"Over {report['models'][0]}'s {reference}"} if has_ratios(report) else {}
    ratios |= {"disparity": f"Over its own {reference}"} if ratios else {}
    counts = ["Sentences", "Tokens per sentence", "Change", "Bytes per token"]
    columns = ["Text", "Model", *counts, *ratios.values()]
    tables = {name: rows_by_text(report["fertility"], report["tokenizers"][name]) for name in report["models"]}
    first = next(iter(tables.values()))
    rows = []
    for key, base in first.items():
        for name, table in tables.items():
            if key not in table:
                continue
            row = table[key]
            rows.append(
                [
                    text_name(key, first),
                    name,
                    f"{row['sentences']:,}",
                    _formatted(row, "tokens_per_sentence", "{:.1f}", tokens_per_sentence(row)),
                    NOTHING if row is base else _formatted(row, "tokens_vs_base", "{:+.1%}", plus=-1.0),
                    f"{row['bytes_per_token']:.2f}",
                    *(_formatted(row, key, "{:.2f}×") for key in ratios),
                ]
            )
    return Table(columns, rows)


def has_ratios(report: Report) -> bool:
    """Return whether any text's tokens are divided by those of the reference language's."""
    return any(row.get("tokens_vs_reference") is not None for row in report["fertility"])


def bits(report: Report) -> Table:
    """Return bits per byte with 95% intervals, and the paired differences to the first model with theirs."""
    columns = ["Text", "Model", "Bits per byte", "Difference", "Change", "Documents", "kB"]
    rows = []
    for key in report["bits_per_byte"][report["models"][0]]:
        for name in report["models"]:
            fact, change = report["scores"][name][key], report["changes"].get(name, {}).get(key)
            rows.append(
                [
                    languages.name(key),
                    name,
                    _interval(report["bits_per_byte"][name][key], fact, 3),
                    _interval(change["bits_per_byte"], change, 3, "+") if change else NOTHING,
                    f"{change['share']:+.1%}" if change else NOTHING,
                    f"{fact['documents']:,}",
                    f"{fact['bytes'] / 1e3:,.1f}",
                ]
            )
    return Table(columns, rows)


def generation(report: Report) -> Table:
    """Return the speed of generation, as it is and relative to the first model's, and the share of new tokens."""
    first = report["models"][0]
    units = {
        "examples_per_second": ("Examples/s", 1),
        "tokens_per_second": ("Tokens/s", 0),
        "bytes_per_second": ("Bytes/s", 0),
        "tokens_per_example": ("Tokens per example", 1),
        "bytes_per_example": ("Bytes per example", 0),
    }
    named, behind = [title for title, _ in units.values()], f"Examples/s over {first}'s"
    columns = ["Text", "Model", named[0], behind, *named[1:], "New tokens (%Gen)"]
    rows = []
    for key in next(iter(report["generation"].values()), {}):
        for name, of in report["generation"].items():
            fact = of[key]
            speed, *others = (_formatted(fact, unit, f"{{:,.{digits}f}}") for unit, (_, digits) in units.items())
            change = report["generation_changes"].get(name, {}).get(key)
            times = (
                _interval(change["examples_per_second"]["times"], change["examples_per_second"], 2) if change else ""
            )
            new = _formatted(fact, "new_share", "{:.1%}")
            rows.append([languages.name(key), name, speed, times or NOTHING, *others, new])
    return Table(columns, rows)


def tasks(report: Report) -> Table:
    """Return the metrics of every task; only the task's main metric, which comes first, has a difference."""
    columns = ["Task", "Model", "Metric", "Score", "Difference", "Examples", "Shots"]
    rows = []
    for task, about in report["task_list"].items():
        for name in report["models"]:
            fact, change = report["task_scores"][name][task], report["task_changes"].get(name, {}).get(task)
            for metric, value in fact["values"].items():
                if metric in NOT_SHOWN:
                    continue
                times = scale(metric)
                main = change if metric == fact["metric"] else None
                rows.append(
                    [
                        task_name(task, about),
                        name,
                        METRICS[metric],
                        _scaled(value["value"], value, times),
                        _scaled(main["difference"], main, times, "+") if main else NOTHING,
                        f"{about['examples']:,}",
                        str(about["shots"]),
                    ]
                )
    return Table(columns, rows)


def lost(report: Report) -> Table:
    """Return what was lost in the reference language: on its text and on its tasks."""
    columns = ["Measure", "Model", "Difference", "Verdict"]
    rows = []
    for name in report["models"][1:]:
        if gate := report["gate"].get(name):
            shown = _scaled(gate["share"], gate, 100.0, "+")
            rows.append(["bits per byte, %", name, shown, "gate holds" if gate["holds"] else "gate fails"])
        for task, about in report["task_list"].items():
            if about["language"] == report["reference"]:
                change = report["task_changes"][name][task]
                times = scale(change["metric"])
                shown = _scaled(change["difference"], change, times, "+")
                rows.append([f"{task_name(task, about)}, {METRICS[change['metric']]}", name, shown, _verdict(change)])
    return Table(columns, rows)


def _verdict(change: Mapping[str, float | None]) -> str:
    """Return what the interval of a difference says, if there is one."""
    low, high = change["low"], change["high"]
    if low is None or high is None:
        return NOTHING
    return "lost" if high < 0 else "gained" if low > 0 else "within noise"


def training(summary: Mapping[str, Any]) -> Table:
    """Return the size and the speed of the training, as far as its summary has them."""
    formats = {
        "steps": ("Steps", "{:,}"),
        "tokens": ("Tokens", "{:,}"),
        "bytes": ("Bytes", "{:,}"),
        "seconds": ("Seconds", "{:,.0f}"),
        "tokens_per_second": ("Tokens per second", "{:,.0f}"),
    }
    shown = {title: form.format(summary[key]) for key, (title, form) in formats.items() if key in summary}
    shown |= {f"Times {name} was read": f"{times:,.2f}" for name, times in summary.get("passes", {}).items()}
    return Table(list(shown), [list(shown.values())] if shown else [])


def stages(report: Report) -> Table:
    """Return the cost of each stage: seconds, process hours, tokens and bytes of text, peak memory."""
    costs = report["cost"].values()
    scored = next(iter(report["scores"].values())).values()
    own = {
        "seconds": sum(sum(fact["seconds"].values()) for fact in costs),
        "device": next(fact["device"] for fact in costs),
        "tokens": sum(fact["tokens_scored"] + fact["tokens_written"] for fact in costs),
        "bytes": len(costs) * sum(fact["bytes"] for fact in scored),
        "peak_memory_mib": report["peak_memory_mib"],
    }
    told = {**report["stages"], "evaluate": own} if report["stages"] else {}
    rows, hours = [], dict.fromkeys(("CPU", "GPU"), 0.0)
    for name, fact in told.items():
        ranks, kind = fact.get("ranks", 1), "CPU" if fact.get("device", "cpu").startswith("cpu") else "GPU"
        hours[kind] += ranks * fact["seconds"] / 3600
        counts = [f"{fact[key]:,}" if key in fact else NOTHING for key in ("tokens", "bytes", "peak_memory_mib")]
        rows.append(
            [name, f"{fact['seconds']:,.1f}", str(ranks), f"{ranks * fact['seconds'] / 3600:,.3f} {kind}", *counts]
        )
    if rows:
        total = " + ".join(f"{value:,.3f} {kind}" for kind, value in hours.items() if value)
        rows.append(["all", f"{sum(fact['seconds'] for fact in told.values()):,.1f}", "", total, "", "", ""])
    return Table(["Stage", "Seconds", "Processes", "CPU- or GPU-hours", "Tokens", "Bytes", "Peak memory, MiB"], rows)


def cost(report: Report) -> Table:
    """Return the cost of evaluating each model."""
    kinds = {"load": "Loading, s", "score": "Scoring, s", "write": "Writing, s", "tasks": "Tasks, s"}
    rows = [
        [
            name,
            *(f"{fact['seconds'][kind]:,.1f}" for kind in kinds),
            f"{fact['tokens_scored']:,}",
            f"{fact['tokens_written']:,}",
            fact["device"],
            fact["dtype"],
        ]
        for name, fact in report["cost"].items()
    ]
    return Table(["Model", *kinds.values(), "Tokens scored", "Tokens written", "Device", "Dtype"], rows)


def facts(values: Mapping[str, Any]) -> Table:
    """Return the plain values of a dictionary, including nested ones, as lines of name and value."""
    rows = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            rows += [[f"{key} {name}", shown] for name, shown in facts(value).rows]
        elif isinstance(value, (str, int, float)):
            rows.append(
                [key, f"{value:,}" if type(value) is int else f"{value:.4g}" if type(value) is float else str(value)]
            )
    return Table(["", ""], [[name.replace("_", " "), shown] for name, shown in rows])


def text_name(key: tuple[str, str], among: Mapping[tuple[str, str], Any]) -> str:
    """Return the name of the language, followed by the text's file name if the language has several texts."""
    language, text = key
    several = sum(other == language for other, _ in among) > 1
    return languages.name(language) + (f" ({Path(text).name})" if several else "")


def task_name(task: str, about: Mapping[str, Any]) -> str:
    """Return a task's title: ``xcopa Turkish``, ``translation English-Turkish``."""
    of = task.removeprefix(f"{about['kind']}_")
    return f"{about['kind']} {'-'.join(map(languages.name, of.split('-')))}"


def scale(metric: str) -> float:
    """Return the factor for showing a metric: 100 for fractions, shown as percentages, else 1."""
    return 100.0 if metric in ACCURACIES else 1.0


def _scaled(value: float, ends: Mapping[str, Any], times: float, sign: str = "") -> str:
    return _interval(value, ends, 1, sign, times)


def _interval(value: float, ends: Mapping[str, Any], digits: int, sign: str = "", times: float = 1.0) -> str:
    """Format a value ``times`` a factor, with its interval if ``ends`` has one."""
    form, low, high = f"{{:{sign}.{digits}f}}", ends["low"], ends["high"]
    shown = form.format(times * value)
    return shown if low is None else f"{shown} [{form.format(times * low)}, {form.format(times * high)}]"


def _formatted(fact: Mapping[str, Any], key: str, form: str, value: float | None = None, plus: float = 0.0) -> str:
    """Format ``fact[key]``, or ``value`` if given, with its interval; ``plus`` is added to all three numbers."""
    value = fact.get(key) if value is None else value
    ends = fact.get("intervals", {}).get(key)
    if value is None:
        return NOTHING
    shown = form.format(value + plus)
    return shown if ends is None else f"{shown} [{', '.join(form.format(end + plus) for end in ends)}]"
