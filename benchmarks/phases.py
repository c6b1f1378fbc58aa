"""New rows first, or all at once: stories260K to Turkish and to Hindi, bits per byte over the bytes seen.

    python benchmarks/phases.py [--quick] [--megabytes MB]

Data: the folder in NEMO_ADAPT_DATA (default ../shared/data). For each language the recipe `stories260k_tr` with that
language's files is trained twice on the same text in the same order: in one phase `all`, and in the phases `new_rows`
(15% of the bytes, at twice the learning rate: few parameters, no decay of kept rows) and `all`. 2,000 new tokens, 10%
English replay, TP=2, a learning rate of 4e-3. Every training sees 2.2 MB of text (`--megabytes`), rounded
to whole steps: in Turkish about 60% of what the recipe trains on, so that the four trainings take a quarter of an hour
on two idle cores. The first 50,000 bytes of both held-out texts are scored 12 times during each training.

Writes benchmarks/results/phases.md and phases.png. `--quick` trains on 0.3 MB and writes nothing.
"""

import argparse
import json
import os
import re
import shutil
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from command import command
from matplotlib.figure import Figure
from transformers import AutoModelForCausalLM

from nemo_adapt import hf_tokenizer
from nemo_adapt.config import recipe_files, recipes
from nemo_adapt.evaluate.bits_per_byte import read_text, score
from nemo_adapt.figures import COLORS, DPI, INK, set_style
from nemo_adapt.machine.facts import versions

LANGUAGES = {"tr": "Turkish", "hi": "Hindi"}
PREPARED = ("tokenizer", "data", "convert")
MEGABYTES, QUICK = 2.2, 0.3
FIRST_SHARE = 0.15
"""Fraction of the bytes for the phase of new rows."""
LR, FIRST_LR = 4e-3, 8e-3
SCORINGS, SCORED_BYTES = 12, 50_000
ONE, TWO = "all", "new_rows, all"
RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Point:
    """The held-out scores of a training after some of its steps."""

    bytes: int
    target: float
    """Bits per byte."""
    english: float


@dataclass(frozen=True)
class Plan:
    """The length of a training, in steps of about ``step_bytes`` bytes of the mixed text."""

    every: int
    """Steps between scorings, of which there are ``SCORINGS``."""
    first: int
    """Steps of the phase of new rows."""
    step_bytes: float

    @property
    def steps(self) -> int:
        return self.every * SCORINGS

    @property
    def first_megabytes(self) -> float:
        return self.first * self.step_bytes / 1e6

    def phases(self, kind: str) -> str:
        """``train.phases``, with budgets in bytes."""
        parts = [("all", self.steps, LR)]
        if kind == TWO:
            parts = [("new_rows", self.first, FIRST_LR), ("all", self.steps - self.first, LR)]
        # The training rounds up to whole steps, so ask for one byte less than the steps have.
        listed = (f"{{train: {what}, bytes: {int(n * self.step_bytes) - 1}, lr: {lr}}}" for what, n, lr in parts)
        return f"train.phases=[{', '.join(listed)}]"


def recipe_of(language: str, place: Path) -> Path:
    """Write the Turkish recipe with the files of ``language``; return its path."""
    text = (recipe_files.recipes_folder() / "stories260k_tr.yaml").read_text(encoding="utf-8")
    path = place / f"stories260k_{language}.yaml"
    path.write_text(re.sub(r"\btr\b", language, text), encoding="utf-8")
    return path


def plan_of(run: Path, megabytes: float) -> Plan:
    """Return the plan with the number of steps nearest to ``megabytes`` that has equal intervals between scorings."""
    config = recipes.read(run / "config.yaml")
    shares = {"target": 1.0 - config.data.replay_share, "replay": config.data.replay_share}
    counts = {name: json.loads((run / "data" / name / "counts.json").read_text(encoding="utf-8")) for name in shares}
    bytes_per_token = sum(share * counts[name]["bytes"] / counts[name]["tokens"] for name, share in shares.items())
    step_bytes = bytes_per_token * config.train.global_batch * config.train.seq_length
    every = max(1, round(megabytes * 1e6 / step_bytes / SCORINGS))
    return Plan(every, max(1, round(FIRST_SHARE * every * SCORINGS)), step_bytes)


def curve(run: Path, language: str) -> list[Point]:
    """Return the scores of a training with the bytes that it had seen."""
    seen, scores = (
        {record["step"]: record for record in map(json.loads, (run / "train" / name).read_text("utf-8").splitlines())}
        for name in ("metrics.jsonl", "held_out.jsonl")
    )
    found = ((seen[step]["bytes"], record["bits_per_byte"]) for step, record in scores.items())
    return [Point(size, bits[language], bits["en"]) for size, bits in found]


def trained(language: str, place: Path, megabytes: float) -> tuple[Plan, dict[str, list[Point]]]:
    """Run both trainings of a language, sharing the earlier stages; return the plan and the scores by kind."""
    recipe = f"recipe={recipe_of(language, place)}"
    base = place / f"{language}_base"
    for stage in PREPARED:
        command(stage, recipe, f"run.dir={place}", f"run.name={base.name}")
    plan, found = plan_of(base, megabytes), {}
    for kind in (ONE, TWO):
        run = place / f"{language}_{len(found)}"
        for part in PREPARED:
            shutil.copytree(base / part, run / part)
        scores = f"train.score_every={plan.every}", f"train.score_bytes={SCORED_BYTES}", f"train.log_every={plan.every}"
        command("train", recipe, f"run.dir={place}", f"run.name={run.name}", plan.phases(kind), *scores)
        found[kind] = curve(run, language)
        took = [json.loads((run / "train" / "summary.json").read_text("utf-8"))[key] for key in ("steps", "seconds")]
        print(f"{LANGUAGES[language]}, {kind}: {took[0]} steps in {took[1]:.0f} s", flush=True)
    return plan, found


