"""The ``probe`` stage: train with each strategy and seed for a few steps, score, and choose the best strategy.

All runs share the converted checkpoint, the data and one process group. Each run's result is appended to a file when it
ends, so that an interrupted probe continues with the remaining runs. The stage fails after ``train.attempts``
consecutive starts that finished no run.
"""

import json
import math
from collections.abc import Iterable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch.distributed as dist

from nemo_adapt.collectives import first_rank_does
from nemo_adapt.config import Config, ProbeConfig
from nemo_adapt.config.phases import own_phases, phases, shortened, total
from nemo_adapt.console.progress import Bar
from nemo_adapt.errors import UserError
from nemo_adapt.files import write_text
from nemo_adapt.probe import report
from nemo_adapt.resize.adapted import load_adapted
from nemo_adapt.resize.strategy_inputs import AUXILIARY
from nemo_adapt.run.inputs import Inputs, of_group
from nemo_adapt.strategy_choice import StrategyChoice
from nemo_adapt.train import loop
from nemo_adapt.train.attempts import count_start
from nemo_adapt.train.held_out import HeldOut
from nemo_adapt.train.metrics import per_unit
from nemo_adapt.train.prepare import bytes_per_token, new_row_range, start_layout, training_data

RUNS = "runs.jsonl"


def build(config: Config, inputs: Inputs, out: Path) -> None:
    """Write ``runs.jsonl``, ``probe.json``, ``.csv``, ``.md``, ``.png`` and ``choice.json`` to ``out``.

    Called on every rank. Inputs: those of training, and ``text``, held-out text in the target language.
    """
    start = start_layout(config)
    check_strategies(config, inputs)
    settings = config.probe
    held_out = HeldOut.of(config, inputs["text"][0], inputs["tokenizer"][0], settings.max_bytes, inputs["model"][0])
    first = dist.get_rank() == 0
    runs = first_rank_does(_read, out / RUNS)
    missing, advice = f"a run of the probe after number {len(runs)}", "make runs shorter (probe.steps)"
    first_rank_does(count_start, out, len(runs), config.train.attempts, missing, advice)
    first_rank_does(write_text, out / RUNS, _lines(runs.values()))  # without an incomplete last line
    wanted = [(name, seed) for name in settings.strategies for seed in range(settings.seeds)]
    with Bar("probing", len(wanted) * settings.steps, "steps", quiet=not first) as bar:
        data: dict[int, loop.TrainingData] = {}
        for name, seed in wanted:
            if (name, seed) in runs:
                bar.advance(settings.steps)
                continue
            own = _config_of(config, inputs, name, seed)
            if seed not in data:
                data[seed] = training_data(own, inputs, start, own.train, settings.steps, out / "cache")
            runs[name, seed] = {"strategy": name, "seed": seed, **_run(own, inputs, data[seed], held_out, bar)}
            first_rank_does(_append, out / RUNS, runs[name, seed])
    if first:
        result = report.collect([runs[key] for key in wanted], points(settings), config.evaluate.target, held_out.bytes)
        report.write(result, out)
        StrategyChoice.of(result["chosen"]).save(out)


def check_strategies(config: Config, inputs: Inputs) -> None:
    """Raise ``UserError`` for a strategy whose phases do not fit the probe's steps, before the first run begins."""
    for name in config.probe.strategies:
        try:
            phases(_config_of(config, inputs, name, 0))
        except UserError as error:
            raise UserError(f"probe.strategies: {name}, in {config.probe.steps} steps: {error}") from None


def points(settings: ProbeConfig) -> list[int]:
    """Return the steps after which a run is scored: those of ``probe.at`` before the last step, and the last step."""
    return sorted({at for at in settings.at if 0 <= at < settings.steps} | {settings.steps})


def _config_of(config: Config, inputs: Inputs, name: str, seed: int) -> Config:
    """Return the configuration with this strategy and seed, and phases shortened to the probe's steps.

    ``seed`` counts from 0 and is added to the configured seeds.
    """
    resize = replace(StrategyChoice.of(name).applied(config.resize), seed=config.resize.seed + seed)
    short = shortened(own_phases(config.train, bytes_per_token(config, inputs)), config.probe.steps)
    return replace(config, resize=resize, train=replace(config.train, phases=short, seed=config.train.seed + seed))


def _run(config: Config, inputs: Inputs, data: loop.TrainingData, held_out: HeldOut, bar: Bar) -> dict[str, Any]:
    """Train once; return the held-out bits per byte by step, and the last training loss in bits per byte.

    Ends early if the loss is not finite; the remaining scores are then ``None``.
    """
    plan = phases(config)
    tokenizer = inputs["tokenizer"][0]
    new = new_row_range(tokenizer, plan)
    chunks, _ = load_adapted(
        config, inputs["model"][0], inputs["checkpoint"][0], tokenizer, of_group(inputs, AUXILIARY)
    )
    marks = points(config.probe)
    found = {0: held_out.bits_per_byte(chunks)} if 0 in marks else {}
    loss = None
    with closing(loop.run(chunks, plan, config.train, new, data)) as steps:
        for made in steps:
            if not made.result.is_finite:
                name = StrategyChoice.of_config(config.resize).name
                bar.advance(total(plan) - made.step + 1, f"{name}: the loss is not finite")
                break
            loss = per_unit(made.result.nats / math.log(2), made.result.bytes)
            if made.step in marks:
                made.trainer.gather()
                found[made.step] = held_out.bits_per_byte(chunks)
            bar.advance(1, f"{StrategyChoice.of_config(config.resize).name}, seed {config.resize.seed}")
    return {"bits_per_byte": {str(at): found.get(at) for at in marks}, "training_loss": loss}


def _lines(runs: Iterable[dict[str, Any]]) -> str:
    return "".join(json.dumps(run) + "\n" for run in runs)


def _append(path: Path, run: dict[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as stream:
        stream.write(_lines([run]))


def _read(path: Path) -> dict[tuple[str, int], dict[str, Any]]:
    """Return the finished runs by (strategy, seed); an incomplete last line is skipped."""
    if not path.is_file():
        return {}
    text = path.read_text(encoding="utf-8")
    runs = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
    return {(run["strategy"], run["seed"]): run for run in runs}
