"""The loops that benchmarks/train.py compares, each a process that makes a step for every line on its stdin.

    python benchmarks/peers/training_loops.py JSON

JSON has a ``Size``, a folder, and a ``Contestant``; without a contestant, the folder is filled with the loops' inputs.
"""

import json
import math
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from nemo_adapt import devices
from nemo_adapt.config import Config, ParallelConfig, PhaseConfig, TrainConfig
from nemo_adapt.machine.facts import peak_memory_mib

SCHEDULE_STEPS, LR = 1000, 1e-3
MASKLESS = "causal_sdpa"
"""The name under which the transformers loop's attention is registered."""


@dataclass(frozen=True)
class Size:
    """A model's size and the batches it is trained on."""

    name: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    ffn: int
    vocab: int
    tied: bool
    seq: int
    global_batch: int
    micro_batch: int
    precision: str = "fp32"
    new_rows: int = 0
    """The number of last rows of the tables that alone are trained; 0: everything is trained."""

    @property
    def tokens(self) -> int:
        """Tokens of a step."""
        return self.global_batch * self.seq


@dataclass(frozen=True)
class Contestant:
    """The loop of a contestant, its ranks and layout, and the threads of each rank."""

    loop: str
    threads: int
    tp: int = 1
    dp: int = 1
    cp: int = 1
    stage_layers: tuple[int, ...] = ()
    """Layers of each pipeline stage; empty: no pipeline."""
    compiled: bool = True
    """On a GPU: with torch.compile."""

    @property
    def ranks(self) -> int:
        """Number of its processes."""
        return self.tp * self.dp * self.cp * self.pp

    @property
    def pp(self) -> int:
        """Number of pipeline stages."""
        return len(self.stage_layers) or 1

    def __str__(self) -> str:
        sizes = {name: getattr(self, name) for name in ("tp", "dp", "cp", "pp")}
        layout = "".join(f" {name.upper()}{size}" for name, size in sizes.items() if size > 1)
        layout += f" of {' + '.join(map(str, self.stage_layers))} layers" * (self.pp > 1)
        loop = self.loop if self.compiled else f"{self.loop} uncompiled"
        return f"{loop}{layout}, {self.ranks} x {self.threads} threads".replace(" 1 threads", " 1 thread")


def train_config(size: Size) -> TrainConfig:
    """Return the settings of both loops; the others have their defaults. Kept rows must not decay."""
    return TrainConfig(
        phases=[PhaseConfig("new_rows" if size.new_rows else "all", SCHEDULE_STEPS, LR)],
        weight_decay=0.0 if size.new_rows else TrainConfig.weight_decay,
        seq_length=size.seq,
        global_batch=size.global_batch,
        micro_batch=size.micro_batch,
        warmup_share=0.0,
        precision=size.precision,
    )


class Samples:
    """``tokens`` and ``labels`` by sample number, the same for all loops; the most frequent id is one token in 14."""

    def __init__(self, size: Size, count: int) -> None:
        chances = 1.0 / torch.arange(1, size.vocab + 1)
        draw = torch.Generator().manual_seed(0)
        self.drawn = torch.multinomial(chances, count * (size.seq + 1), replacement=True, generator=draw)
        self.drawn = self.drawn.view(count, size.seq + 1)

    def __getitem__(self, number: int) -> dict[str, torch.Tensor]:
        return {"tokens": self.drawn[number, :-1], "labels": self.drawn[number, 1:]}


