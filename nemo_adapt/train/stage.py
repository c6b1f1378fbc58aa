"""The ``train`` stage: resize in memory or resume, then train phase by phase to the end of the budget."""

from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch.distributed as dist

from nemo_adapt import devices
from nemo_adapt.checkpoint.contents import damaged_contents
from nemo_adapt.checkpoint.folders import CHECKPOINTS, step_of
from nemo_adapt.checkpoint.reader import Checkpoint
from nemo_adapt.collectives import all_gather, first_rank_does, limit_waiting, timeout_explained
from nemo_adapt.config import Config, PhaseConfig
from nemo_adapt.config.layout import beyond_trained
from nemo_adapt.config.phases import phases, total, trained
from nemo_adapt.console.progress import say
from nemo_adapt.corpora.mixture import held_out_texts
from nemo_adapt.files import file_hash, write_json
from nemo_adapt.hf_model.model_config import read_shape
from nemo_adapt.model.build import DTYPES
from nemo_adapt.model.flops import flops_per_token
from nemo_adapt.resize.adapted import adapted_shape, build_adapted, load_adapted
from nemo_adapt.resize.strategy_inputs import AUXILIARY
from nemo_adapt.run.inputs import Inputs, of_group
from nemo_adapt.strategy_choice import with_choice
from nemo_adapt.tokens.token_map import TokenMap
from nemo_adapt.train import loop, state
from nemo_adapt.train.attempts import count_start
from nemo_adapt.train.batches import BatchLayout
from nemo_adapt.train.between_steps import SAVING, BetweenSteps
from nemo_adapt.train.checkpoint_folder import check_best, clean_up, drop_scores, newest, reject
from nemo_adapt.train.checkpoints import Saver
from nemo_adapt.train.fence import Fence
from nemo_adapt.train.held_out import TEXTS, HeldOut, note_texts, window_of
from nemo_adapt.train.loss_rise import LEVEL
from nemo_adapt.train.metrics import UNRECORDED, UNSCORED, Metrics, MetricsSettings, memory_mib
from nemo_adapt.train.new_rows import RowRange
from nemo_adapt.train.prepare import (
    bytes_per_token,
    line_on_passes,
    line_on_rounding,
    new_row_range,
    passes,
    start_layout,
    training_data,
)
from nemo_adapt.train.signals import Signals
from nemo_adapt.train.suspects import write_suspects
from nemo_adapt.train.trace import check_trace, traced
from nemo_adapt.training_files import SUMMARY, TRACES


@dataclass(frozen=True)
class _Plan:
    """What is trained, on what, and where the results go."""

    config: Config
    """The run's, with the strategies that the probe has chosen."""
    inputs: Inputs
    out: Path
    phases: list[PhaseConfig]
    steps: int
    new: RowRange
    """The new rows of both tables."""


@dataclass(frozen=True)
class _Begun:
    """A training that has begun, or goes on, on this rank."""

    layout: BatchLayout
    fence: Fence
    chunks: list[Any]
    """The model, as in ``Trainer``."""
    progress: dict[str, Any]
    saved: Path | None
    """The checkpoint from which it goes on."""
    saver: Saver
    passes: dict[str, float]
    """How often each text set is read."""


def build(config: Config, inputs: Inputs, out: Path) -> None:
    """Train into ``out``: ``checkpoints/iter_*``, ``metrics.jsonl``, ``tensorboard/``, ``summary.json``.

    Runs on every rank. Resumes from the newest intact checkpoint in ``out`` if there is one. Inputs: the base model
    folder, its converted checkpoint, the tokenizer, and the data sets. On USR1 or TERM it saves and exits with
    ``ranks.MORE_TO_DO``.
    """
    with Signals() as signals:
        plan = _plan(config, inputs, out)
        begun = _begin(plan)
        try:
            _train(plan, begun, signals)
        except Exception as error:
            if dist.get_rank() == 0:
                begun.fence.record_failure(error)
            raise
    if dist.get_rank() == 0:
        _write_summary(plan, begun)


def _plan(config: Config, inputs: Inputs, out: Path) -> _Plan:
    config = with_choice(config, inputs["probe"][0] if "probe" in inputs else None)
    chosen = phases(config, bytes_per_token(config, inputs))
    plan = _Plan(config, inputs, out, chosen, total(chosen), new_row_range(inputs["tokenizer"][0], chosen))
    check_trace(config.train.trace, plan.steps)
    return plan


def _begin(plan: _Plan) -> _Begun:
    """Start the ranks, claim the folder, and make or load the model."""
    config, train, checkpoints = plan.config, plan.config.train, plan.out / CHECKPOINTS
    layout = start_layout(config)
    fence, chosen_by = Fence.claim(plan.out), _chosen_by(config, plan.inputs["model"][0])
    first_rank_does(clean_up, checkpoints, fence)
    read = passes(config, plan.inputs, plan.steps)
    first_rank_does(say, line_on_passes(read))
    chunks, progress, saved = _start(plan)
    is_done = progress["step"] == plan.steps and UNSCORED not in progress
    first_rank_does(check_best if is_done else drop_scores, checkpoints, chosen_by)
    saver = Saver(checkpoints, fence, train.keep, train.keep_every, not train.async_save, chosen_by)
    return _Begun(layout, fence, chunks, progress, saved, saver, read)


