"""Patches for what megatron-core 0.16 to 0.19 does wrong or wastefully on any device.

Each patch is a function that gets the module or class to change; ``apply`` is called once, by
``devices.prepare_megatron``.
"""

from nemo_adapt.patches import checkpoints, passes, rotary, weight_gradients


def apply(lone_groups_copy: bool) -> None:
    """Patch megatron-core. ``lone_groups_copy``: see ``passes.skip_copies``."""
    from megatron.core.dist_checkpointing.strategies import filesystem_async
    from megatron.core.models.common.embeddings import rope_utils
    from megatron.core.optimizer import distrib_optimizer, optimizer
    from megatron.core.tensor_parallel import layers

    has_fused_kernels = distrib_optimizer.HAVE_APEX_OR_TE
    if not has_fused_kernels:
        checkpoints.load_over_torch(distrib_optimizer.DistributedOptimizer)
    checkpoints.save_own_parts(distrib_optimizer.DistributedOptimizer)
    checkpoints.save_unequal_groups(optimizer.Float16OptimizerWithFloat16Params)
    checkpoints.write_in_threads(filesystem_async)
    passes.skip_copies(has_fused_kernels, lone_groups_copy)
    rotary.fuse_rotary(rope_utils)
    weight_gradients.fuse_weight_gradients(layers)
