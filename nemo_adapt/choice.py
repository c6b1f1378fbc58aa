"""The strategy that the probe chose: written by ``probe``, read where ``resize.input=probed``."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from nemo_adapt.artifact import Inputs, write_json
from nemo_adapt.config import Config, ResizeConfig
from nemo_adapt.errors import UserError

PROBED = "probed"
"""The value of ``resize.input`` that stands for the probe's choice, for both tables."""
FILE_NAME = "choice.json"


@dataclass(frozen=True)
class Choice:
    """Strategies for the two tables."""

    input: str
    output: str

    @property
    def name(self) -> str:
        """``mean``, or ``mean+zero`` where the tables have different strategies."""
        return self.input if self.input == self.output else f"{self.input}+{self.output}"

    @classmethod
    def of(cls, name: str) -> "Choice":
        """The strategies that a name stands for: ``input+output``, or one for both tables."""
        first, _, second = name.partition("+")
        return cls(first, second or first)

    @classmethod
    def of_config(cls, resize: ResizeConfig) -> "Choice":
        """The strategies that a configuration names."""
        return cls(resize.input, resize.output)

    def applied(self, resize: ResizeConfig) -> ResizeConfig:
        """``resize`` with these strategies."""
        return replace(resize, input=self.input, output=self.output)

    def save(self, folder: Path) -> None:
        """Write ``folder/choice.json``."""
        write_json(folder / FILE_NAME, asdict(self))


def with_choice(config: Config, inputs: Inputs) -> Config:
    """``config`` itself, or with the strategies that the probe's folder in ``inputs`` names."""
    if config.resize.input != PROBED:
        return config
    path = inputs["probe"][0] / FILE_NAME
    if not path.is_file():
        raise UserError(f"resize.input={PROBED}, but {path} does not exist: run the probe stage first")
    choice = Choice(**json.loads(path.read_text(encoding="utf-8")))
    return replace(config, resize=choice.applied(config.resize))
