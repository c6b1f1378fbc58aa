"""Find the auxiliary data that strategies need, and make their plans with it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import nemo_adapt.resize.strategies  # noqa: F401  (registers them)
from nemo_adapt.collectives import all_gather
from nemo_adapt.config import ResizeConfig
from nemo_adapt.errors import UserError
from nemo_adapt.families.family import INPUT
from nemo_adapt.hf_model.model_config import read_config
from nemo_adapt.resize.plan import Materials, RowPlan, strategies
from nemo_adapt.resize.shared_rows import plan_on_ranks
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

        Call it on all ranks, for the same tables in the same order: some strategies share the work among them. Every
        rank gets the whole plan, and uses its own rows.
        """
        name = config.input if table == INPUT else config.output
        chosen = strategies.get(name)
        files = {need: self.auxiliary.get(need, Path()) / f"{need}.npz" for need in chosen.needs}
        for need, file in files.items():
            if need not in self.auxiliary or not file.is_file():
                raise UserError(f"resize.{table}={name} needs auxiliary/{need}: run the auxiliary stage first")
        made_of = _made_of(config, token_map, files)
        if chosen.make_rows and all(all_gather(name in _made and _made[name][0] == made_of)):
            return _made[name][1]
        arrays = {need: dict(np.load(file, allow_pickle=False)) for need, file in files.items()}
        said = read_config(self.model_folder).get("initializer_range")
        spread = LLAMA_RANGE if said is None else float(said)
        materials = Materials(token_map, table, config.seed, spread, config, arrays)
        if not chosen.make_rows:
            return chosen.plan(materials)
        _made[name] = made_of, plan_on_ranks(name, chosen.make_rows, materials)
        return _made[name][1]


_made: dict[str, tuple[Any, RowPlan]] = {}
"""Strategy by rows -> what its latest plan was made of, and the plan, which the runs of a probe need again."""


def _made_of(config: ResizeConfig, token_map: TokenMap, files: Mapping[str, Path]) -> Any:
    """Return what decides such a plan, to compare; files are told apart by the time of their last change."""
    settings = {key: value for key, value in vars(config).items() if key not in ("input", "output", "seed")}
    return settings, token_map, [(file, file.stat().st_mtime_ns, file.stat().st_size) for file in files.values()]
