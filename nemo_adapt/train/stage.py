"""The ``train`` stage: resize in memory or resume, then train phase by phase to the end of the budget."""

from contextlib import closing
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch.distributed as dist

from nemo_adapt import devices
from nemo_adapt.checkpoint.contents import damaged_contents
from nemo_adapt.checkpoint.folders import CHECKPOINTS, step_of
from nemo_adapt.choice import with_choice
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
from nemo_adapt.run.artifact import Inputs, of_group
from nemo_adapt.tokens.token_map import TokenMap
from nemo_adapt.train import loop, state
from nemo_adapt.train.attempts import count_start
from nemo_adapt.train.between_steps import SAVING, BetweenSteps
from nemo_adapt.train.checkpoint_folder import check_best, clean_up, drop_scores, newest, reject
from nemo_adapt.train.checkpoints import Saver
from nemo_adapt.train.collectives import all_gather, first_rank_does, limit_waiting, timeout_explained
from nemo_adapt.train.fence import Fence
from nemo_adapt.train.held_out import HeldOut, window_of
from nemo_adapt.train.loss_rise import LEVEL
from nemo_adapt.train.metrics import UNRECORDED, UNSCORED, Metrics, Watch, memory_mib
from nemo_adapt.train.new_rows import RowRange
from nemo_adapt.train.prepare import bytes_per_token, line_on_passes, new_row_range, passes, start_layout, training_data
from nemo_adapt.train.signals import Signals
from nemo_adapt.train.trace import check_trace, traced
from nemo_adapt.training_files import SUMMARY, TRACES


def build(config: Config, inputs: Inputs, out: Path) -> None:
    """Train into ``out``: ``checkpoints/iter_*``, ``metrics.jsonl``, ``tensorboard/``, ``summary.json``.

    Runs on every rank. Resumes from the newest intact checkpoint in ``out`` if there is one. Inputs: the base model
    folder, its converted checkpoint, the tokenizer, and the data sets. On USR1 or TERM it saves and exits with
    ``ranks.MORE_TO_DO``.
    """
    with Signals() as signals:
        config = with_choice(config, inputs["probe"][0] if "probe" in inputs else None)
        train, plan = config.train, phases(config, bytes_per_token(config, inputs))
        steps, new = total(plan), new_row_range(inputs["tokenizer"][0], plan)
        check_trace(train.trace, steps)
        layout = start_layout(config)
        fence, chosen_by = Fence.claim(out), _chosen_by(config, inputs["model"][0])
        first_rank_does(clean_up, out / CHECKPOINTS, fence)
        read = passes(config, inputs, steps)
        first_rank_does(say, line_on_passes(read))
        chunks, progress, saved = _start(config, inputs, out, steps)
        is_done = progress["step"] == steps and UNSCORED not in progress
        first_rank_does(check_best if is_done else drop_scores, out / CHECKPOINTS, chosen_by)
        data = training_data(config, inputs, layout, train, steps, out / "cache")
        held_out = _held_out(config, inputs)
        saver = Saver(out / CHECKPOINTS, fence, train.keep, train.keep_every, not train.async_save, chosen_by)
        restore = partial(state.load_optimizer, saved) if saved else None
        with (
            Metrics(out, progress, _watch(config, inputs, plan, new, fence), quiet=dist.get_rank() != 0) as metrics,
            closing(loop.run(chunks, plan, train, new, data, progress["step"], restore)) as steps_made,
            closing(traced(steps_made, train.trace, progress["step"], out / TRACES)) as training,
            timeout_explained(),
        ):
            between = BetweenSteps(
                config=config,
                steps=steps,
                chunks=chunks,
                layout=layout,
                saver=saver,
                metrics=metrics,
                held_out=held_out,
                signals=signals,
            )
            between.resume()
            for number, done in enumerate(training):
                if not number:  # all ranks are prepared, and have made one step
                    limit_waiting(train.max_wait_minutes)
                between.after(done)
            between.finish()
    if dist.get_rank() == 0:
        _write_summary(config, plan, progress, read, out)


