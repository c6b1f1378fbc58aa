"""What ranks do in tests of the model: load, save, compute logits. Each returns plain values."""

from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from helpers.folders import Folders
from megatron.core import dist_checkpointing, parallel_state

from nemo_adapt.config import Config
from nemo_adapt.model.build import start_parallel
from nemo_adapt.resize.adapted import adapted_shape, build_adapted, load_adapted
from nemo_adapt.token_map import TokenMap


def load_chunks(config: Config, folders: Folders) -> list[Any]:
    """The adapted model on this rank."""
    start_parallel(config.parallel, config.train.seed)
    return load_adapted(config, folders.model, folders.checkpoint, folders.tokenizer, folders.auxiliary)[0]


def load(config: Config, folders: Folders) -> Any:
    """The adapted model on this rank, which is one GPTModel."""
    (model,) = load_chunks(config, folders)
    return model


def save(rank: int, config: Config, folders: Folders, out: Path) -> None:
    """Load, and save what was loaded as a checkpoint."""
    dist_checkpointing.save({"model": load(config, folders).sharded_state_dict()}, str(out))


def logits(rank: int, config: Config, folders: Folders, ids: torch.Tensor) -> torch.Tensor | None:
    """Logits [batch, seq, padded vocab] of ``ids`` [batch, seq], gathered over TP; None before the last stage."""
    return forward(load(config, folders).eval(), ids)


def forward(
    model: Any, ids: torch.Tensor, positions: torch.Tensor | None = None, mask: torch.Tensor | None = None
) -> torch.Tensor | None:
    positions = torch.arange(ids.shape[1]).expand_as(ids) if positions is None else positions
    with torch.no_grad():
        if not parallel_state.is_pipeline_first_stage():
            hidden = torch.empty(ids.shape[1], ids.shape[0], model.config.hidden_size)
            dist.recv(hidden, parallel_state.get_pipeline_model_parallel_prev_rank())
            model.set_input_tensor(hidden)
        out = model(ids, positions, mask)
        if not parallel_state.is_pipeline_last_stage():
            dist.send(out.contiguous(), parallel_state.get_pipeline_model_parallel_next_rank())
            return None
    group = parallel_state.get_tensor_model_parallel_group()
    shards = [torch.empty_like(out) for _ in range(group.size())]
    dist.all_gather(shards, out.contiguous(), group=group)
    return torch.cat(shards, dim=-1)


def tables(rank: int, config: Config, folders: Folders) -> dict[str, torch.Tensor]:
    """This rank's shards of the input and output tables."""
    model = load(config, folders)
    found = {}
    if model.pre_process:
        found["input"] = model.embedding.word_embeddings.weight.detach().clone()
    if model.post_process:
        weight = model.output_layer.weight
        found["output"] = (found["input"] if weight is None else weight).detach().clone()
    return found


def trained_logits(
    rank: int, config: Config, folders: Folders, checkpoint: Path, ids: torch.Tensor
) -> torch.Tensor | None:
    """Logits like ``logits``, of a training checkpoint."""
    start_parallel(config.parallel, config.train.seed)
    (model,) = build_adapted(config, adapted_shape(folders.model, TokenMap.load(folders.tokenizer)))
    model.eval()
    state = dist_checkpointing.load({"model": model.sharded_state_dict()}, str(checkpoint))
    model.load_state_dict(state["model"])
    return forward(model, ids)
