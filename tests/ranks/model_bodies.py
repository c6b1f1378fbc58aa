"""Code of the ranks in tests of the model: load, save, compute logits."""

from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from helpers.folders import Folders
from megatron.core import dist_checkpointing, parallel_state

from nemo_adapt.config import Config
from nemo_adapt.model.build import start_parallel
from nemo_adapt.model.context import own_part
from nemo_adapt.model.weights import load_weights
from nemo_adapt.resize.adapted import adapted_shape, build_adapted, load_adapted
from nemo_adapt.tokens.token_map import TokenMap
from nemo_adapt.train.names import named_parameters


def load_chunks(config: Config, folders: Folders) -> list[Any]:
    """Load the adapted model's chunks on this rank."""
    start_parallel(config.parallel, config.train.seed)
    return load_adapted(config, folders.model, folders.checkpoint, folders.tokenizer, folders.auxiliary)[0]


def load(config: Config, folders: Folders) -> Any:
    """Load the adapted model on this rank, which must be a single GPTModel."""
    (model,) = load_chunks(config, folders)
    return model


def parts(rank: int, config: Config, folders: Folders) -> set[tuple[str, str, str]]:
    """Return the class names of the layers' MLPs, attentions and norms, one tuple per distinct kind of layer."""
    layers = load(config, folders).decoder.layers
    of_each = ((layer.mlp, layer.self_attention.core_attention, layer.pre_mlp_layernorm) for layer in layers)
    return {tuple(type(part).__name__ for part in of_one) for of_one in of_each}


def names(rank: int, config: Config, folders: Folders) -> set[str]:
    """Return the names of the parameters in the whole model."""
    return {name for name, _ in named_parameters(load(config, folders))}


def save(rank: int, config: Config, folders: Folders, out: Path) -> None:
    """Load the model and save it as a checkpoint."""
    dist_checkpointing.save({"model": load(config, folders).sharded_state_dict()}, str(out))


def logits(rank: int, config: Config, folders: Folders, ids: torch.Tensor) -> torch.Tensor | None:
    """Return logits [batch, seq, padded vocab] of ``ids`` [batch, seq], gathered over TP; ``None`` before the last PP
    stage."""
    return forward(load(config, folders).eval(), ids)


def forward(
    model: Any, ids: torch.Tensor, positions: torch.Tensor | None = None, documents: torch.Tensor | None = None
) -> torch.Tensor | None:
    """Return logits of ``model`` like ``logits``, gathered over CP too."""
    length, shared = ids.shape[1], parallel_state.get_context_parallel_world_size()
    if shared > 1 and documents is None:  # causal, so padding at the end changes nothing
        ids = torch.nn.functional.pad(ids, (0, -length % (2 * shared)))
    positions = torch.arange(ids.shape[1], device=ids.device)[None] if positions is None else positions
    ids, positions = own_part(ids), own_part(positions)
    with torch.no_grad():
        if not parallel_state.is_pipeline_first_stage():
            hidden = torch.empty(ids.shape[1], ids.shape[0], model.config.hidden_size, device=ids.device)
            dist.recv(hidden, parallel_state.get_pipeline_model_parallel_prev_rank())
            model.set_input_tensor(hidden)
        out = model(ids, positions, documents)
        if not parallel_state.is_pipeline_last_stage():
            dist.send(out.contiguous(), parallel_state.get_pipeline_model_parallel_next_rank())
            return None
    shards = torch.cat(of_all(out, parallel_state.get_tensor_model_parallel_group()), dim=-1)
    if shared == 1:
        return shards
    whole = torch.empty(len(ids), ids.shape[1] * shared, shards.shape[-1], device=ids.device)
    places = torch.arange(whole.shape[1], device=ids.device).view(1, -1)
    group = parallel_state.get_context_parallel_group()
    for logits, place in zip(of_all(shards, group), of_all(own_part(places), group), strict=True):
        whole[:, place[0]] = logits
    return whole[:, :length]


def of_all(mine: torch.Tensor, group: Any) -> list[torch.Tensor]:
    """Return the tensors of all ranks of a group, in rank order."""
    found = [torch.empty_like(mine) for _ in range(group.size())]
    dist.all_gather(found, mine.contiguous(), group=group)
    return found


def tables(rank: int, config: Config, folders: Folders) -> dict[str, torch.Tensor]:
    """Return this rank's shards of the input and output tables."""
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
    """Return logits like ``logits``, of a training checkpoint."""
    start_parallel(config.parallel, config.train.seed)
    (model,) = build_adapted(config, adapted_shape(folders.model, TokenMap.load(folders.tokenizer)))
    model.eval()
    load_weights([model], checkpoint)
    return forward(model, ids)