def _write_summary(
    config: Config, plan: list[PhaseConfig], progress: dict[str, Any], read: dict[str, float], out: Path
) -> None:
    """Write ``summary.json``: the totals of the training and the settings that explain them."""
    rows = {"input": config.resize.input, "output": config.resize.output}
    totals = {name: value for name, value in progress.items() if name not in (UNRECORDED, LEVEL)}
    facts: dict[str, Any] = {"tokens_per_second": progress["tokens"] / progress["seconds"], "resize": rows}
    facts |= {"ranks": dist.get_world_size(), "device": devices.best_device().type, "memory_mib": memory_mib()}
    facts |= {"phases": [asdict(phase) for phase in plan], "passes": read}
    write_json(out / SUMMARY, {"steps": total(plan), **totals, **facts})


def _chosen_by(config: Config, model: Path) -> dict[str, Any] | None:
    """Return what identifies the text that the best checkpoint is chosen by; ``None`` if no best one is kept. A
    collective."""
    train = config.train
    if not train.keep_best:
        return None
    digest = first_rank_does(lambda: file_hash(held_out_texts(config)[config.evaluate.target]))
    return {"text": digest, "bytes": train.score_bytes, "context": window_of(config, model)}


def _start(config: Config, inputs: Inputs, out: Path, steps: int) -> tuple[list[Any], dict[str, Any], Path | None]:
    """Return the model (resized, or from the newest checkpoint), its progress, and the checkpoint if there is one."""
    model_folder, tokenizer = inputs["model"][0], inputs["tokenizer"][0]
    saved = _newest_intact(out / CHECKPOINTS)
    done = step_of(saved) if saved else 0
    missing = f"a checkpoint after step {done}"
    if done < steps:
        first_rank_does(count_start, out, done, config.train.attempts, missing, f"save more often {SAVING}")
    if saved:
        chunks = build_adapted(config, adapted_shape(model_folder, TokenMap.load(tokenizer)))
        progress = state.load_model(saved, chunks)
        if dist.get_rank() == 0:
            say(f"training goes on from {saved.name}")
        return chunks, progress, saved
    beyond = beyond_trained(read_shape(model_folder)[1], config.train.seq_length)
    if beyond and dist.get_rank() == 0:
        say(f"samples have {beyond}: positions that it has not seen")
    chunks, _ = load_adapted(config, model_folder, inputs["checkpoint"][0], tokenizer, of_group(inputs, AUXILIARY))
    return chunks, {"step": 0, "phase": 1, "tokens": 0, "bytes": 0, "seconds": 0.0}, None


def _newest_intact(folder: Path) -> Path | None:
    """Return the newest checkpoint, if there is one, of which each rank has found its share to be what was written. A
    collective."""
    while saved := first_rank_does(newest, folder):
        wrong = "; ".join(filter(None, all_gather(damaged_contents(saved, dist.get_rank(), dist.get_world_size()))))
        if not wrong:
            break
        first_rank_does(reject, saved, wrong)
    return saved


def _watch(config: Config, inputs: Inputs, plan: list[PhaseConfig], new: RowRange, fence: Fence) -> Watch:
    train = config.train
    shape = adapted_shape(inputs["model"][0], TokenMap.load(inputs["tokenizer"][0]))
    rate = devices.matmul_rate(DTYPES[train.precision]) if devices.on_gpu() else 0.0
    tokens = train.global_batch * train.seq_length
    share = (new.stop - new.first) / shape.vocab
    flops = [tokens * flops_per_token(shape, train.seq_length, trained(phase), share) for phase in plan]
    return Watch(
        steps=total(plan),
        every=train.log_every,
        tokens=tokens,
        flops=flops,
        ranks=dist.get_world_size(),
        matmul_rate=rate,
        check=fence.check,
        wandb=train.wandb,
        settings=asdict(config),
    )


def _held_out(config: Config, inputs: Inputs) -> dict[str, HeldOut]:
    """Load the texts that are scored during training, by language."""
    train, tokenizer, model = config.train, inputs["tokenizer"][0], inputs["model"][0]
    texts = held_out_texts(config) if train.score_every else {}
    return {name: HeldOut.of(config, file, tokenizer, train.score_bytes, model) for name, file in texts.items()}
