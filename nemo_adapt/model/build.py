"""Build a GPTModel from a family's ``Shape``: this rank's part of the chosen layout."""

from functools import partial
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
from megatron.core.tensor_parallel import ColumnParallelLinear, RowParallelLinear
from megatron.core.transformer import ModuleSpec, TransformerConfig
from megatron.core.transformer.identity_op import IdentityOp
from megatron.core.transformer.mlp import MLP, MLPSubmodules
from megatron.core.transformer.transformer_block import TransformerBlockSubmodules, get_num_layers_to_build

from nemo_adapt import devices, patches
from nemo_adapt.config import ParallelConfig, TrainConfig, megatron_settings
from nemo_adapt.config.layout import dp_of, engine_fits, stage_layers
from nemo_adapt.config.megatron_settings import Settings
from nemo_adapt.families.family import (
    AFTER,
    ALIBI,
    AROUND,
    BESIDE,
    HEAD,
    LEARNED,
    OWN,
    ROTATED,
    SHARED,
    SINUSOIDAL,
    WHOLE,
    XIELU,
    Rotary,
    Shape,
)
from nemo_adapt.machine import cuda_environment, rendezvous
from nemo_adapt.model.attention import CoreAttention
from nemo_adapt.model.cross_entropy import cross_entropy
from nemo_adapt.model.embedding_output import finish_embedding, finish_output_layer, scale_residuals
from nemo_adapt.model.gated import GatedMLP
from nemo_adapt.model.layers import (
    LaterNorm,
    Norm,
    OwnNorm,
    ProjectionThenNorm,
    SideBySideLayer,
    WholeNorm,
    norm_rotated,
)
from nemo_adapt.model.rotary import set_rotary
from nemo_adapt.model.squared_relu import squared_relu
from nemo_adapt.model.xielu import XieluMLP

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
ACTIVATIONS = {
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "squared_relu": squared_relu,
    XIELU: F.silu,  # is not used: `XieluMLP` has its own
}
FUSED = {"silu": F.silu, "gelu_tanh": F.gelu}
"""Gated activations with a compiled kernel in Megatron, and its function for each: its GELU kernel is the tanh form."""
QK_NORMS = {
    "": (IdentityOp, IdentityOp),
    HEAD: (Norm, Norm),
    ROTATED: (LaterNorm, LaterNorm),
    OWN: (OwnNorm, ModuleSpec(OwnNorm, {"kv": True})),
    WHOLE: (WholeNorm, ModuleSpec(WholeNorm, {"kv": True})),
}
"""``Shape.qk_norm`` -> the norms of queries and of keys."""
POSITIONS = {LEARNED: "learned_absolute", SINUSOIDAL: "learned_absolute", ALIBI: "none"}
"""Megatron's names. Sinusoidal positions replace the learned table that Megatron creates."""


