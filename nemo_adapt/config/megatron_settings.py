"""Settings under Megatron's names that our models and trainings have in common with recipes for Megatron-Bridge."""

from typing import Any

from nemo_adapt.config import ParallelConfig, PhaseConfig, TrainConfig
from nemo_adapt.families.family import Shape

Settings = dict[str, Any]


def sizes(shape: Shape) -> Settings:
    """Return the sizes of a model's layers."""
    return {
        "num_layers": shape.layers,
        "hidden_size": shape.hidden,
        "ffn_hidden_size": shape.ffn,
        "num_attention_heads": shape.heads,
        "num_query_groups": shape.kv_heads,
        "kv_channels": shape.head_dim,
        "layernorm_epsilon": shape.norm_epsilon,
    }


def ranks(parallel: ParallelConfig) -> Settings:
    """Return how a model is divided among ranks."""
    return {
        "tensor_model_parallel_size": parallel.tp,
        "pipeline_model_parallel_size": parallel.pp,
        **(interleaving(parallel.virtual) if parallel.virtual > 1 else {}),
        "context_parallel_size": parallel.cp,
        "sequence_parallel": parallel.sequence,
    }


def interleaving(chunks: int) -> Settings:
    """Return what pipeline stages of several ``chunks`` need.

    With two such stages, the previous and the next one are the same rank: Megatron's default, batched sends and
    receives, would mix up the two directions (Megatron-LM's arguments.py refuses them there).
    """
    return {"overlap_p2p_comm": True, "batch_p2p_comm": False, "virtual_pipeline_model_parallel_size": chunks}


def recomputation(train: TrainConfig) -> Settings:
    """Return the settings with which each layer keeps only its input for the backward pass, if that is asked for."""
    if not train.recompute:
        return {}
    return {"recompute_granularity": "full", "recompute_method": "uniform", "recompute_num_layers": 1}


def optimizer(train: TrainConfig, phase: PhaseConfig) -> Settings:
    """Return the settings of a phase's optimizer."""
    return {
        "optimizer": "adam",
        "lr": phase.lr,
        "min_lr": phase.lr * train.min_lr_share,
        "weight_decay": train.weight_decay,
        "adam_beta1": train.adam_beta1,
        "adam_beta2": train.adam_beta2,
        "clip_grad": train.clip_grad,
        "bf16": train.precision == "bf16",
        "use_distributed_optimizer": train.distributed_optimizer,
    }
