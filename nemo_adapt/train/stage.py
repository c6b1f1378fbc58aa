"""The ``train`` stage: resize in memory or resume, then train phase by phase to the end of the budget."""

from contextlib import closing
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from megatron.core import parallel_state

from nemo_adapt import devices, documents, hf_tokenizer, mixture
from nemo_adapt.artifact import Inputs, file_hash, write_json
from nemo_adapt.checkpoint.integrity import CHECKPOINTS, step_of
from nemo_adapt.choice import with_choice
from nemo_adapt.config import Config, PhaseConfig, TrainConfig
from nemo_adapt.errors import UserError
from nemo_adapt.layout import check_batch
from nemo_adapt.mixture import held_out_texts, text_sets
from nemo_adapt.model.build import DTYPES, start_parallel
from nemo_adapt.model.flops import flops_per_token
from nemo_adapt.phases import NEW_ROWS, phases, total, trained
from nemo_adapt.progress import say
from nemo_adapt.resize.adapted import adapted_shape, build_adapted, load_adapted
from nemo_adapt.resize.strategy_inputs import auxiliary_of
from nemo_adapt.token_map import TokenMap
from nemo_adapt.train import loop, state
from nemo_adapt.train.batches import BatchLayout, Boundaries, check_token_file, training_set
from nemo_adapt.train.between_steps import SAVING, BetweenSteps
from nemo_adapt.train.checkpoint_folder import check_best, clean_up, drop_scores, newest
from nemo_adapt.train.checkpoints import Saver
from nemo_adapt.train.collectives import first_rank_does, timeout_explained
from nemo_adapt.train.fence import Fence, count_start
from nemo_adapt.train.file_names import SUMMARY
from nemo_adapt.train.held_out import HeldOut
from nemo_adapt.train.loss_rise import LEVEL
from nemo_adapt.train.metrics import UNRECORDED, Metrics, Watch, check_wandb
from nemo_adapt.train.new_rows import Span
from nemo_adapt.train.signals import Signals


def build(config: Config, inputs: Inputs, out: Path) -> None:
    """Train into ``out``: ``checkpoints/iter_*``, ``metrics.jsonl``, ``tensorboard/``, ``summary.json``.

    Runs on every rank. Resumes from the newest intact checkpoint in ``out`` if there is one. Inputs: the base model
    folder, its converted checkpoint, the tokenizer, and the data sets. On USR1 or TERM it saves and exits with
    ``ranks.MORE_TO_DO``.
    """
    check_wandb(config.train)
    with Signals() as signals:
        config = with_choice(config, inputs)
        train, plan = config.train, phases(config, bytes_per_token(config, inputs))
        steps, new = total(plan), new_span(inputs["tokenizer"][0], plan)
        layout = start_layout(config)
        fence, chosen_by = Fence.claim(out), _chosen_by(config)
        first_rank_does(clean_up, out / CHECKPOINTS, fence)
        chunks, progress, saved = _start(config, inputs, out, steps)
        first_rank_does(drop_scores if progress["step"] < steps else check_best, out / CHECKPOINTS, chosen_by)
        data = training_data(config, inputs, layout, train, steps, out / "cache")
        held_out = _held_out(config, inputs)
        saver = Saver(out / CHECKPOINTS, fence, train.keep, not train.async_save, chosen_by)
        restore = partial(state.load_optimizer, saved) if saved else None
        with (
            Metrics(out, progress, _watch(config, inputs, steps, fence), quiet=dist.get_rank() != 0) as metrics,
            closing(loop.run(chunks, plan, train, new, data, progress["step"], restore)) as training,
            timeout_explained(),
        ):
            between = BetweenSteps(config, steps, chunks, layout, saver, metrics, held_out, signals)
            for number, done in enumerate(training):
                if not number:  # all ranks are prepared, and have made one step
                    devices.limit_waiting(train.max_wait_minutes)
                between.after(done)
            between.finish()
    if dist.get_rank() == 0:
        _write_summary(config, plan, progress, out)


def _write_summary(config: Config, plan: list[PhaseConfig], progress: dict[str, Any], out: Path) -> None:
    """Write ``summary.json``: the totals of the training and the settings that explain them."""
    rows = {"input": config.resize.input, "output": config.resize.output}
    totals = {name: value for name, value in progress.items() if name not in (UNRECORDED, LEVEL)}
    facts: dict[str, Any] = {"tokens_per_second": progress["tokens"] / progress["seconds"], "resize": rows}
    facts |= {"ranks": dist.get_world_size(), "device": devices.best_device().type}
    facts["phases"] = [asdict(phase) for phase in plan]
    write_json(out / SUMMARY, {"steps": total(plan), **totals, **facts})


