"""Code of the ranks in tests of Transformer Engine."""

from contextlib import closing
from typing import Any
from unittest import mock

import transformer_engine_torch as kernels
from helpers.folders import Folders
from megatron.core.extensions.transformer_engine import HAVE_TE
from ranks.model_bodies import load_chunks
from ranks.training_bodies import data, new_row_range

from nemo_adapt.config import Config
from nemo_adapt.config.phases import phases, trained
from nemo_adapt.plan import memory
from nemo_adapt.plan.activations import Layer
from nemo_adapt.resize.adapted import adapted_shape
from nemo_adapt.tokens.token_map import TokenMap
from nemo_adapt.train import loop


def is_there(rank: int) -> bool:
    """Return whether Megatron has found Transformer Engine."""
    return HAVE_TE


def used(rank: int, config: Config, folders: Folders, vocab: int) -> dict[str, Any]:
    """Return the classes of a layer's parts and the optimizer's module, and of the first step: the number of weights
    whose gradients were accumulated inside the matrix product, and calls of Transformer Engine's rotary kernel."""
    chunks = load_chunks(config, folders)
    decoder = chunks[0].decoder
    attention, mlp = decoder.layers[0].self_attention, decoder.layers[0].mlp
    parts = {
        "linear_qkv": attention.linear_qkv,
        "core_attention": attention.core_attention,
        "linear_fc2": mlp.linear_fc2,
        "final_layernorm": decoder.final_layernorm,
    }
    steps = loop.run(chunks, phases(config), config.train, new_row_range(folders), data(config, vocab))
    with (
        mock.patch.object(kernels, "fused_rope_forward", side_effect=kernels.fused_rope_forward) as turn,
        closing(steps),
    ):
        adam = next(steps).trainer.optimizer.chained_optimizers[0].optimizer
        added = [getattr(each, "grad_added_to_main_grad", False) for each in chunks[0].parameters()]
        classes = {name: type(part).__name__ for name, part in parts.items()}
        return {**classes, "adam": type(adam).__module__, "added_in_products": sum(added), "turned": turn.call_count}


def dummy_gradients(rank: int, config: Config, folders: Folders, vocab: int) -> tuple[int, float]:
    """Return the bytes of Transformer Engine's dummy gradients after a step, and those that a plan counts."""
    from transformer_engine.pytorch.module import base

    base._dummy_wgrads.clear()
    chunks, plan = load_chunks(config, folders), phases(config)
    with closing(loop.run(chunks, plan, config.train, new_row_range(folders), data(config, vocab))) as steps:
        next(steps)
    shape = adapted_shape(folders.model, TokenMap.load(folders.tokenizer))
    rows = len(chunks[0].output_layer.weight)
    layer = Layer(shape, config.parallel, config.train, on_gpu=True)
    kept = sum(each.nbytes for each in base._dummy_wgrads.values())
    return kept, memory.dummy_gradients(layer, trained(plan[0]), rows)