def prepare(size: Size, place: Path) -> None:
    """Write a random model as a Hugging Face folder, its Megatron checkpoint, and a token map without new tokens."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from nemo_adapt import convert
    from nemo_adapt.model.build import DTYPES
    from nemo_adapt.tokens.token_map import TokenMap

    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=size.vocab, hidden_size=size.hidden, intermediate_size=size.ffn, num_hidden_layers=size.layers,
            num_attention_heads=size.heads, num_key_value_heads=size.kv_heads, max_position_embeddings=size.seq,
            tie_word_embeddings=size.tied, rms_norm_eps=1e-5, use_cache=False,
        )
    )  # fmt: skip
    model.to(DTYPES[size.precision]).save_pretrained(place / "model")
    for name in ("checkpoint", "tokenizer"):
        (place / name).mkdir()
    convert.build(Config(), {"model": [place / "model"]}, place / "checkpoint")
    TokenMap(size.vocab, []).save(place / "tokenizer")


def nemo_adapt(size: Size, place: Path, who: Contestant, steps: int) -> Iterator[float]:
    """Train with our loop; yield the loss of each step in nats per token, over all ranks."""
    from nemo_adapt.resize.adapted import load_adapted
    from nemo_adapt.train import loop
    from nemo_adapt.train.new_rows import RowRange
    from nemo_adapt.train.prepare import start_layout

    config = Config(train=train_config(size))
    config.parallel = ParallelConfig(who.tp, who.pp, stage_layers=list(who.stage_layers), cp=who.cp, dp=who.dp)
    layout = start_layout(config)
    chunks, _ = load_adapted(config, place / "model", place / "checkpoint", place / "tokenizer")
    token_bytes = torch.ones(size.vocab, dtype=torch.int64, device=devices.best_device())
    data = loop.TrainingData(Samples(size, steps * size.global_batch), layout, token_bytes)
    new = RowRange(size.vocab - size.new_rows, size.vocab)
    for made in loop.run(chunks, config.train.phases, config.train, new, data):
        yield made.result.nats / made.result.labels


def maskless_attention() -> str:
    """Register transformers' ``sdpa`` attention that never gets a mask; return its name.

    While torch.compile traces, transformers (before torch 2.14) makes a mask even for plain causal sequences. With a
    mask SDPA uses no flash kernel, and keys and values are copied for every query head. Uncompiled, both are the same.
    """
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    AttentionInterface.register(MASKLESS, sdpa_attention_forward)
    AttentionMaskInterface.register(MASKLESS, lambda *unused, **also: None)
    return MASKLESS


def transformers(size: Size, place: Path, who: Contestant, steps: int) -> Iterator[float]:
    """Train with a plain transformers loop; yield the loss of each step."""
    from transformers import LlamaForCausalLM

    from nemo_adapt.model.build import DTYPES

    torch.set_num_threads(who.threads)
    train, device = train_config(size), devices.best_device()
    model: Any = LlamaForCausalLM.from_pretrained(
        place / "model", dtype=DTYPES[size.precision], attn_implementation=maskless_attention()
    ).to(device)
    model.train()
    tables = {model.get_input_embeddings().weight, model.get_output_embeddings().weight} if size.new_rows else set()
    for parameter in model.parameters():
        parameter.requires_grad_(parameter in tables or not tables)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [each for each in trained if each.dim() > 1], "weight_decay": train.weight_decay},
        {"params": [each for each in trained if each.dim() == 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, LR, (train.adam_beta1, train.adam_beta2), eps=1e-8, fused=True)

    def share(step: int) -> float:
        """Return the cosine schedule's factor, down to ``min_lr_share``; Megatron counts a step before it is made."""
        cosine = 0.5 * (1.0 + math.cos(math.pi * (step + 1) / SCHEDULE_STEPS))
        return train.min_lr_share + (1.0 - train.min_lr_share) * cosine

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, share)
    forward = torch.compile(model) if devices.on_gpu() else model
    samples = Samples(size, steps * size.global_batch)
    micro_batches = size.global_batch // size.micro_batch
    for step in range(steps):
        nats = torch.zeros((), device=device)
        for micro in range(micro_batches):
            first = step * size.global_batch + micro * size.micro_batch
            batch = [samples[number] for number in range(first, first + size.micro_batch)]
            tokens, labels = (torch.stack([each[key] for each in batch]).to(device) for key in ("tokens", "labels"))
            loss = forward(input_ids=tokens, labels=labels, shift_labels=labels).loss / micro_batches
            loss.backward()
            nats += loss.detach()
        for table in tables:
            table.grad[: -size.new_rows] = 0.0  # so that Adam does not change these rows
        torch.nn.utils.clip_grad_norm_(trained, train.clip_grad)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        yield float(nats)


LOOPS = {"nemo_adapt": nemo_adapt, "transformers": transformers}


def child(size: Size, who: Contestant, place: Path, steps: int) -> None:
    """Run one process of a contestant: for every line on stdin make a step and write a JSON line about it."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # output of libraries must not mix with the answers
    stepping = LOOPS[who.loop](size, place, who, steps)
    for _ in sys.stdin:
        devices.synchronize()
        began = time.perf_counter()
        loss = next(stepping)
        devices.synchronize()
        answers.write(json.dumps({"loss": loss, "seconds": time.perf_counter() - began}) + "\n")
    facts = {"peak_mib": devices.peak_memory_mib() or peak_memory_mib(), "matmul_rate": 0.0}
    if devices.on_gpu():
        from nemo_adapt.model.build import DTYPES

        facts["matmul_rate"] = devices.matmul_rate(DTYPES[size.precision])
    answers.write(json.dumps(facts) + "\n")
    answers.close()
    os._exit(0)  # skips teardown, in which ranks would wait for each other


def main() -> None:
    """Prepare a folder or run a loop, as the JSON on the command line says."""
    given = json.loads(sys.argv[1])
    size, place = Size(**given["size"]), Path(given["place"])
    if "who" in given:
        child(size, Contestant(**given["who"]), place, given["steps"])
    else:
        prepare(size, place)


if __name__ == "__main__":
    main()
