"""A GPTModel from a family's ``Shape``, as this rank's part of the chosen layout."""

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from megatron.core import parallel_state
from megatron.core.models.gpt import GPTModel
from megatron.core.models.gpt.gpt_layer_specs import (
    get_gpt_layer_local_spec,
    get_gpt_layer_with_transformer_engine_spec,
)
from megatron.core.transformer import TransformerConfig
from megatron.core.transformer.transformer_block import TransformerBlockSubmodules, get_num_layers_to_build

from nemo_adapt import devices
from nemo_adapt.config import ParallelConfig
from nemo_adapt.errors import UserError
from nemo_adapt.families.family import Shape
from nemo_adapt.model.layers import CoreAttention, Norm

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def start_parallel(parallel: ParallelConfig, seed: int) -> int:
    """Join the process group, lay TP, PP and DP over the ranks, seed them, and return the data-parallel size.

    Raises ``UserError`` when the world size is no multiple of ``tp * pp``.
    """
    devices.prepare_megatron()
    devices.start_ranks()
    world_size = dist.get_world_size()
    if world_size % (parallel.tp * parallel.pp):
        raise UserError(
            f"{world_size} ranks do not divide into parallel.tp={parallel.tp} x parallel.pp={parallel.pp}: "
            "start a multiple of their product"
        )
    parallel_state.destroy_model_parallel()
    parallel_state.initialize_model_parallel(parallel.tp, parallel.pp)
    devices.seed_everything(seed)
    return world_size // (parallel.tp * parallel.pp)


def transformer_config(shape: Shape, parallel: ParallelConfig, precision: str) -> TransformerConfig:
    """Megatron's configuration of the layers for this layout."""
    dtype = DTYPES[precision]
    return TransformerConfig(
        num_layers=shape.layers,
        hidden_size=shape.hidden,
        num_attention_heads=shape.heads,
        num_query_groups=shape.kv_heads,
        kv_channels=shape.head_dim,
        ffn_hidden_size=shape.ffn,
        layernorm_epsilon=shape.norm_epsilon,
        tensor_model_parallel_size=parallel.tp,
        pipeline_model_parallel_size=parallel.pp,
        sequence_parallel=parallel.sequence,
        params_dtype=dtype,
        pipeline_dtype=dtype,
        bf16=precision == "bf16",
        activation_func=F.silu,
        attention_dropout=0.0,
        hidden_dropout=0.0,
        # Every weight is loaded. Megatron still has to go through its initialization: there it marks the weights that
        # are cut over TP, and without the mark they are left out of the gradient norm.
        init_method=_leave,
        output_layer_init_method=_leave,
        embedding_init_method=_leave,
        # The fused kernels below need a GPU and, mostly, Transformer Engine or apex.
        bias_activation_fusion=False,
        bias_dropout_fusion=False,
        masked_softmax_fusion=False,
        apply_rope_fusion=False,
        gradient_accumulation_fusion=False,
        **shape.transformer,
    )


def _leave(weight: torch.Tensor) -> None:
    """An initialization that does nothing."""


def layer_spec(config: TransformerConfig) -> Any:
    """Transformer Engine's layers where it is installed, else Megatron's with our attention and norms."""
    if devices.has_transformer_engine():
        return get_gpt_layer_with_transformer_engine_spec()
    spec = get_gpt_layer_local_spec(normalization=config.normalization)
    spec.submodules.self_attention.submodules.core_attention = CoreAttention
    spec.submodules.input_layernorm = Norm
    spec.submodules.pre_mlp_layernorm = Norm
    return TransformerBlockSubmodules(layer_specs=[spec] * get_num_layers_to_build(config), layer_norm=Norm)


def build_model(shape: Shape, parallel: ParallelConfig, precision: str, vocab: int, padded: int) -> GPTModel:
    """This rank's part of the model, weights not set, on the best device.

    ``vocab`` is the number of real tokens, ``padded`` (a multiple of TP) the rows of the tables. The logits of padded
    rows are minus infinity, so that they take no part in the softmax.
    """
    config = transformer_config(shape, parallel, precision)
    last = parallel_state.is_pipeline_last_stage()
    model = GPTModel(
        config=config,
        transformer_layer_spec=layer_spec(config),
        vocab_size=padded,
        max_sequence_length=shape.max_positions,
        pre_process=parallel_state.is_pipeline_first_stage(),
        post_process=last,
        position_embedding_type="rope",
        rotary_base=int(shape.rotary_base) if float(shape.rotary_base).is_integer() else shape.rotary_base,
        share_embeddings_and_output_weights=shape.tied,
        parallel_output=True,
    ).to(devices.best_device())
    if last:
        first_row = parallel_state.get_tensor_model_parallel_rank() * (padded // parallel.tp)
        model.output_layer.register_forward_hook(_mask_padded_logits(vocab, padded, first_row))
    return model


def _mask_padded_logits(vocab: int, padded: int, first_row: int) -> Any:
    """A forward hook of the output layer: logits of padded rows become minus infinity.

    Works on this rank's shard, whose first row is ``first_row``, and on logits gathered over TP.
    """

    def mask(module: torch.nn.Module, inputs: Any, output: tuple[torch.Tensor, Any]) -> tuple[torch.Tensor, Any]:
        logits, bias = output
        width = logits.shape[-1]
        real = vocab if width == padded else vocab - first_row
        if real < width:
            is_padding = torch.arange(width, device=logits.device) >= real
            logits = logits.masked_fill(is_padding, float("-inf"))
        return logits, bias

    return mask
