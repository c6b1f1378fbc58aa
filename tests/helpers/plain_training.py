"""Training in one process with transformers and torch's AdamW alone: what ours must be equal to.

It shares no code with ours but the reading of settings. Documents that are apart are sequences of their own.
"""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from nemo_adapt.config import PhaseConfig, TrainConfig
from nemo_adapt.config.phases import ALL, EMBEDDINGS, NEW_ROWS, Trained, lr_factors, trained
from nemo_adapt.families.family import OUTPUT

EPSILON = 1e-8
"""Adam's; Megatron's default."""
GRADIENT_ERROR = 1e-5
"""Of an fp32 gradient, relative to its tensor's largest: what is rounded are the terms of its sum, which may cancel. It
is a hundred of their last bits."""
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
NAMES = {"*word_embeddings*": "embed_tokens", "*.mlp.*": ".mlp.", "*linear_proj*": "o_proj"}
"""Patterns for ``train.no_weight_decay``, each with a part of the Hugging Face names of the same parameters."""
LAYER = re.compile(r"\.layers\.(\d+)\.")


@dataclass
class Plain:
    """Losses (nats per counted label) and gradient norms by step; weights by Hugging Face names."""

    losses: list[float] = field(default_factory=list)
    grad_norms: list[float] = field(default_factory=list)
    start: dict[str, torch.Tensor] = field(default_factory=dict)
    weights: dict[str, torch.Tensor] = field(default_factory=dict)
    """Those at the end."""
    spread: dict[str, torch.Tensor] = field(default_factory=dict)
    """How far each weight may come out elsewhere in fp32, see ``_spread``; 0 if it is never trained."""


@dataclass
class _Part:
    """A trained parameter, or its new rows."""

    name: str
    parameter: torch.nn.Parameter
    rows: slice
    main: torch.nn.Parameter
    """The fp32 copy that Adam updates."""
    largest: float = 0.0
    """Largest gradient so far."""


def train(folder: Path, train: TrainConfig, first_new: int, samples: Sequence[Any], end: int) -> Plain:
    """Train the Hugging Face model in ``folder`` through all phases.

    Rows from ``first_new`` on are new; samples have ``tokens`` and ``labels`` [seq], and ``end`` ends a document.
    """
    dtype = DTYPES[train.precision]
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation="eager").train()
    answer, done = Plain(), 0
    for name, weight in model.named_parameters():
        answer.start[name], answer.spread[name] = weight.detach().float().clone(), torch.zeros(weight.shape)
    for phase in train.phases:
        parts, optimizer = _started(model, train, phase, first_new)
        for step in range(1, phase.steps + 1):
            of_step = [samples[done * train.global_batch + number] for number in range(train.global_batch)]
            answer.losses.append(_accumulate(model, parts, of_step, train, end))
            grads = [part.main.grad for part in parts]
            answer.grad_norms.append(float(torch.nn.utils.get_total_norm(grads)))
            if train.clip_grad:
                torch.nn.utils.clip_grad_norm_([part.main for part in parts], train.clip_grad)
            rate = _rate(train, phase, step)
            for group in optimizer.param_groups:
                group["lr"] = rate * group["factor"]
            optimizer.step()
            for part, group in zip(parts, optimizer.param_groups, strict=True):
                part.parameter.detach()[part.rows] = part.main.detach().to(dtype)
                moments = optimizer.state[part.main]
                answer.spread[part.name][part.rows] += _spread(part, group["lr"], moments, train.adam_beta2)
            done += 1
    answer.weights = {name: weight.detach().float() for name, weight in model.named_parameters()}
    return answer


def _started(
    model: Any, train: TrainConfig, phase: PhaseConfig, first_new: int
) -> tuple[list[_Part], torch.optim.Optimizer]:
    """Return what the phase trains, and an AdamW with a group for each part, with its ``factor`` and decay."""
    what, parts, groups = trained(phase), [], []
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(True)
        parameter.grad = None
        only_new = NEW_ROWS in what.kinds and _tables(model, parameter)
        if not (only_new or _is_named(model, name, parameter, what)):
            continue
        rows = slice(first_new if only_new else 0, None)
        main = torch.nn.Parameter(parameter.detach()[rows].float().clone())
        factor = 1.0
        for of_factor, value in lr_factors(phase):
            if _is_named(model, name, parameter, of_factor):
                factor = value
        no_decay = parameter.dim() == 1 or any(NAMES[pattern] in name for pattern in train.no_weight_decay)
        decay = 0.0 if no_decay else train.weight_decay
        parts.append(_Part(name, parameter, rows, main))
        groups.append({"params": [main], "factor": factor, "weight_decay": decay})
    betas = (train.adam_beta1, train.adam_beta2)
    return parts, torch.optim.AdamW(groups, lr=0.0, betas=betas, eps=EPSILON)


