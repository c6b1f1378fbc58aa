"""The stand-in for GPUs rejects what GPUs reject, and computes what a CPU computes."""

import numpy as np
import pytest
import torch
import torch.distributed as dist
from helpers.command import nemo_adapt
from helpers.live_bytes import LiveBytes
from helpers.worlds import SHORT, small_world

from nemo_adapt.patches.weight_gradients import adder


def both(make):
    """Return the tensors of ``make(device)`` on the CPU, and those on the stand-in, moved to the CPU."""
    here, there = make("cpu"), make("cuda")
    assert all(tensor.is_cuda for tensor in there)
    return here, [tensor.cpu() for tensor in there]


def trained(device):
    """Return weights and gradients after two steps of a small network."""
    draw = torch.Generator().manual_seed(1)
    layer = torch.nn.Sequential(torch.nn.Embedding(7, 8), torch.nn.Linear(8, 8), torch.nn.LayerNorm(8))
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=draw))
    layer.to(device)
    optimizer = torch.optim.AdamW(layer.parameters(), fused=True)
    ids = torch.arange(6, device=device).view(2, 3)
    for _ in range(2):
        out = layer(ids)[:, :, None].transpose(1, 2)
        torch.nn.functional.scaled_dot_product_attention(out, out, out, is_causal=True).square().sum().backward()
        optimizer.step()
    return [tensor for each in layer.parameters() for tensor in (each.detach(), each.grad)]


def test_training_equals_that_on_the_cpu():
    for here, there in zip(*both(trained), strict=True):
        torch.testing.assert_close(here, there, rtol=1e-4, atol=1e-4)  # attention uses a different kernel


def test_products_of_bf16_are_added_in_fp32():
    inputs, gradients, sums = torch.randn(64, 5).bfloat16(), torch.randn(64, 9).bfloat16(), torch.randn(9, 5)
    there = sums.cuda()
    adder(None)(inputs.cuda(), gradients.cuda(), there)
    expected = sums.double() + gradients.double().t() @ inputs.double()
    torch.testing.assert_close(there.cpu().double(), expected, rtol=1e-5, atol=1e-5)
    adder(None)(inputs, gradients, sums)  # on a CPU the product is rounded to bf16
    assert (sums - expected).abs().max() > 1e-3


def results(device):
    table = torch.arange(24.0, device=device).view(4, 6)
    large = torch.empty(0, device=device)
    torch.mul(table, 2, out=large)  # resizes ``large``
    table[1:3, ::2] += large[1:3, ::2]
    part = table.T[2:5].contiguous().view(-1)
    part.resize_(3)
    return [table, large, part, table.sum(0), table.argmax(1), table.to(torch.bfloat16), torch.cat([table, large])]


def test_views_and_resized_results_equal_those_on_the_cpu():
    for here, there in zip(*both(results), strict=True):
        assert torch.equal(here, there)


@pytest.mark.parametrize(
    "mix",
    [
        lambda: torch.ones(2, device="cuda") + torch.ones(2),
        lambda: torch.ones(2, device="cuda:0") + torch.ones(2, device="cuda:1"),
        lambda: torch.ones(3, device="cuda")[:2].index_select(0, torch.tensor([0])),
        lambda: torch.cat([torch.ones(2, device="cuda"), torch.ones(2)]),
        lambda: torch.nn.functional.embedding(torch.tensor([0]), torch.ones(2, 2, device="cuda")),
    ],
)
def test_operations_on_tensors_of_two_devices_are_rejected(mix):
    with pytest.raises(RuntimeError, match="same device"):
        mix()


def test_scalars_and_indices_may_be_on_the_cpu():
    assert (torch.ones(2, device="cuda") * torch.tensor(3.0)).tolist() == [3, 3]
    assert torch.arange(4, device="cuda")[torch.tensor([2])].tolist() == [2]


def test_conversion_to_numpy_is_rejected():
    with pytest.raises(TypeError, match="can't convert cuda"):
        np.asarray(torch.ones(2, device="cuda"))


def test_new_memory_is_nan():
    assert torch.empty(1000, device="cuda").isnan().all()


def test_allocated_memory_is_counted():
    before = torch.cuda.memory_allocated()
    held = torch.zeros(1 << 20, device="cuda")
    assert torch.cuda.memory_allocated() - before == held.nbytes
    del held
    assert torch.cuda.memory_allocated() == before
    assert torch.cuda.max_memory_allocated() >= before + (4 << 20)
    with LiveBytes() as live:
        torch.zeros(256, device="cuda")
    assert live.peak == 1024


def exchange(rank):
    """Exchange two messages each way between two ranks in one batch; also reduce-scatter and average."""
    other, gpu = 1 - rank, torch.device("cuda", rank)
    left, right = (torch.full((2,), float(10 * rank + side), device=gpu) for side in (1, 2))
    got_left, got_right = torch.zeros(2, device=gpu), torch.zeros(2, device=gpu)
    operations = [(dist.isend, left), (dist.irecv, got_left), (dist.isend, right), (dist.irecv, got_right)]
    for work in dist.batch_isend_irecv([dist.P2POp(how, tensor, other) for how, tensor in operations]):
        work.wait()
    scattered = torch.zeros(1, device=gpu)
    dist.reduce_scatter_tensor(scattered, torch.arange(2.0, device=gpu))
    mean = torch.full((1,), float(rank), device=gpu)
    dist.all_reduce(mean, dist.ReduceOp.AVG)
    return got_left, got_right, scattered, mean


def test_messages_are_matched_in_order(ranks):
    """Messages of two ranks that are neighbours on both sides are matched in order, not by tag: see ``model.build``."""
    found = [[tensor.tolist() for tensor in answer] for answer in ranks(2).run(exchange)]
    assert found == [[[11, 11], [12, 12], [0], [0.5]], [[1, 1], [2, 2], [2], [0.5]]]


def reduce_on_the_cpu(rank):
    dist.all_reduce(torch.ones(1))


def test_communication_of_cpu_tensors_is_rejected(ranks):
    with pytest.raises(RuntimeError, match="No backend type associated with device type cpu"):
        ranks(2).run(reduce_on_the_cpu)


def test_more_ranks_than_gpus_are_rejected_before_any_stage_starts(monkeypatch, tmp_path):
    """Without any GPU the ranks compute on the CPU; stages that are finished need no GPUs again."""
    words, world = [*SHORT, "run.name=few", "train.phases=[{steps: 2, lr: 1e-3}]"], small_world(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    refused = nemo_adapt("run", *words, cwd=world)
    assert (refused.code, refused.err.count("\n")) == (2, 1) and "2 ranks on a machine of 1 GPU" in refused.err
    assert not (world / "runs" / "few").exists()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert nemo_adapt("run", *words, cwd=world).code == 0
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    again = nemo_adapt("run", *words, cwd=world)
    assert again.code == 0 and "[train] finished before, skipped" in again.out, again.err
