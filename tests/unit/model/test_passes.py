"""The gradient norm without fused kernels equals Megatron's, without waiting for each tensor's norm."""

import pytest
import torch
from megatron.core import utils
from megatron.core.optimizer import clip_grads
from torch.profiler import ProfilerActivity, profile

from nemo_adapt import devices, patches
from nemo_adapt.patches.passes import skip_copies


@pytest.fixture
def patched(monkeypatch):
    patches.prepare_megatron()
    for name in ("l2_norm_impl", "multi_tensor_scale_impl"):
        monkeypatch.setattr(clip_grads, name, None)
    skip_copies(has_fused_kernels=False, lone_groups_copy=False)
    return clip_grads.l2_norm_impl


def drawn(*sizes):
    generator = torch.Generator().manual_seed(len(sizes))
    device = devices.best_device()
    tensors = [torch.randn(size, generator=generator).to(device) for size in sizes]
    return [each / max(1.0, float(each.norm())) for each in tensors]  # so that each one matters


@pytest.mark.parametrize("sizes", [[1], [3, 70_001], [7, 0, 4096, 12_345, 1, 64, 200_000]])
def test_the_total_norm_equals_megatron_s(patched, sizes):
    gradients = drawn(*sizes)
    (ours, _), (theirs, _) = (norm(2048 * 32, None, [gradients], False) for norm in (patched, megatron_s))
    # On a CPU both add up alike; a GPU's kernel for many tensors adds up in another order.
    torch.testing.assert_close(ours, theirs, rtol=1e-6 if devices.on_gpu() else 0, atol=0)


def megatron_s(*arguments):
    return utils.local_multi_tensor_l2_norm(*arguments)


def test_no_norm_is_fetched_to_the_host(patched):
    assert "aten::item" in operations(megatron_s) and "aten::item" not in operations(patched)


def operations(norm):
    gradients = drawn(3, 5)
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        norm(2048 * 32, None, [gradients], False)
    return {event.key for event in seen.key_averages()}
