"""The order of the stages, defined only in this file."""

import contextlib
from collections.abc import Iterable
from dataclasses import replace
from functools import partial

from nemo_adapt.config import Config
from nemo_adapt.console.progress import say
from nemo_adapt.corpora.mixture import text_sets
from nemo_adapt.errors import UserError
from nemo_adapt.machine import ranks
from nemo_adapt.run import preflight, reads, store_broadcast
from nemo_adapt.run.inputs import HashOf, input_hash
from nemo_adapt.run.manifest import read_manifest
from nemo_adapt.run.restart import Restart
from nemo_adapt.run.run_folder import RunFolder, save_config
from nemo_adapt.run.steps import Step, build_as_rank, change_of, run_step
from nemo_adapt.strategy_choice import PROBED, takes_share

TEXT = "data.text_field"
STRATEGIES = ("resize.input", "resize.output")
ROW_SETTINGS = ("resize.seed", "resize.omp_pieces", "resize.wechsel_neighbours", "resize.wechsel_temperature")
ROWS = (*STRATEGIES, *ROW_SETTINGS)
VECTORS = ("auxiliary", TEXT)
SAMPLED = {"auxiliary.sample_documents": ("auxiliary.sample_documents", "auxiliary.seed")}
SHARES = ("data.replay_share", "data.sets.*.share", "data.shares_in")
LEARNED = ("resize.learned_share", "resize.learned_lr")
TRAINED = (*ROWS, *LEARNED, "train", *SHARES)
PROBE = (*ROW_SETTINGS, *LEARNED, "train", *SHARES, "probe", "evaluate.target", "evaluate.context", TEXT)
BEST = {
    "train.keep_best": ("train.score_every", "train.score_bytes", "evaluate.target", "evaluate.context", TEXT),
}
"""Switch -> keys that determine which checkpoint is the best one."""
SCORED = ("evaluate", "train.seq_length", TEXT)
PROBE_GROWS = ("probe.strategies", "probe.seeds")

STEPS = (
    Step("tokenizer", "nemo_adapt.tokenizer.stage", reads.tokenizer, "tokenizer", ("tokenizer", TEXT)),
    Step(  # plus one for each other set
        "data",
        "nemo_adapt.data.stage",
        reads.target,
        "data/target",
        (TEXT,),
        restart=Restart(keeps_partial=True),
        precheck="nemo_adapt.data.check",
    ),
    Step("auxiliary", "nemo_adapt.auxiliary.stage", reads.piece_bytes, "auxiliary/piece_bytes"),
    Step("auxiliary", "nemo_adapt.auxiliary.stage", reads.overlaps, "auxiliary/overlaps", (TEXT,), SAMPLED),
    Step("auxiliary", "nemo_adapt.auxiliary.stage", reads.vectors, "auxiliary/vectors", VECTORS, SAMPLED),
    Step("auxiliary", "nemo_adapt.auxiliary.stage", reads.bilingual, "auxiliary/bilingual", VECTORS, SAMPLED),
    Step("convert", "nemo_adapt.convert", reads.convert, "convert", ("convert",), restart=Restart(keeps_partial=True)),
    Step(
        "probe",
        "nemo_adapt.probe.stage",
        reads.probe,
        "probe",
        PROBE,
        on_ranks=True,
        check_inputs=preflight.check_converted,
        restart=Restart(resumable=True, may_change=PROBE_GROWS, optional=("auxiliary.",)),
    ),
    Step(
        "resize",
        "nemo_adapt.resize.stage",
        reads.resize,
        "resize",
        (*ROWS, "resize.padded_vocab_multiple", "train.precision", "parallel"),
        on_ranks=True,
        check_inputs=preflight.check_converted,
    ),
    Step(
        "train",
        "nemo_adapt.train.stage",
        reads.train,
        "train",
        TRAINED,
        BEST,
        on_ranks=True,
        check_inputs=preflight.check_converted,
        restart=Restart(resumable=True, fenced=True, may_change=tuple(BEST)),
    ),
    Step(
        "export",
        "nemo_adapt.export",
        reads.export,
        "export",
        ("export",),
        check_inputs=preflight.check_trained,
        restart=Restart(keeps_partial=True),
    ),
    Step(
        "evaluate",
        "nemo_adapt.evaluate.stage",
        reads.evaluate,
        "evaluate",
        SCORED,
        uses_gpu=True,
        precheck="nemo_adapt.evaluate.check",
    ),
)