def start_layout(config: Config) -> BatchLayout:
    """Initialize Megatron's process groups on this rank; return how the batch is divided among them."""
    train = config.train
    dp_size = start_parallel(config.parallel, train.seed)
    check_batch(train, config.parallel, dp_size)  # under a launcher, dp_size follows from the number of ranks
    return BatchLayout(train.global_batch, train.micro_batch, dp_size, parallel_state.get_data_parallel_rank())


def new_span(tokenizer: Path, plan: list[PhaseConfig]) -> Span:
    """Return which table rows are new; ``UserError`` if a phase trains new rows and there are none."""
    token_map = TokenMap.load(tokenizer)
    if not token_map.tokens and any(NEW_ROWS in trained(phase).kinds for phase in plan):
        raise UserError("train.phases: nothing to train in a phase of new_rows, the tokenizer has no new tokens")
    return Span(token_map.source_vocab, token_map.target_vocab)


def bytes_per_token(config: Config, inputs: Inputs) -> float:
    """Return the average bytes of text per token of the mix, as counted when the text was tokenized."""
    return mixture.bytes_per_token(config, _folders(config, inputs))


def _mix(config: Config, inputs: Inputs) -> list[tuple[Path, float]]:
    """Return the data folders, each with its share of the tokens."""
    folders = _folders(config, inputs)
    return [(folders[name], share) for name, share in mixture.token_shares(config, folders).items()]


def _folders(config: Config, inputs: Inputs) -> dict[str, Path]:
    """Return the data folder of each text set."""
    return {name: inputs[f"data.{name}"][0] for name in text_sets(config)}


def training_data(
    config: Config, inputs: Inputs, layout: BatchLayout, train: TrainConfig, steps: int, cache: Path
) -> loop.Data:
    """Return the blend of all text sets for ``steps`` steps, in the order given by ``train.seed``."""
    tokenizer = hf_tokenizer.load(inputs["tokenizer"][0])
    mix = _mix(config, inputs)
    for folder, _ in mix:
        check_token_file(folder)
    samples = training_set(mix, steps * train.global_batch, train, documents.vocabulary_size(tokenizer), cache)
    token_bytes = torch.from_numpy(documents.training_bytes(tokenizer)).to(devices.best_device())
    return loop.Data(samples, layout, token_bytes, Boundaries.of(train, documents.end_id(tokenizer)))


def _chosen_by(config: Config) -> dict[str, Any] | None:
    """Return what identifies the text that the best checkpoint is chosen by; ``None`` if no best one is kept."""
    train = config.train
    if not train.keep_best:
        return None
    text = held_out_texts(config)[config.evaluate.target]
    return {"text": file_hash(text), "bytes": train.score_bytes, "context": config.evaluate.context or train.seq_length}


def _start(config: Config, inputs: Inputs, out: Path, steps: int) -> tuple[list[Any], dict[str, Any], Path | None]:
    """Return the model (resized, or from the newest checkpoint), its progress, and the checkpoint if there is one."""
    model_folder, tokenizer = inputs["model"][0], inputs["tokenizer"][0]
    saved = first_rank_does(newest, out / CHECKPOINTS)
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
    chunks, _ = load_adapted(config, model_folder, inputs["checkpoint"][0], tokenizer, auxiliary_of(inputs))
    return chunks, {"step": 0, "phase": 1, "tokens": 0, "bytes": 0, "seconds": 0.0}, None


def _watch(config: Config, inputs: Inputs, steps: int, fence: Fence) -> Watch:
    train = config.train
    shape = adapted_shape(inputs["model"][0], TokenMap.load(inputs["tokenizer"][0]))
    rate = devices.matmul_rate(DTYPES[train.precision]) if devices.on_gpu() else 0.0
    flops = flops_per_token(shape, train.seq_length)
    tokens = train.global_batch * train.seq_length
    return Watch(steps, train.log_every, tokens, flops, dist.get_world_size(), rate, fence.check, train.wandb)


def _held_out(config: Config, inputs: Inputs) -> dict[str, HeldOut]:
    """Load the texts that are scored during training, by language."""
    train, tokenizer = config.train, inputs["tokenizer"][0]
    texts = held_out_texts(config) if train.score_every else {}
    return {name: HeldOut.of(config, file, tokenizer, train.score_bytes) for name, file in texts.items()}
