"""A Hugging Face folder as a model of transformers: from safetensors, without code of the folder's own."""

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.utils import logging

from nemo_adapt.errors import UserError


def load(folder: Path, dtype: torch.dtype | str, **settings: Any) -> PreTrainedModel:
    """Load the causal language model in ``folder``. ``dtype``, ``settings``: those of ``from_pretrained``.

    Raises ``UserError`` for a model that needs code of its own, for other kinds of weights than safetensors, and when
    weights are missing, damaged or do not fit config.json.
    """
    logging.disable_progress_bar()
    try:
        model, info = AutoModelForCausalLM.from_pretrained(
            folder,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            dtype=dtype,
            output_loading_info=True,
            **settings,
        )
    except (OSError, ValueError, RuntimeError, ImportError, SafetensorError) as error:  # ImportError: quantized models
        said = str(error).strip().partition("\n")[0]
        raise UserError(f"{folder}: the model cannot be loaded: {said}") from None
    if info["missing_keys"]:
        raise UserError(f"{folder} has no weights for {', '.join(sorted(info['missing_keys'])[:3])}")
    return model
