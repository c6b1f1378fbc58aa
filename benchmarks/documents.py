"""Attention within documents of packed samples: ours against a mask, seconds, same run.

    python benchmarks/documents.py [--quick]

One layer's attention, forward and backward pass: 4 heads of 64, a sequence of 2,048 (`--quick`: 512), fp32 on a CPU,
bf16 on a GPU, of documents with random lengths of 400 and of 70 tokens on average. The contestants take turns:

- `ours`: our `CoreAttention`, as with `train.reset_attention=true`: one by one, or on a GPU by torch's flash kernel;
- `mask`: torch's `scaled_dot_product_attention` with the documents' mask of seq x seq, made once;
- `whole`: the same over the whole sequence, causal, without documents.

The first two must agree. Shown are the best and the median of 20 turns (`--quick`: 5).
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from megatron.core.transformer import TransformerConfig
from megatron.core.transformer.enums import AttnMaskType

from nemo_adapt import devices
from nemo_adapt.artifact import versions
from nemo_adapt.model.attention import CoreAttention

HEADS, DIM, CLOSE = 4, 64, {torch.float32: 1e-5, torch.bfloat16: 2e-2}
MEANS = (400, 70)


def documents(length: int, mean: int) -> torch.Tensor:
    """Return document numbers [1, length]; a document ends after each token with probability 1 / ``mean``."""
    ends = torch.rand(1, length, generator=torch.Generator().manual_seed(1)) < 1 / mean
    return ends.cumsum(dim=1) - ends.long()


def seconds(attend: Callable[[], torch.Tensor]) -> tuple[float, torch.Tensor]:
    """Return the seconds of a forward and backward pass, and its output."""
    devices.synchronize()
    began = time.perf_counter()
    out = attend()
    out.sum().backward()
    devices.synchronize()
    return time.perf_counter() - began, out.detach()


def fused(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, **how: Any) -> torch.Tensor:
    """Attend by torch's fused function, [seq, batch, heads, dim] -> [seq, batch, heads * dim]."""
    heads_first = (each.permute(1, 2, 0, 3) for each in (query, key, value))
    out = F.scaled_dot_product_attention(*heads_first, enable_gqa=query.shape[2] != key.shape[2], **how)
    return out.permute(2, 0, 1, 3).flatten(2)


def compete(
    contestants: dict[str, Callable[[], torch.Tensor]], turns: int, what: str
) -> tuple[dict[str, list[float]], dict[str, torch.Tensor]]:
    """Let the contestants take turns; print and return their seconds, and return the last output of each."""
    took: dict[str, list[float]] = {name: [] for name in contestants}
    given = {}
    for turn in range(turns + 1):
        for name, attend in contestants.items():
            spent, given[name] = seconds(attend)
            took[name] += [spent] * (turn > 0)  # the first warms up
    print(what, flush=True)
    for name, spent in took.items():
        print(f"  {name}: {1e3 * min(spent):.1f} ms best, {1e3 * statistics.median(spent):.1f} ms median", flush=True)
    return took, given


def compared(length: int, mean: int, turns: int) -> str:
    """Run all contestants at one mean length; print them and return a line of ratios."""
    device = devices.best_device()
    dtype = torch.bfloat16 if devices.on_gpu() else torch.float32
    query, key, value = (
        torch.randn(length, 1, HEADS, DIM, device=device, dtype=dtype, requires_grad=True) for _ in range(3)
    )
    config = TransformerConfig(num_layers=1, hidden_size=HEADS * DIM, num_attention_heads=HEADS, attention_dropout=0.0)
    ours = CoreAttention(config, 1, AttnMaskType.causal, "self")
    numbers = documents(length, mean)
    mask = (numbers[0][:, None] == numbers[0][None]).tril().to(device)

    took, given = compete(
        {
            "ours": lambda: ours._attend_apart(query, key, value, numbers),
            "mask": lambda: fused(query, key, value, attn_mask=mask),
            "whole": lambda: fused(query, key, value, is_causal=True),
        },
        turns,
        f"{length:,} tokens in {(count := int(numbers[0, -1]) + 1)} documents",
    )
    torch.testing.assert_close(given["ours"], given["mask"], rtol=0, atol=CLOSE[dtype])
    best = {name: min(spent) / min(took["ours"]) for name, spent in took.items()}
    return f"{count} documents: mask {best['mask']:.2f}x, whole {best['whole']:.2f}x of ours"


def main() -> None:
    """Run the benchmark at each mean length."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    threads = f"{torch.get_num_threads()} threads"
    print(f"versions: {json.dumps(versions())}, {os.cpu_count()} cores, {threads}, load {os.getloadavg()[0]:.1f}")
    found = [compared(512 if quick else 2048, mean, 5 if quick else 20) for mean in MEANS]
    print(f"summary: {'; '.join(found)}")


if __name__ == "__main__":
    main()