def _tables(model: Any, parameter: torch.Tensor) -> set[str]:
    """Return which tables the parameter is."""
    places = {EMBEDDINGS: model.get_input_embeddings(), OUTPUT: model.get_output_embeddings()}
    return {kind for kind, module in places.items() if module.weight is parameter}


def _is_named(model: Any, name: str, parameter: torch.Tensor, what: Trained) -> bool:
    """Whether ``what`` names the whole parameter."""
    tables, layer = _tables(model, parameter), LAYER.search(name)
    return bool(
        ALL in what.kinds
        or (EMBEDDINGS in what.kinds and tables)
        or (OUTPUT in what.kinds and OUTPUT in tables)
        or (layer and int(layer[1]) in what.layers)
    )


def _accumulate(
    model: Any, parts: list[_Part], samples: Sequence[dict[str, torch.Tensor]], train: TrainConfig, end: int
) -> float:
    """Set the gradients of one step's loss in the parts' ``main``; return its nats per counted label.

    The loss that is differentiated is the mean over all positions: those that do not count add nothing to it.
    """
    spans = [span for sample in samples for span in _spans(sample, train, end)]
    tokens, labels, places = (torch.nn.utils.rnn.pad_sequence(each, True) for each in zip(*spans, strict=True))
    counted = torch.arange(tokens.shape[1]) < torch.tensor([[len(span[0])] for span in spans])
    if train.mask_document_ends:
        counted &= tokens != end
    # Without a mask, transformers looks for documents in the positions.
    logits = model(tokens, attention_mask=torch.ones_like(tokens), position_ids=places).logits.float()
    nats = torch.nn.functional.cross_entropy(logits.mT, labels, reduction="none")
    losses = nats + train.z_loss * logits.logsumexp(-1).square()
    (losses[counted].sum() / sum(len(sample["tokens"]) for sample in samples)).backward()
    for part in parts:
        assert part.parameter.grad is not None
        part.main.grad = part.parameter.grad[part.rows].float()
    model.zero_grad()
    return float(nats.detach()[counted].double().mean())


def _spans(
    sample: dict[str, torch.Tensor], train: TrainConfig, end: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Yield tokens, labels and positions of what attends only to itself: the documents of a sample, or all of it."""
    tokens, labels = sample["tokens"], sample["labels"]
    ends = [place + 1 for place in (tokens == end).nonzero()[:, 0].tolist() if place + 1 < len(tokens)]
    spans = [slice(*span) for span in pairwise([0, *ends, len(tokens)])]
    places = torch.arange(len(tokens))
    if train.reset_positions:
        places = torch.cat([torch.arange(span.stop - span.start) for span in spans])
    for span in spans if train.reset_attention else [slice(0, len(tokens))]:
        yield tokens[span], labels[span], places[span]


def _rate(train: TrainConfig, phase: PhaseConfig, step: int) -> float:
    """Return the learning rate of a phase's ``step``, from 1 to its number of steps."""
    peak, lowest = phase.lr, phase.lr * train.min_lr_share
    warmup = min(phase.steps - 1, round(train.warmup_share * phase.steps))
    if step <= warmup:
        return peak * step / warmup
    share = (step - warmup) / (phase.steps - warmup)
    if train.schedule == "wsd":
        decay = max(1, round(train.decay_share * phase.steps))
        share = max(0.0, (step - phase.steps + decay) / decay)
    if train.schedule == "cosine":
        share = (1 - math.cos(math.pi * share)) / 2
    is_constant = train.schedule == "constant" or phase.steps == 1
    return peak if is_constant else peak + (lowest - peak) * share


def _spread(part: _Part, lr: float, moments: dict[str, torch.Tensor], beta2: float) -> torch.Tensor:
    """Return by how much Adam's last step may differ if gradients are off by ``GRADIENT_ERROR``.

    Adam divides a gradient by its size. Where it is nearly zero, rounding may turn its sign, and the step differs by up
    to twice the learning rate; where it is not, by next to nothing.
    """
    part.largest = max(part.largest, float(part.main.grad.abs().max()))
    sizes = (moments["exp_avg_sq"] / (1 - beta2 ** float(moments["step"]))).sqrt() + EPSILON
    return lr * (2 * GRADIENT_ERROR * part.largest / sizes).clamp(max=2.0)
