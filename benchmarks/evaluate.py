"""Bits per byte: our scoring against lm-evaluation-harness's Hugging Face backend, same model, same texts, same batch.

    python benchmarks/evaluate.py [--quick]

Two models: stories260K (260K parameters, 512 tokens) and a Llama of random weights with Llama-2's 32,000 tokens; texts
from NEMO_ADAPT_DATA. The two take turns, and each ratio is of the medians of one run. Documents are sentences that
fit into a window, so that both score every token with its full context.
"""

import argparse
import contextlib
import importlib.metadata
import io
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import LlamaConfig, LlamaForCausalLM

from nemo_adapt import hf_tokenizer
from nemo_adapt.devices import best_device, synchronize
from nemo_adapt.evaluate import bits_per_byte, models

try:
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM
except ImportError:
    print("nothing to compare with: pip install 'nemo-adapt[eval]'")
    raise SystemExit(0) from None

DATA = Path(os.environ.get("NEMO_ADAPT_DATA", "../shared/data"))
BATCH, WINDOW = 16, 512


def stories() -> tuple[Any, Any]:
    candidate = models.inspect(DATA / "weights/stories260K", DATA / "weights/stories260K")
    return models.load(candidate), candidate.tokenizer


def random_llama() -> tuple[Any, Any]:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=32000, hidden_size=256, intermediate_size=688, num_hidden_layers=4, num_attention_heads=4,
        max_position_embeddings=WINDOW,
    )  # fmt: skip
    return LlamaForCausalLM(config).to(best_device()).eval(), hf_tokenizer.load(DATA / "tokenizers/llama2")


def seconds(work: Callable[[], float]) -> tuple[float, float]:
    synchronize()
    began = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        value = work()
    synchronize()
    return time.perf_counter() - began, value


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="a quarter of the text, one repetition")
    quick = parser.parse_args().quick
    transformers.utils.logging.set_verbosity_error()
    print(f"lm_eval {importlib.metadata.version('lm_eval')}, torch {torch.__version__}, {best_device()}, ", end="")
    print(f"{torch.get_num_threads()} threads, batch {BATCH}, window {WINDOW}\n")
    print("| model | text | documents | lm_eval, s | ours, s | ratio | bits/byte, lm_eval | ours |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    ratios = []
    for name, make, size in (("stories260K", stories, 40_000), ("random Llama, 32K tokens", random_llama, 8_000)):
        model, tokenizer = make()
        harness = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=BATCH, max_length=WINDOW, add_bos_token=False)
        for language in ("en", "tr"):
            texts = bits_per_byte.read_text(DATA / f"text/{language}.heldout.txt", size // 4 if quick else size)
            total = sum(len(text.encode()) for text in texts)
            requests = [Instance("loglikelihood_rolling", {}, (text,), number) for number, text in enumerate(texts)]

            def theirs(harness: Any = harness, requests: Any = requests, total: int = total) -> float:
                nats = -sum(harness.loglikelihood_rolling(requests, disable_tqdm=True))
                return nats / total / 0.6931471805599453

            def ours(model: Any = model, tokenizer: Any = tokenizer, texts: Any = texts) -> float:
                return bits_per_byte.score(model, tokenizer, texts, WINDOW, BATCH).bits_per_byte

            runs = [(seconds(theirs), seconds(ours)) for _ in range(1 if quick else 3)]
            slow, fast = (statistics.median(run[side][0] for run in runs) for side in (0, 1))
            values = [runs[0][side][1] for side in (0, 1)]
            ratios.append(slow / fast)
            shown = f"{slow:.2f} | {fast:.2f} | {slow / fast:.2f} | {values[0]:.4f} | {values[1]:.4f}"
            print(f"| {name} | {language} | {len(texts):,} | {shown} |", flush=True)
    print(f"\nlm_eval over ours: {min(ratios):.2f} to {max(ratios):.2f} times")


if __name__ == "__main__":
    main()