def start_parallel(parallel: ParallelConfig, seed: int) -> int:
    """Join the process group, create the TP, PP, CP and DP groups, seed the rank, and return the data-parallel size.

    ``UserError`` as of ``dp_of``.
    """
    patches.prepare_megatron()
    cuda_environment.set_up(parallel)  # if it was not done before torch was imported
    devices.start_ranks()
    dp_size = dp_of(parallel, dist.get_world_size())
    parallel_state.destroy_model_parallel()
    interleaved = parallel.virtual if parallel.virtual > 1 else None
    parallel_state.initialize_model_parallel(
        parallel.tp,
        parallel.pp,
        interleaved,
        context_parallel_size=parallel.cp,
        distributed_timeout_minutes=int(rendezvous.TIMEOUT.total_seconds() // 60),  # default: half an hour
        create_gloo_process_groups=False,  # beside NCCL's, for formats of the optimizer's state that we do not use
    )
    devices.seed_everything(seed)
    return dp_size


def transformer_config(shape: Shape, parallel: ParallelConfig, train: TrainConfig) -> TransformerConfig:
    """Return Megatron's configuration of the layers for this layout."""
    patches.prepare_megatron()  # TransformerConfig checks for kernels that `patches` adds
    engine = _has_engine_layers(shape, train, parallel)
    return TransformerConfig(
        **megatron_settings.sizes(shape),
        **megatron_settings.ranks(parallel),
        **_pipeline(shape, parallel),
        **_precision(train),
        **megatron_settings.recomputation(train),
        **_attention(shape, engine),
        **_kernels(shape, train, engine),
        **_initialization(),
        attention_dropout=0.0,
        hidden_dropout=0.0,
        **shape.transformer,
    )


def _pipeline(shape: Shape, parallel: ParallelConfig) -> Settings:
    """Return the layers of each stage, and whether what a stage has sent is freed, as in Megatron-LM."""
    if parallel.pp == 1:
        return {}
    return {
        "pipeline_model_parallel_layout": stages(shape, parallel),
        # Interleaved stages go on while a message is under way: it would send what is written there next.
        "deallocate_pipeline_outputs": parallel.virtual == 1,
    }


def _precision(train: TrainConfig) -> Settings:
    dtype = DTYPES[train.precision]
    return {"params_dtype": dtype, "pipeline_dtype": dtype, "bf16": train.precision == "bf16"}


def _attention(shape: Shape, engine: bool) -> Settings:
    """Return the settings of attention; ours, without Transformer Engine (``engine``), has its own windows."""
    found = {
        "softmax_scale": shape.attention_scales[0],  # where layers differ, `CoreAttention` has its own
        "qk_layernorm": bool(shape.qk_norm),
    }
    if not (engine and any(shape.windows)):
        return found
    return found | {
        "window_size": (max(shape.windows) - 1, 0),  # counts the positions before a token's own
        "window_attn_skip_freq": [int(window > 0) for window in shape.windows],
    }


def _kernels(shape: Shape, train: TrainConfig, engine: bool) -> Settings:
    """Return the activation function, and which of Megatron's fused kernels are used."""
    fuses = engine and shape.transformer.get("gated_linear_unit", False) and shape.activation in FUSED
    return {
        "activation_func": (FUSED if fuses else ACTIVATIONS)[shape.activation],
        "bias_activation_fusion": fuses,  # otherwise `model.gated` saves as few activations
        "apply_rope_fusion": shape.rotary is not None,  # see `patches.rotary`
        "bias_dropout_fusion": False,  # there is no dropout
        "masked_softmax_fusion": False,  # belongs to an attention that is not used
        "gradient_accumulation_fusion": True,  # see `patches.weight_gradients`
        "deterministic_mode": train.deterministic and devices.on_gpu(),
    }


def _initialization() -> Settings:
    """Return initializations that leave the weights, all loaded later, as they are.

    They must run: Megatron then marks the weights that are sharded over TP, and without the mark they are left out of
    the gradient norm.
    """
    return dict.fromkeys(("init_method", "output_layer_init_method", "embedding_init_method"), _leave)


def _leave(weight: torch.Tensor) -> None:
    """An initialization method that leaves the weight as it is."""


def stages(shape: Shape, parallel: ParallelConfig) -> list[list[str]]:
    """Return Megatron's list of what each pipeline stage consists of, in the model's order."""
    found = [["decoder"] * layers for layers in stage_layers(shape.layers, parallel)]
    return [["embedding", *found[0]], *found[1:-1], [*found[-1], "loss"]]


def _has_engine_layers(shape: Shape, train: TrainConfig, parallel: ParallelConfig) -> bool:
    """Whether Transformer Engine's layers are used."""
    return devices.has_transformer_engine() and engine_fits(shape, train, parallel)


def layer_spec(
    shape: Shape, parallel: ParallelConfig, train: TrainConfig, config: TransformerConfig, chunk: int | None
) -> Any:
    """Return Transformer Engine's layers if installed and sufficient, else Megatron's layers with our modules."""
    if _has_engine_layers(shape, train, parallel):
        return get_gpt_layer_with_transformer_engine_spec(qk_layernorm=config.qk_layernorm)
    spec = get_gpt_layer_local_spec(normalization=config.normalization)
    layer, attention = spec.submodules, spec.submodules.self_attention.submodules
    attention.core_attention = partial(
        CoreAttention,
        windows=shape.windows,
        scales=shape.attention_scales,
        magnitudes=shape.magnitudes,
        rotated=shape.rotated,
        cap=shape.attention_cap,
        alibi=shape.positions == ALIBI,
    )
    attention.q_layernorm, attention.k_layernorm = QK_NORMS[shape.qk_norm]
    second = RowParallelLinear  # the MLP is assembled here, as its spec differs between Megatron versions
    if shape.norms in (AFTER, AROUND):
        attention.linear_proj = second = ProjectionThenNorm
    parts = MLPSubmodules(linear_fc1=ColumnParallelLinear, linear_fc2=second)
    gated = ModuleSpec(GatedMLP, {"activation": shape.activation}, parts)
    plain = ModuleSpec(XieluMLP if shape.activation == XIELU else MLP, submodules=parts)
    layer.mlp = gated if config.gated_linear_unit else plain
    norm = ModuleSpec(Norm, {"biased": shape.norm_bias})
    layer.input_layernorm = layer.pre_mlp_layernorm = IdentityOp if shape.norms == AFTER else norm
    if shape.norms in (SHARED, BESIDE):
        spec.module = SideBySideLayer
    if shape.norms == SHARED:
        layer.pre_mlp_layernorm = IdentityOp
    return TransformerBlockSubmodules(layer_specs=[spec] * get_num_layers_to_build(config, chunk), layer_norm=norm)


class _Model(GPTModel):
    """Megatron's GPTModel with a loss that needs no memory besides the logits."""

    z_loss = 0.0
    """Weight of the z-loss, see ``cross_entropy``."""

    def compute_language_model_loss(self, labels: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        """``labels`` [batch, seq], ``logits`` [seq, batch, vocab / TP] -> nats [batch, seq]."""
        losses = cross_entropy(logits, labels.transpose(0, 1).contiguous(), self.z_loss)
        return losses.transpose(0, 1).contiguous()


def build_model(shape: Shape, parallel: ParallelConfig, train: TrainConfig, vocab: int, padded: int) -> list[GPTModel]:
    """Build this rank's part of the model on the best device, weights unset: one chunk, or ``parallel.virtual``.

    ``vocab`` is the number of tokens, ``padded`` (a multiple of TP) the number of rows of the tables. The logits of
    padded rows are minus infinity, so that they take no part in the softmax.
    """
    config = transformer_config(shape, parallel, train)
    numbers = range(parallel.virtual) if parallel.virtual > 1 else (None,)
    chunks = [_chunk(shape, parallel, train, config, vocab, padded, number) for number in numbers]
    # With qk_layernorm, Megatron also sums the gradients of these norms over TP: right only for those per head, which
    # every rank holds in full.
    config.qk_layernorm = shape.qk_norm in (HEAD, ROTATED)
    return chunks


def _chunk(
    shape: Shape,
    parallel: ParallelConfig,
    train: TrainConfig,
    config: TransformerConfig,
    vocab: int,
    padded: int,
    chunk: int | None,
) -> GPTModel:
    """Build this rank's interleaved chunk number ``chunk``, or (``None``) its whole part."""
    rotary = shape.rotary or Rotary(10000.0)  # Megatron needs one even for learned positions
    place: dict[str, Any] = {"ignore_virtual": chunk is None, "vp_stage": chunk}
    model = _Model(
        config=config,
        transformer_layer_spec=layer_spec(shape, parallel, train, config, chunk),
        vocab_size=padded,
        max_sequence_length=shape.max_positions,
        pre_process=parallel_state.is_pipeline_first_stage(**place),
        post_process=parallel_state.is_pipeline_last_stage(**place),
        position_embedding_type="rope" if shape.rotary else POSITIONS[shape.positions],
        rotary_percent=rotary.share,
        rotary_base=int(rotary.base) if float(rotary.base).is_integer() else rotary.base,
        share_embeddings_and_output_weights=shape.tied,
        parallel_output=True,
        vp_stage=chunk,
    )
    model.z_loss = train.z_loss
    if shape.rotary:
        set_rotary(model, shape)
    if shape.qk_norm == ROTATED:
        norm_rotated(model)
    scale_residuals(model, shape)
    if model.pre_process:
        finish_embedding(model, shape)
    if model.post_process:
        finish_output_layer(model, shape, vocab, padded)
    return model.to(devices.best_device())
