"""The folder of a run: where each stage's result is, and which recipe the folder belongs to."""

import os
from dataclasses import dataclass
from pathlib import Path

from nemo_adapt.config import Config, recipes
from nemo_adapt.corpora.mixture import text_sets
from nemo_adapt.errors import UserError
from nemo_adapt.files import write_text
from nemo_adapt.machine import ranks


@dataclass(frozen=True)
class RunFolder:
    """``runs/NAME``, with the layout described in docs/architecture.md."""

    root: Path
    export_to: str = ""
    """``export.dir``: folder of the exported model, if it is not the run's ``export``."""

    @classmethod
    def of(cls, config: Config) -> "RunFolder":
        """Return the folder of a configuration's run."""
        return cls(Path(config.run.dir) / config.run.name, config.export.dir)

    def __getitem__(self, result: str) -> Path:
        """Return the folder of a result: ``tokenizer``, ``data/target``, ``convert``, ``train``, ``export``, …"""
        return Path(self.export_to) if result == "export" and self.export_to else self.root / result

    def share(self, result: str, place: Path) -> Path:
        """Link ``result`` in this folder to ``place``, where the shared result is kept; return ``place``.

        ``UserError`` where the run already has its own result.
        """
        link = self.root / result
        if link.exists() and not link.is_symlink():
            raise UserError(f"{link} was made before run.shared was given: delete it, or choose another run.name")
        link.parent.mkdir(parents=True, exist_ok=True)
        fresh = link.with_name(f".{link.name}.{os.getpid()}")
        fresh.symlink_to(os.path.relpath(place, link.parent.resolve()))
        fresh.replace(link)
        return place

    @property
    def config(self) -> Path:
        """File of the resolved configuration, as YAML."""
        return self.root / "config.yaml"


def data_folders(config: Config, run: RunFolder) -> dict[str, Path]:
    """Return the folder of each text set, once it is tokenized."""
    return {name: run[f"data/{name}"] for name in text_sets(config)}


def check_recipe(run: RunFolder, config: Config) -> None:
    """Raise ``UserError`` if another recipe made the run's folder."""
    if run.config.is_file():
        before = recipes.read(run.config).recipe
        if before != config.recipe:
            raise UserError(
                f"{run.root} was made with recipe {before!r}, not {config.recipe!r}: choose another run.name, "
                "or delete the folder"
            )


def save_config(run: RunFolder, config: Config) -> None:
    """Save the configuration in the run's folder (rank 0), once a stage has accepted it: ``status`` reads it there."""
    if ranks.is_first():
        run.root.mkdir(parents=True, exist_ok=True)
        write_text(run.config, recipes.to_yaml(config))


def claim(run: RunFolder, config: Config) -> None:
    """Save the configuration in the run's folder (rank 0); ``UserError`` if another recipe made the folder."""
    check_recipe(run, config)
    save_config(run, config)
