"""Build the adapted model for train and resize: this rank's part, with weights from the converted checkpoint."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from nemo_adapt.checkpoint.integrity import repair_advice
from nemo_adapt.checkpoint.metadata import Damaged
from nemo_adapt.config import Config
from nemo_adapt.errors import UserError
from nemo_adapt.families.family import Shape
from nemo_adapt.hf_model.model_config import read_shape
from nemo_adapt.model.build import build_model
from nemo_adapt.resize.load import load_resized
from nemo_adapt.resize.strategy_inputs import StrategyInputs
from nemo_adapt.tokens.token_map import TokenMap
from nemo_adapt.tokens.vocab import padded_rows, target_rows


def adapted_shape(model_folder: Path, token_map: TokenMap) -> Shape:
    """Return the adapted model's shape: the base's, with the rows of the extended tokenizer (not padded)."""
    _, base = read_shape(model_folder)
    return replace(base, vocab=target_rows(base, token_map))


def build_adapted(config: Config, shape: Shape) -> list[Any]:
    """Build this rank's part of the adapted model, weights not set: one GPTModel, or several interleaved ones."""
    padded = padded_rows(shape.vocab, config.resize.padded_vocab_multiple, config.parallel.tp)
    return build_model(shape, config.parallel, config.train, shape.vocab, padded)


def load_adapted(
    config: Config, model_folder: Path, checkpoint: Path, tokenizer: Path, auxiliary: Mapping[str, Path] | None = None
) -> tuple[list[Any], Shape]:
    """Build the adapted model and load ``checkpoint`` into it with resized tables; return it with its shape.

    ``auxiliary``: kind -> folder of data that the strategies need. Raises ``UserError`` if a file of the checkpoint is
    damaged, and as ``load_resized`` does.
    """
    token_map = TokenMap.load(tokenizer)
    shape = adapted_shape(model_folder, token_map)
    chunks = build_adapted(config, shape)
    try:
        load_resized(chunks, checkpoint, token_map, config.resize, StrategyInputs(model_folder, auxiliary or {}))
    except Damaged as error:
        raise UserError(f"{error}: {repair_advice(checkpoint)}") from None
    return chunks, shape
