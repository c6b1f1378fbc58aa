"""Rotary positions of queries and keys: the same numbers as Megatron's, in less memory."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from megatron.core.models.common.embeddings.rope_utils import _apply_rotary_pos_emb_bshd

from nemo_adapt.machine import fusion
from nemo_adapt.patches.rotary import apply_rotary


def drawn(seq, batch, heads, width, columns, samples, dtype=torch.float32):
    """What is rotated, by which angles, and a gradient of the result."""
    generator = torch.Generator().manual_seed(seq * width)
    tensors = [torch.randn(seq, batch, heads, width, generator=generator).to(dtype) for _ in range(2)]
    angles = 6 * torch.rand(seq, samples, 1, columns // 2, generator=generator)
    return tensors[0].requires_grad_(), torch.cat((angles, angles), dim=-1), tensors[1]


def answers(turn, heads, angles, gradient):
    out = turn(heads, angles)
    (back,) = torch.autograd.grad(out, heads, gradient)
    return out.detach(), back


@given(
    st.integers(1, 9), st.integers(1, 3), st.integers(1, 4), st.sampled_from([4, 16, 20]), st.booleans(), st.booleans()
)
def test_results_and_gradients_equal_megatron_s(seq, batch, heads, width, is_partial, differ):
    drawing = drawn(seq, batch, heads, width, width // 4 * 2 if is_partial else width, batch if differ else 1)
    for ours, theirs in zip(
        answers(apply_rotary, *drawing), answers(_apply_rotary_pos_emb_bshd, *drawing), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-6)


@pytest.mark.parametrize(("width", "columns"), [(16, 16), (20, 8)])
def test_the_function_that_is_compiled_on_a_gpu_gives_the_same_results(monkeypatch, width, columns):
    monkeypatch.setattr(fusion, "compiles", lambda: True)
    monkeypatch.setattr(fusion, "compiled", lambda function: function)
    drawing = drawn(8, 2, 3, width, columns, 2)
    for ours, theirs in zip(
        answers(apply_rotary, *drawing), answers(_apply_rotary_pos_emb_bshd, *drawing), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-6)


def test_bf16_results_are_at_least_as_exact_as_megatron_s():
    heads, angles, gradient = drawn(32, 2, 4, 16, 16, 1, torch.bfloat16)
    truth = answers(
        _apply_rotary_pos_emb_bshd, heads.detach().double().requires_grad_(), angles.double(), gradient.double()
    )
    ours, theirs = (answers(turn, heads, angles, gradient) for turn in (apply_rotary, _apply_rotary_pos_emb_bshd))
    for mine, other, exact in zip(ours, theirs, truth, strict=True):
        assert (mine - exact).square().mean() <= (other - exact).square().mean()


def test_non_contiguous_heads_are_rotated():
    """Queries and keys are slices of one projection's output."""
    heads, angles, _ = drawn(8, 2, 6, 16, 16, 1)
    part = heads[:, :, 1:4]
    out = apply_rotary(part, angles)
    assert out.is_contiguous()
    torch.testing.assert_close(out, _apply_rotary_pos_emb_bshd(part, angles))


def test_only_the_angles_are_saved_for_the_backward_pass():
    heads, angles, _ = drawn(8, 2, 6, 16, 16, 1)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(kept.append, lambda tensor: tensor):
        apply_rotary(heads, angles)
    assert [tensor.data_ptr() for tensor in kept] == [angles.data_ptr()]