def base_english(place: Path) -> float:
    """Return the bits per byte of the unmodified base model on the same part of the English text."""
    config = recipes.read(place / f"{next(iter(LANGUAGES))}_base" / "config.yaml")
    model = AutoModelForCausalLM.from_pretrained(config.model.path).eval()
    texts = read_text(Path(config.evaluate.texts["en"]), SCORED_BYTES)
    tokenizer = hf_tokenizer.load(Path(config.tokenizer.base))
    return score(model, tokenizer, texts, config.train.seq_length, config.evaluate.batch).bits_per_byte


def table(language: str, plan: Plan, curves: dict[str, list[Point]]) -> str:
    """Return the table of one language in Markdown."""
    name = LANGUAGES[language]
    first = f"{plan.first} of {plan.steps} steps are the phase of new rows ({plan.first_megabytes:.2f} MB)"
    lines = [
        f"## {name}\n\n{first}.\n",
        f"| MB seen | {name}, `{ONE}` | {name}, `{TWO}` | English, `{ONE}` | English, `{TWO}` |",
        "|---|---|---|---|---|",
    ]
    for one, two in zip(curves[ONE], curves[TWO], strict=True):
        bits = (one.target, two.target, one.english, two.english)
        lines.append(f"| {one.bytes / 1e6:.2f} | {' | '.join(f'{value:.3f}' for value in bits)} |")
    return "\n".join(lines)


def verdict(language: str, curves: dict[str, list[Point]]) -> str:
    """Return a sentence on the final scores."""
    one, two = curves[ONE][-1], curves[TWO][-1]
    gains = ((LANGUAGES[language], one.target - two.target), ("English", one.english - two.english))
    says = ", ".join(f"{name} {'lower' if gain > 0 else 'higher'} by {abs(gain):.3f}" for name, gain in gains)
    name, megabytes = LANGUAGES[language], one.bytes / 1e6
    return (
        f"{name} after {megabytes:.2f} MB: one phase {one.target:.3f} (English {one.english:.3f}), `{TWO}` "
        f"{two.target:.3f} (English {two.english:.3f}): with new rows first {says} bits per byte"
    )


def plot(path: Path, plans: dict[str, Plan], curves: dict[str, dict[str, list[Point]]], english: float) -> None:
    """Plot both languages side by side; English is dashed."""
    figure = Figure(figsize=(9.6, 3.8), layout="constrained", facecolor="white")
    shown = [point for kinds in curves.values() for points in kinds.values() for point in points[1:]]
    top = max(max(point.target, point.english) for point in shown)
    for number, (language, kinds) in enumerate(curves.items(), start=1):
        axes = figure.add_subplot(1, len(curves), number)
        set_style(axes, "bits per byte" if number == 1 else "", "text seen (MB)")
        for (kind, points), color in zip(kinds.items(), COLORS.values(), strict=True):
            seen = [point.bytes / 1e6 for point in points]
            axes.plot(seen, [point.target for point in points], color=color, label=f"{LANGUAGES[language]}, {kind}")
            axes.plot(seen, [point.english for point in points], "--", color=color, label=f"English, {kind}")
        axes.axhline(english, color=INK, linewidth=0.8, linestyle=(0, (1, 3)), label="English, base model")
        axes.axvline(plans[language].first_megabytes, color=INK, linewidth=0.5)
        axes.set_ylim(top=top * 1.03)
        axes.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=DPI)


def document(plans: dict[str, Plan], curves: dict[str, dict[str, list[Point]]], english: float, seconds: float) -> str:
    """Return the results file in Markdown."""
    made = ", ".join(f"{name} {version}" for name, version in versions().items() if name in ("python", "torch"))
    megatron = versions().get("megatron-core", "?")
    parts = [
        "# New rows first, or all at once: stories260K to Turkish and Hindi",
        f"`python benchmarks/phases.py`, {datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, {made}, megatron-core "
        f"{megatron}; {seconds:.0f} s in all. 2,000 new tokens, TP=2, 10% English replay; learning rate {LR:g}, in the "
        f"phase of new rows {FIRST_LR:g}. Bits per byte of the first {SCORED_BYTES:,} bytes of the held-out texts; the "
        f"base model has {english:.3f} in English.",
        "![bits per byte over the text seen](phases.png)",
        "\n".join(f"- {verdict(language, kinds)}." for language, kinds in curves.items()),
        "One run of each; in [strategies.md](strategies.md) another seed moves such figures by about 0.01.",
        *(table(language, plans[language], kinds) for language, kinds in curves.items()),
    ]
    return "\n\n".join(parts) + "\n"


def main() -> None:
    """Run the benchmark: train four times, compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="0.3 MB; writes nothing")
    parser.add_argument("--megabytes", type=float, help="text that each training sees (default 2.2)")
    arguments = parser.parse_args()
    megabytes = arguments.megabytes or (QUICK if arguments.quick else MEGABYTES)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        found = {language: trained(language, place, megabytes) for language in LANGUAGES}
        plans, curves = ({language: pair[part] for language, pair in found.items()} for part in (0, 1))
        english, picture = base_english(place), place / "phases.png"
        plot(picture, plans, curves, english)
        text = document(plans, curves, english, time.monotonic() - began)
        print(f"\n{text}")
        if not arguments.quick:
            (RESULTS / "phases.md").write_text(text, encoding="utf-8")
            shutil.copy(picture, RESULTS / "phases.png")
    print(f"summary: {'; '.join(verdict(language, kinds) for language, kinds in curves.items())}")


if __name__ == "__main__":
    main()
