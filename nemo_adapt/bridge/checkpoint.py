"""A Megatron checkpoint as a folder that Megatron-Bridge opens: ``load_megatron_model``, ``export_ckpt``, ``pretrain``.

    OUT/latest_checkpointed_iteration.txt, latest_train_state.pt    which checkpoint is the newest
    OUT/iter_0000100/    weights, run_config.yaml, train_state.pt, tokenizer/

It holds only weights: Bridge takes it as ``checkpoint.pretrained_checkpoint`` and begins at step 0 with a fresh
optimizer. The layout is that of megatron/bridge/training/checkpointing.py (0.3.1).
"""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import yaml  # type: ignore[import-untyped]

from nemo_adapt.bridge.provider import provider
from nemo_adapt.checkpoint import writer
from nemo_adapt.checkpoint.folders import TRACKER, checkpoint_name
from nemo_adapt.checkpoint.model_tensors import copied_chunks, open_checkpoint
from nemo_adapt.checkpoint.reader import Checkpoint
from nemo_adapt.config.megatron_settings import Settings
from nemo_adapt.families.family import EMBEDDING, Family, Shape
from nemo_adapt.hf_model.model_config import read_shape
from nemo_adapt.hf_model.model_files import copy_tokenizer
from nemo_adapt.machine.workers import cores
from nemo_adapt.tokens.vocab import rows_with

CHUNK_BYTES = 64 << 20
RUN_CONFIG, TRAIN_STATE, TOKENIZER = "run_config.yaml", "train_state.pt", "tokenizer"
EXTRA_STATES = (
    *("self_attention.linear_qkv", "self_attention.core_attention", "self_attention.linear_proj"),
    *("self_attention.q_layernorm", "self_attention.k_layernorm", "mlp.linear_fc1", "mlp.linear_fc2"),
)
"""Modules of a layer for which Transformer Engine saves an extra state (scales of fp8; empty without fp8)."""


@dataclass(frozen=True)
class Source(writer.Source):
    """The checkpoint to copy, and the files to write."""

    weights: Checkpoint
    family: Family
    shape: Shape
    """Shape of the model as written: with the tokenizer's rows."""

    @classmethod
    def of(cls, checkpoint: Path, model: Path, tokenizer: Path) -> "Source":
        """Open the sources; ``UserError`` unless the checkpoint fits ``model`` with the tokenizer's vocabulary."""
        family, shape = read_shape(model)
        shape = replace(shape, vocab=rows_with(shape, tokenizer))
        table = family.entries(shape)
        opened = open_checkpoint(checkpoint, table, shape.layers)
        return cls(opened, writer.files(list(copied_chunks(opened, table, shape.layers, CHUNK_BYTES))), family, shape)


def write(
    checkpoint: Path, model: Path, tokenizer: Path, out: Path, pad_vocab_to: int = 1, final: Path | None = None
) -> dict[str, Any]:
    """Write ``checkpoint``, of a model like ``model`` with the tokenizer's vocabulary, to ``out`` in Bridge's format.

    ``final``: the path that ``out`` gets later, if another, because Bridge's configuration names its tokenizer by an
    absolute path. Tables have a row for each token; Bridge pads them to a multiple of ``pad_vocab_to`` times TP when it
    builds the model. Each process holds one chunk of one tensor at a time. Returns facts for a manifest.
    ``UserError`` for a model that Bridge does not have.
    """
    places = (checkpoint, model, tokenizer)
    source = Source.of(*places)
    settings = provider(source.family, source.shape, source.weights.dtypes[EMBEDDING], pad_vocab_to)
    name = source.weights.folder.name
    step = int(name[5:]) if name.startswith("iter_") and name[5:].isdigit() else 0
    place = out / checkpoint_name(step)
    place.mkdir(exist_ok=True)
    facts = writer.write_files(source, place, cores(), "writing", Source.of, *places)
    writer.finish(place, source.files, _common(step), _extra_states(source.shape.layers))
    _complete(out, place, tokenizer, step, settings, (final or out).absolute())
    return facts


def _common(step: int) -> dict[str, Any]:
    """Return what Bridge stores next to the tensors; it does not load a checkpoint without ``content_metadata``."""
    # Layers are stacked into one tensor (Bridge's _build_sharded_state_dict_metadata).
    content = {"singleton_local_shards": False, "chained_optim_avoid_prefix": True}
    return {"checkpoint_version": 3.0, "iteration": step, "content_metadata": content}


def _extra_states(layers: int) -> dict[str, torch.Tensor]:
    """Return empty extra states of Transformer Engine's modules: if it is installed, Bridge does not load without them.

    The names are those of ``ShardedObject.unique_key`` (megatron/core/dist_checkpointing/mapping.py). A model that has
    no such state does not ask for it.
    """
    places = [(f"decoder.layers.{module}", n, layers) for module in EXTRA_STATES for n in range(layers)]
    places.append(("decoder.final_layernorm", 0, 1))
    return {f"{name}._extra_state/shard_{n}_{of}": torch.empty(0, dtype=torch.uint8) for name, n, of in places}


def _complete(out: Path, place: Path, tokenizer: Path, step: int, settings: Settings, final: Path) -> None:
    """Write the small files: tokenizer, configuration, counts of a training, and which checkpoint is the newest."""
    (place / TOKENIZER).mkdir(exist_ok=True)
    copy_tokenizer(tokenizer, place / TOKENIZER)
    run_config = {
        "model": settings,
        # There is no training state to resume from.
        "checkpoint": {"save_optim": False, "save_rng": False, "fully_parallel_save": True},
        "tokenizer": {
            "_target_": "megatron.bridge.training.tokenizers.config.TokenizerConfig",
            "tokenizer_type": "HuggingFaceTokenizer",
            "tokenizer_model": str(final / place.name / TOKENIZER),
        },
    }
    (place / RUN_CONFIG).write_text(yaml.safe_dump(run_config, sort_keys=False), encoding="utf-8")
    torch.save(_train_state(step), place / TRAIN_STATE)
    shutil.copyfile(place / TRAIN_STATE, out / f"latest_{TRAIN_STATE}")
    (out / TRACKER).write_text(str(step), encoding="utf-8")


def _train_state(step: int) -> dict[str, torch.Tensor]:
    """Return what ``TrainState.state_dict`` of megatron/bridge/training/state.py would return."""
    counts = ("consumed_train_samples", "skipped_train_samples", "consumed_valid_samples")
    return {
        "step": torch.tensor(step, dtype=torch.int32),
        **{name: torch.tensor(0, dtype=torch.int32) for name in counts},
        "floating_point_operations_so_far": torch.tensor(0.0, dtype=torch.float64),
        **{name: torch.tensor(False) for name in ("do_train", "do_valid", "do_test")},
    }
