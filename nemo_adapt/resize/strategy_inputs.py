"""Find the auxiliary data that strategies need, and make their plans with it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

import nemo_adapt.resize.strategies  # noqa: F401  (registers them)
from nemo_adapt.config import ResizeConfig
from nemo_adapt.errors import UserError
from nemo_adapt.families.family import INPUT
from nemo_adapt.hf_model.model_config import read_config
from nemo_adapt.resize.plan import Materials, RowPlan, strategies
from nemo_adapt.tokens.token_map import TokenMap

AUXILIARY = "auxiliary"
"""The group of a stage's inputs with the auxiliary data, by kind."""
LLAMA_RANGE = 0.02
"""``initializer_range`` if config.json has none, or null: Llama's default in transformers."""


@dataclass(frozen=True)
class StrategyInputs:
    """Folders of a strategy's input."""

    model_folder: Path
    """The base model."""
    auxiliary: Mapping[str, Path] = field(default_factory=dict)
    """Kind -> folder of auxiliary data."""

    def plan(self, config: ResizeConfig, table: str, token_map: TokenMap) -> RowPlan:
        """Return the plan of the configured strategy for ``table``; ``UserError`` if auxiliary data is missing.

        It is the same wherever it is made: every rank makes all of it, and uses its own rows.
        """
        name = config.input if table == INPUT else config.output
        chosen = strategies.get(name)
        arrays = {}
        for need in chosen.needs:
            file = self.auxiliary.get(need, Path()) / f"{need}.npz"
            if need not in self.auxiliary or not file.is_file():
                raise UserError(f"resize.{table}={name} needs auxiliary/{need}: run the auxiliary stage first")
            arrays[need] = dict(np.load(file, allow_pickle=False))
        said = read_config(self.model_folder).get("initializer_range")
        spread = LLAMA_RANGE if said is None else float(said)
        return chosen.plan(Materials(token_map, table, config.seed, spread, config, arrays))
