"""Attention within documents of packed samples, and with windows: ours against a mask, seconds, same run.

    python benchmarks/attention.py [--quick]

One layer's attention, forward and backward pass, fp32 on a CPU, bf16 on a GPU:

- documents with random lengths of 400 and of 70 tokens on average, in a sequence of 2,048 (`--quick`: 512); 4 heads of
  64;
- windows of 512 and of 1,024 in a sequence of 4,096 (`--quick`: 2,048); 8 heads of 256 over 4 of keys and values, as
  in Gemma 3 4B.

The contestants take turns:

- `ours`: our `CoreAttention`: documents one by one (`train.reset_attention=true`), a window in blocks; on a GPU both by
  torch's flash kernel;
- `mask`: torch's `scaled_dot_product_attention` with a mask of seq x seq, made once;
- `whole`: the same over the whole sequence, causal, without documents or a window.

The first two must agree. Shown are the best and the median of 20 turns for documents, 5 for windows (`--quick`: a
quarter).
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
from nemo_adapt.machine.facts import versions
from nemo_adapt.model.attention import CoreAttention

CLOSE = {torch.float32: 1e-5, torch.bfloat16: 2e-2}
"""Tolerance of outputs."""
MEANS, OF_DOCUMENTS = (400, 70), {"heads": 4, "kv_heads": 4, "dim": 64, "turns": 20}
WINDOWS, OF_WINDOWS = (512, 1024), {"heads": 8, "kv_heads": 4, "dim": 256, "turns": 5}


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


def compared(
    what: str,
    mask: torch.Tensor,
    *,
    heads: int,
    kv_heads: int,
    dim: int,
    turns: int,
    window: int = 0,
    numbers: torch.Tensor | None = None,
) -> str:
    """Run all contestants; print them and return a line of ratios.

    ``mask`` [seq, seq] says the same as ``window`` or ``numbers``, those of the documents [1, seq].
    """
    device, length = devices.best_device(), len(mask)
    dtype = torch.bfloat16 if devices.on_gpu() else torch.float32
    query, key, value = (
        torch.randn(length, 1, each, dim, device=device, dtype=dtype, requires_grad=True)
        for each in (heads, kv_heads, kv_heads)
    )
    config = TransformerConfig(num_layers=1, hidden_size=heads * dim, num_attention_heads=heads, attention_dropout=0.0)
    ours = CoreAttention(config, 1, AttnMaskType.causal, "self", windows=(window,))
    mask = mask.to(device)
    contestants: dict[str, Callable[[], torch.Tensor]] = {
        "ours": lambda: ours._attend_apart(query, key, value, numbers),
        "mask": lambda: fused(query, key, value, attn_mask=mask),
        "whole": lambda: fused(query, key, value, is_causal=True),
    }
    took: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(turns + 1):
        given = {}
        for name, attend in contestants.items():
            spent, given[name] = seconds(attend)
            took[name] += [spent] * (turn > 0)  # the first warms up
        torch.testing.assert_close(given["ours"], given["mask"], rtol=0, atol=CLOSE[dtype])
    print(f"{what} in {length:,} tokens", flush=True)
    for name, spent in took.items():
        print(f"  {name}: {1e3 * min(spent):.1f} ms best, {1e3 * statistics.median(spent):.1f} ms median", flush=True)
    best = {name: min(spent) / min(took["ours"]) for name, spent in took.items()}
    return f"{what}: mask {best['mask']:.2f}x, whole {best['whole']:.2f}x of ours"


def main() -> None:
    """Run the benchmark for each mean length of documents, and for each window."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    threads = f"{torch.get_num_threads()} threads"
    print(f"versions: {json.dumps(versions())}, {os.cpu_count()} cores, {threads}, load {os.getloadavg()[0]:.1f}")
    found = []
    for mean in MEANS:
        numbers = documents(512 if quick else 2048, mean)
        mask = (numbers[0][:, None] == numbers[0][None]).tril()
        settings = {**OF_DOCUMENTS, "turns": max(1, OF_DOCUMENTS["turns"] // (4 if quick else 1))}
        found.append(compared(f"{int(numbers[0, -1]) + 1} documents", mask, **settings, numbers=numbers))
    for window in WINDOWS:
        length = 2048 if quick else 4096
        mask = torch.ones(length, length, dtype=torch.bool).tril().triu(1 - window)
        settings = {**OF_WINDOWS, "turns": max(1, OF_WINDOWS["turns"] // (4 if quick else 1))}
        found.append(compared(f"window of {window:,}", mask, **settings, window=window))
    print(f"summary: {'; '.join(found)}")


if __name__ == "__main__":
    main()
