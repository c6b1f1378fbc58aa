"""What strategies need made beforehand, and handing it to them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

import nemo_adapt.resize.strategies  # noqa: F401  (registers them)
from nemo_adapt.artifact import Inputs
from nemo_adapt.config import ResizeConfig
from nemo_adapt.errors import UserError
from nemo_adapt.families.family import INPUT
from nemo_adapt.hf_folder import read_config
from nemo_adapt.resize.plan import Materials, RowPlan, strategies
from nemo_adapt.token_map import TokenMap

PREFIX = "auxiliary."
"""Before the kind, in the names of a stage's inputs."""
LLAMA_RANGE = 0.02
"""``initializer_range`` of a config.json that does not say: Llama's default in transformers."""


def auxiliary_of(inputs: Inputs) -> dict[str, Path]:
    """The folders of auxiliary data among a stage's inputs, by kind."""
    return {name.removeprefix(PREFIX): paths[0] for name, paths in inputs.items() if name.startswith(PREFIX)}


@dataclass(frozen=True)
class Supplies:
    """Where a strategy's materials lie."""

    model_folder: Path
    """The base model."""
    auxiliary: Mapping[str, Path] = field(default_factory=dict)
    """Folders of auxiliary data by kind."""

    def plan(self, config: ResizeConfig, table: str, token_map: TokenMap) -> RowPlan:
        """The plan of the configured strategy for ``table``; ``UserError`` where something it needs is not there.

        It is the same wherever it is made: a rank makes all of it, and uses its own rows.
        """
        name = config.input if table == INPUT else config.output
        chosen = strategies.get(name)
        arrays = {}
        for need in chosen.needs:
            file = self.auxiliary.get(need, Path()) / f"{need}.npz"
            if need not in self.auxiliary or not file.is_file():
                raise UserError(f"resize.{table}={name} needs auxiliary/{need}: run the auxiliary stage first")
            arrays[need] = dict(np.load(file, allow_pickle=False))
        spread = float(read_config(self.model_folder).get("initializer_range", LLAMA_RANGE))
        return chosen.plan(Materials(token_map, table, config.seed, spread, config, arrays))
