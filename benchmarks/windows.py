"""Attention with a window: ours in blocks, or torch's flash kernel on a GPU, against a mask; seconds, same run.

    python benchmarks/windows.py [--quick]

One layer's attention, forward and backward pass, as in Gemma 3 4B: 8 heads of 256 over 4 of keys and values, a sequence
of 4,096 (`--quick`: 2,048), windows of 512 and 1,024; fp32 on a CPU, bf16 on a GPU. The contestants take turns:

- `ours`: our `CoreAttention`;
- `mask`: torch's `scaled_dot_product_attention` with the window's mask of seq x seq, made once;
- `whole`: the same over the whole sequence, causal, without a window.

The first two must agree. Shown are the best and the median of 5 turns (`--quick`: 2).
"""

import argparse
import json
import os

import torch
from documents import CLOSE, compete, fused
from megatron.core.transformer import TransformerConfig
from megatron.core.transformer.enums import AttnMaskType

from nemo_adapt import devices
from nemo_adapt.artifact import versions
from nemo_adapt.model.attention import CoreAttention

HEADS, KV_HEADS, DIM = 8, 4, 256
WINDOWS = (512, 1024)


def compared(length: int, window: int, turns: int) -> str:
    """Run all contestants with one window; print them and return a line of ratios."""
    device = devices.best_device()
    dtype = torch.bfloat16 if devices.on_gpu() else torch.float32
    query, key, value = (
        torch.randn(length, 1, heads, DIM, device=device, dtype=dtype, requires_grad=True)
        for heads in (HEADS, KV_HEADS, KV_HEADS)
    )
    config = TransformerConfig(num_layers=1, hidden_size=HEADS * DIM, num_attention_heads=HEADS, attention_dropout=0.0)
    ours = CoreAttention(config, 1, AttnMaskType.causal, "self", windows=(window,))
    mask = torch.ones(length, length, dtype=torch.bool, device=device).tril().triu(1 - window)
    took, given = compete(
        {
            "ours": lambda: ours._attend(query, key, value),
            "mask": lambda: fused(query, key, value, attn_mask=mask),
            "whole": lambda: fused(query, key, value, is_causal=True),
        },
        turns,
        f"window of {window:,} in {length:,} tokens",
    )
    torch.testing.assert_close(given["ours"], given["mask"], rtol=0, atol=CLOSE[dtype])
    best = {name: min(spent) / min(took["ours"]) for name, spent in took.items()}
    return f"window {window:,}: mask {best['mask']:.2f}x, whole {best['whole']:.2f}x of ours"


def main() -> None:
    """Run the benchmark with each window."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    threads = f"{torch.get_num_threads()} threads"
    print(f"versions: {json.dumps(versions())}, {os.cpu_count()} cores, {threads}, load {os.getloadavg()[0]:.1f}")
    found = [compared(2048 if quick else 4096, window, 2 if quick else 5) for window in WINDOWS]
    print(f"summary: {'; '.join(found)}")


if __name__ == "__main__":
    main()