BEFORE = {"probe": ("tokenizer", "data", "auxiliary", "convert")}
"""Command -> stages that it runs before its own, so that it works in a new run folder."""


def steps_of(config: Config, probes: bool = False) -> list[Step]:
    """Return the steps of a configuration's run: ``data`` for each text set, and only the auxiliary data that the
    strategies need (``probes``: those of the probe). A training may get further phases, unless that lengthens another.
    """
    wanted = {f"auxiliary/{kind}" for kind in reads.needs(config, probes)}
    found: list[Step] = []
    for step in STEPS:
        if step.name == "data":
            found += [
                replace(step, reads=partial(reads.text_set, name), result=f"data/{name}") for name in text_sets(config)
            ]
        elif step.name == "train" and not takes_share(config.resize):
            found.append(replace(step, restart=replace(step.restart, may_grow=("train.phases",))))
        elif step.name != "auxiliary" or step.result in wanted:
            found.append(step)
    return found


def names() -> list[str]:
    """Return the names of the stages, in order."""
    return list(dict.fromkeys(step.name for step in STEPS))


def run_all(config: Config) -> None:
    """Run all stages in order; finished ones are skipped. ``resize`` is left to ``train``, which does it in memory.

    ``probe`` is left out unless ``resize.input=probed`` needs its choice.
    """
    _run(config, run_steps(config))


def run_steps(config: Config) -> list[Step]:
    """Return the steps that ``run_all`` runs."""
    left_out = {"resize"} if config.resize.input == PROBED else {"resize", "probe"}
    return [step for step in steps_of(config) if step.name not in left_out]


def change(config: Config, hash_of: HashOf) -> str:
    """Return why ``run_all`` would not skip all stages: the first change, or the error that it would raise; empty if it
    would skip all. ``hash_of``: for many runs, a version with a cache."""
    try:
        return next(filter(None, (change_of(config, step, hash_of) for step in run_steps(config))), "")
    except UserError as error:
        return str(error)


def run_stage(config: Config, name: str) -> None:
    """Run one stage by name (for ``data`` and ``auxiliary``, all parts); before ``probe``, also those it needs."""
    wanted = {name, *BEFORE.get(name, ())}
    steps = [step for step in steps_of(config, probes=name == "probe") if step.name in wanted]
    if not steps:
        say(f"[{name}] nothing to do: the strategies need none of it")
    if ranks.is_first():
        _say_changed(config, steps)
    _run(config, steps)


def _say_changed(config: Config, steps: list[Step]) -> None:
    """Print a line for each result that ``steps`` read although, by the configuration, it would be made anew."""
    run, own = RunFolder.of(config), {step.result for step in steps}
    read = {path for step in steps for paths in step.reads(config, run).values() for path in paths}
    for step in steps_of(config):
        if step.result in own or run[step.result] not in read or not read_manifest(run[step.result]):
            continue
        with contextlib.suppress(UserError):  # its text may no longer be there
            if change := change_of(config, step, input_hash):
                anew = "choose another run.name" if step.restart.resumable else f"run {step.name}"
                say(f"[{step.title}] used as it is, though made with another {change}: {anew} to make it anew")


def run_stages(config: Config, stages: Iterable[str]) -> None:
    """Run those steps of ``run_all`` that belong to ``stages``."""
    _run(config, [step for step in run_steps(config) if step.name in stages])


def run_up_to(config: Config, name: str) -> None:
    """Run a stage and all stages before it; ``probe`` is left out unless its choice is needed."""
    last, left_out = names().index(name), set() if config.resize.input == PROBED else {"probe"}
    _run(config, [step for step in steps_of(config) if names().index(step.name) <= last and step.name not in left_out])


def run_as_rank(config: Config, name: str) -> None:
    """Run this rank's part of a stage that runs on ranks."""
    for step in steps_of(config):
        if step.name == name:
            build_as_rank(config, step)


def _run(config: Config, steps: list[Step]) -> None:
    store_broadcast.first_rank_alone(lambda: preflight.check(config, steps, of_run=run_steps(config)))
    made = {RunFolder.of(config)[step.result]: step.name for step in (*STEPS, *steps_of(config))}
    for step in steps:
        run_step(config, step, made)
    save_config(RunFolder.of(config), config)
    store_broadcast.leave()
