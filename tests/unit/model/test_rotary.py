"""Rotary positions of queries and keys: the same numbers as Megatron's, in less memory."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from megatron.core.models.common.embeddings.rope_utils import _apply_rotary_pos_emb_bshd

from nemo_adapt.machine import fusion
from nemo_adapt.patches.rotary import apply_rotary

BOTH = (False, True)
"""Pairs of columns half of them apart, and next to each other."""


def of_megatron(heads, angles, interleaved=False):
    """Megatron's rotation; interleaved, its angles have another order."""
    if interleaved:
        angles = angles[..., : angles.shape[-1] // 2].repeat_interleave(2, dim=-1)
    return _apply_rotary_pos_emb_bshd(heads, angles, interleaved)


def drawn(seq, batch, heads, width, columns, samples, dtype=torch.float32):
    """What is rotated, by which angles, and a gradient of the result."""
    generator = torch.Generator().manual_seed(seq * width)
    tensors = [torch.randn(seq, batch, heads, width, generator=generator).to(dtype) for _ in range(2)]
    angles = 6 * torch.rand(seq, samples, 1, columns // 2, generator=generator)
    return tensors[0].requires_grad_(), torch.cat((angles, angles), dim=-1), tensors[1]


def answers(turn, heads, angles, gradient, interleaved=False):
    out = turn(heads, angles, interleaved)
    (back,) = torch.autograd.grad(out, heads, gradient)
    return out.detach(), back


@given(
    *(st.integers(1, 9), st.integers(1, 3), st.integers(1, 4), st.sampled_from([4, 16, 20])),
    *(st.booleans(), st.booleans(), st.booleans()),
)
def test_results_and_gradients_equal_megatron_s(seq, batch, heads, width, is_partial, differ, interleaved):
    drawing = drawn(seq, batch, heads, width, width // 4 * 2 if is_partial else width, batch if differ else 1)
    for ours, theirs in zip(
        answers(apply_rotary, *drawing, interleaved), answers(of_megatron, *drawing, interleaved), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-6)


@pytest.mark.parametrize("interleaved", BOTH)
@pytest.mark.parametrize(("width", "columns"), [(16, 16), (20, 8)])
def test_the_function_that_is_compiled_on_a_gpu_gives_the_same_results(monkeypatch, width, columns, interleaved):
    monkeypatch.setattr(fusion, "compiles", lambda: True)
    monkeypatch.setattr(fusion, "compiled", lambda function: function)
    drawing = drawn(8, 2, 3, width, columns, 2)
    for ours, theirs in zip(
        answers(apply_rotary, *drawing, interleaved), answers(of_megatron, *drawing, interleaved), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-6)


@pytest.mark.parametrize("interleaved", BOTH)
def test_bf16_results_are_at_least_as_exact_as_megatron_s(interleaved):
    heads, angles, gradient = drawn(32, 2, 4, 16, 16, 1, torch.bfloat16)
    exactly = heads.detach().double().requires_grad_(), angles.double(), gradient.double()
    truth = answers(of_megatron, *exactly, interleaved)
    ours, theirs = (answers(turn, heads, angles, gradient, interleaved) for turn in (apply_rotary, of_megatron))
    for mine, other, exact in zip(ours, theirs, truth, strict=True):
        assert (mine - exact).square().mean() <= (other - exact).square().mean()


@pytest.mark.parametrize("interleaved", BOTH)
def test_non_contiguous_heads_are_rotated(interleaved):
    """Queries and keys are slices of one projection's output."""
    heads, angles, _ = drawn(8, 2, 6, 16, 16, 1)
    part = heads[:, :, 1:4]
    out = apply_rotary(part, angles, interleaved)
    assert out.is_contiguous()
    torch.testing.assert_close(out, of_megatron(part, angles, interleaved))


def test_only_the_angles_are_saved_for_the_backward_pass():
    heads, angles, _ = drawn(8, 2, 6, 16, 16, 1)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(kept.append, lambda tensor: tensor):
        apply_rotary(heads, angles)
    assert [tensor.data_ptr() for tensor in kept] == [angles.data_ptr()]