def _train(plan: _Plan, begun: _Begun, signals: Signals) -> None:
    """Train to the last step, and save, score and record on the way."""
    config, train, out, done = plan.config, plan.config.train, plan.out, begun.progress["step"]
    data = training_data(config, plan.inputs, begun.layout, train, plan.steps, out / "cache")
    held_out = _held_out(config, plan.inputs, begun.progress)
    restore = partial(state.load_optimizer, begun.saved) if begun.saved else None
    settings = _metrics_settings(plan, begun.fence)
    with (
        Metrics(out, begun.progress, settings, quiet=dist.get_rank() != 0) as metrics,
        closing(loop.run(begun.chunks, plan.phases, train, plan.new, data, done, restore)) as steps_made,
        closing(traced(steps_made, train.trace, done, out / TRACES)) as training,
        timeout_explained(),
    ):
        between = BetweenSteps(
            config=config,
            steps=plan.steps,
            chunks=begun.chunks,
            layout=begun.layout,
            saver=begun.saver,
            metrics=metrics,
            held_out=held_out,
            signals=signals,
            write_suspects=partial(
                write_suspects, data.samples, plan.inputs["tokenizer"][0], begun.fence, train.global_batch
            ),
        )
        between.begin()
        for number, completed in enumerate(training):
            if not number:  # all ranks are prepared, and have made one step
                limit_waiting(train.max_wait_minutes)
            between.after(completed)
        between.finish()


def _write_summary(plan: _Plan, begun: _Begun) -> None:
    """Write ``summary.json``: the totals of the training and the settings that explain them."""
    resize, progress = plan.config.resize, begun.progress
    rows = {"input": resize.input, "output": resize.output}
    totals = {name: value for name, value in progress.items() if name not in (UNRECORDED, LEVEL, TEXTS)}
    facts: dict[str, Any] = {"tokens_per_second": progress["tokens"] / progress["seconds"], "resize": rows}
    facts |= {"ranks": dist.get_world_size(), "device": devices.best_device().type, "memory_mib": memory_mib()}
    facts |= {"phases": [asdict(phase) for phase in plan.phases], "passes": begun.passes}
    write_json(plan.out / SUMMARY, {"steps": plan.steps, **totals, **facts})


def _chosen_by(config: Config, model: Path) -> dict[str, Any] | None:
    """Return what identifies the text that the best checkpoint is chosen by; ``None`` if no best one is kept. A
    collective."""
    train = config.train
    if not train.keep_best:
        return None
    digest = first_rank_does(lambda: file_hash(held_out_texts(config)[config.evaluate.target]))
    return {"text": digest, "bytes": train.score_bytes, "context": window_of(config, model)}


def _start(plan: _Plan) -> tuple[list[Any], dict[str, Any], Path | None]:
    """Return the model (resized, or from the newest checkpoint), its progress, and the checkpoint if there is one."""
    config, inputs = plan.config, plan.inputs
    model_folder, tokenizer = inputs["model"][0], inputs["tokenizer"][0]
    saved = _newest_intact(plan.out / CHECKPOINTS)
    done = step_of(saved) if saved else 0
    missing = f"a checkpoint after step {done}"
    if done < plan.steps:
        first_rank_does(count_start, plan.out, done, config.train.attempts, missing, f"save more often {SAVING}")
    if saved:
        chunks = build_adapted(config, adapted_shape(model_folder, TokenMap.load(tokenizer)))
        progress = state.load_model(saved, chunks)
        if dist.get_rank() == 0:
            say(f"training goes on from {saved.name}")
        return chunks, progress, saved
    first_rank_does(_say_remarks, config, model_folder, inputs["checkpoint"][0])
    chunks, _ = load_adapted(config, model_folder, inputs["checkpoint"][0], tokenizer, of_group(inputs, AUXILIARY))
    return chunks, {"step": 0, "phase": 1, "tokens": 0, "bytes": 0, "seconds": 0.0}, None


def _say_remarks(config: Config, model_folder: Path, checkpoint: Path) -> None:
    """Say what the base is not trained for, and what it loses as it is loaded."""
    beyond = beyond_trained(read_shape(model_folder)[1], config.train.seq_length)
    if beyond:
        say(f"samples have {beyond}: positions that it has not seen")
    rounding = line_on_rounding(Checkpoint(checkpoint).dtypes.values(), config.train.precision)
    if rounding:
        say(rounding)


def _newest_intact(folder: Path) -> Path | None:
    """Return the newest checkpoint, if there is one, of which each rank has found its share to be what was written. A
    collective."""
    while saved := first_rank_does(newest, folder):
        wrong = "; ".join(filter(None, all_gather(damaged_contents(saved, dist.get_rank(), dist.get_world_size()))))
        if not wrong:
            break
        first_rank_does(reject, saved, wrong)
    return saved


def _metrics_settings(plan: _Plan, fence: Fence) -> MetricsSettings:
    train, new = plan.config.train, plan.new
    shape = adapted_shape(plan.inputs["model"][0], TokenMap.load(plan.inputs["tokenizer"][0]))
    rate = devices.matmul_rate(DTYPES[train.precision]) if devices.on_gpu() else 0.0
    tokens = train.global_batch * train.seq_length
    share = (new.stop - new.first) / shape.vocab
    flops = [tokens * flops_per_token(shape, train.seq_length, trained(phase), share) for phase in plan.phases]
    return MetricsSettings(
        steps=plan.steps,
        every=train.log_every,
        tokens=tokens,
        flops=flops,
        ranks=dist.get_world_size(),
        matmul_rate=rate,
        check=fence.check,
        wandb=train.wandb,
        config=asdict(plan.config),
    )


def _held_out(config: Config, inputs: Inputs, progress: dict[str, Any]) -> dict[str, HeldOut]:
    """Load the texts that are scored during training, by language."""
    train, tokenizer, model = config.train, inputs["tokenizer"][0], inputs["model"][0]
    texts = held_out_texts(config) if train.score_every else {}
    note_texts(progress, texts)
    return {name: HeldOut.of(config, file, tokenizer, train.score_bytes, model) for name, file in texts.items()}
