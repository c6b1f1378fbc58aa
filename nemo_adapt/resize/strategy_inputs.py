"""Find the auxiliary data that strategies need, and make their plans with it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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
        files = {need: self.auxiliary.get(need, Path()) / f"{need}.npz" for need in chosen.needs}
        for need, file in files.items():
            if need not in self.auxiliary or not file.is_file():
                raise UserError(f"resize.{table}={name} needs auxiliary/{need}: run the auxiliary stage first")
        made_of = _made_of(config, token_map, files)
        if name in _made and _made[name][0] == made_of:
            return _made[name][1]
        arrays = {need: dict(np.load(file, allow_pickle=False)) for need, file in files.items()}
        said = read_config(self.model_folder).get("initializer_range")
        spread = LLAMA_RANGE if said is None else float(said)
        found = chosen.plan(Materials(token_map, table, config.seed, spread, config, arrays))
        if chosen.one_for_all:
            _made[name] = made_of, found
        return found


_made: dict[str, tuple[Any, RowPlan]] = {}
"""Strategy whose plan serves all tables -> what its latest one was made of, and the plan. It may take hours for a large
vocabulary, and a probe would make it for each table of each run."""


def _made_of(config: ResizeConfig, token_map: TokenMap, files: Mapping[str, Path]) -> Any:
    """Return what decides such a plan, to compare; files are told apart by the time of their last change."""
    settings = {key: value for key, value in vars(config).items() if key not in ("input", "output", "seed")}
    return settings, token_map, [(file, file.stat().st_mtime_ns, file.stat().st_size) for file in files.values()]
