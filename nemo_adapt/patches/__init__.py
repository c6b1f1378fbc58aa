"""Patches for what megatron-core 0.16 to 0.19 does wrong or wastefully on any device.

Each patch is a function that gets the module or class to change.
"""

import functools
import logging
import warnings

from nemo_adapt import devices
from nemo_adapt.patches import checkpoints, passes, rotary, weight_gradients


@functools.cache
def prepare_megatron() -> None:
    """Make megatron-core run, and well, on this machine. Call before building a model; further calls do nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _patch()
    # Megatron logs its fallbacks at every start; which implementation is used is our choice and recorded elsewhere.
    logging.getLogger("megatron").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="megatron")
    warnings.filterwarnings("ignore", module="torch.distributed.checkpoint")
    if not devices.on_gpu():
        devices.run_megatron_on_cpu()


def _patch() -> None:
    from megatron.core.dist_checkpointing.strategies import filesystem_async
    from megatron.core.models.common.embeddings import rope_utils
    from megatron.core.optimizer import distrib_optimizer, optimizer
    from megatron.core.tensor_parallel import layers

    has_fused_kernels = distrib_optimizer.HAVE_APEX_OR_TE
    if not has_fused_kernels:
        checkpoints.keep_steps_out_of_shards(distrib_optimizer.DistributedOptimizer)
    checkpoints.save_own_parts(distrib_optimizer.DistributedOptimizer)
    checkpoints.save_unequal_groups(optimizer.Float16OptimizerWithFloat16Params)
    checkpoints.write_in_threads(filesystem_async)
    passes.skip_copies(has_fused_kernels, lone_groups_copy=not devices.on_gpu())
    rotary.fuse_rotary(rope_utils)
    weight_gradients.fuse_weight_gradients(layers)
