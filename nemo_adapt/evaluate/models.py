"""The models under test: plain transformers models from local folders with safetensors."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    GenerationConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from nemo_adapt import hf_tokenizer
from nemo_adapt.config.layout import window_size
from nemo_adapt.devices import best_device, gpu_memory
from nemo_adapt.errors import UserError, one_line
from nemo_adapt.hf_model import transformers_model
from nemo_adapt.hf_model.model_config import read_config
from nemo_adapt.hf_model.model_files import read_generation
from nemo_adapt.hf_model.weight_files import WEIGHTS_SHARE, weight_bytes
from nemo_adapt.tokens import documents


@dataclass(frozen=True)
class Candidate:
    """A model that was checked but not loaded, its tokenizer, and its (text) config."""

    folder: Path
    tokenizer_path: Path
    tokenizer: PreTrainedTokenizerFast
    settings: PretrainedConfig

    @property
    def positions(self) -> int | None:
        """The model's context length in tokens; ``None`` if its config names no limit."""
        return getattr(self.settings, "max_position_embeddings", None)


def inspect(folder: Path, tokenizer_path: Path) -> Candidate:
    """Read the config and the tokenizer of a model, but not its weights.

    Raises ``UserError`` for a folder without config.json or safetensors, an architecture that transformers does not
    know, and a tokenizer with ids beyond the rows of the model's embedding, but for special tokens.
    """
    read_config(folder)
    if not any(folder.glob("*.safetensors")):
        raise UserError(f"{folder} has no safetensors file: other kinds of weights are not loaded")
    try:
        settings = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False).get_text_config()
    except Exception as error:  # its checks of types and values raise classes of their own
        raise UserError(f"{folder}: transformers cannot read config.json: {one_line(error)}; correct it") from None
    tokenizer = hf_tokenizer.load(tokenizer_path)
    needed = documents.rows_of_text(tokenizer)
    if settings.vocab_size < needed:
        raise UserError(
            f"model {folder} has {settings.vocab_size} vocabulary rows but tokenizer {tokenizer_path} has ids up to "
            f"{needed - 1}: they do not belong together"
        )
    return Candidate(folder, tokenizer_path, tokenizer, settings)


def load(candidate: Candidate) -> PreTrainedModel:
    """Load a model for evaluation: in float32 on a CPU, in the checkpoint's own dtype on a GPU, or on several where the
    weights are too large for one.

    Generation is greedy whatever the folder's generation_config.json says. Raises ``UserError`` as
    ``transformers_model.load`` does, and for weights that do not fit the GPUs.
    """
    device, spread = best_device(), _spread(candidate.folder, gpu_memory())
    model = transformers_model.load(candidate.folder, torch.float32 if device.type == "cpu" else "auto", **spread)
    if spread and not set(model.hf_device_map.values()) <= set(spread["max_memory"]):
        raise _too_large(candidate.folder, gpu_memory())  # accelerate has put some layers elsewhere
    end = documents.end_id(candidate.tokenizer)
    model.generation_config = GenerationConfig(do_sample=False, eos_token_id=end, pad_token_id=end)
    _suppress_padded(model, candidate)
    return (model if spread else model.to(device)).eval()


def _suppress_padded(model: PreTrainedModel, candidate: Candidate) -> None:
    """Give padded rows (``export.pad_vocab_to``) no probability: they are zeros, and their logits, 0, could be the
    largest. The folder's generation config names them; they are beyond the tokenizer's ids."""
    size = documents.vocabulary_size(candidate.tokenizer)
    padded = [row for row in read_generation(candidate.folder).get("suppress_tokens") or [] if row >= size]
    if padded:

        def suppress(module: Any, inputs: Any, out: Any) -> None:
            out.logits[..., padded] = -torch.inf

        model.register_forward_hook(suppress)


def _spread(folder: Path, memory: Sequence[int]) -> dict[str, Any]:
    """Return the settings with which transformers and accelerate spread a model's layers over GPUs of ``memory`` bytes;
    none if one device holds it. ``UserError`` if they do not fit."""
    rooms = {number: int(WEIGHTS_SHARE * size) for number, size in enumerate(memory)}
    needed = weight_bytes(folder)
    if not rooms or needed <= min(rooms.values()):
        return {}
    if needed > (sum(rooms.values()) if len(rooms) > 1 else memory[0]):
        raise _too_large(folder, memory)
    return {"device_map": "balanced", "max_memory": rooms} if len(rooms) > 1 else {}


def _too_large(folder: Path, memory: Sequence[int]) -> UserError:
    needed, has = f"{weight_bytes(folder) / 2**30:.0f} GiB", f"{len(memory)} x {min(memory) / 2**30:.0f} GiB"
    return UserError(
        f"{folder}: {needed} of weights do not fit into the memory of this machine's GPUs, {has}: take one with more, "
        "or set CUDA_VISIBLE_DEVICES= to compute on the CPU"
    )


def context_window(asked: int, otherwise: int, candidates: Iterable[Candidate]) -> int:
    """Return the tokens per window, the same for all models, by ``window_size``. Raises ``UserError`` when ``asked``
    exceeds the context of a model.
    """
    limits = [candidate.positions for candidate in candidates if candidate.positions]
    if asked and asked > min(limits, default=asked):
        raise UserError(f"evaluate.context={asked}: the model reads at most {min(limits)} tokens at once")
    return window_size(asked, otherwise, limits)
