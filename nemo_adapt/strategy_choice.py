"""The probe's choice of strategies: written by ``probe``, read if ``resize.input=probed``."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path

from nemo_adapt.config import Config, ResizeConfig
from nemo_adapt.config.phases import LEARNED_FIRST
from nemo_adapt.errors import UserError, one_line
from nemo_adapt.files import read_object, write_json

PROBED = "probed"
"""The value of ``resize.input`` that selects the probe's choice for both tables."""
FILE_NAME = "choice.json"
REMEDY = "run the probe stage again"


@dataclass(frozen=True)
class StrategyChoice:
    """Strategies for the two tables: embedding and output layer."""

    input: str
    output: str

    @property
    def name(self) -> str:
        """``mean``, or ``mean+zero`` where the tables have different strategies."""
        return self.input if self.input == self.output else f"{self.input}+{self.output}"

    @classmethod
    def of(cls, name: str) -> "StrategyChoice":
        """Parse ``input+output``, or one name for both tables."""
        first, _, second = name.partition("+")
        return cls(first, second or first)

    @classmethod
    def of_config(cls, resize: ResizeConfig) -> "StrategyChoice":
        """Return the strategies of a configuration."""
        return cls(resize.input, resize.output)

    def applied(self, resize: ResizeConfig) -> ResizeConfig:
        """Return ``resize`` with these strategies."""
        return replace(resize, input=self.input, output=self.output)

    def save(self, folder: Path) -> None:
        """Write ``folder/choice.json``."""
        write_json(folder / FILE_NAME, asdict(self))


def takes_share(resize: ResizeConfig) -> bool:
    """Return whether a first phase takes a share of all steps (``resize.learned_share``), or may, once it is chosen."""
    return bool({resize.input, resize.output} & {PROBED, *LEARNED_FIRST})


def with_choice(config: Config, probe: Path | None) -> Config:
    """Return ``config``, where ``resize.input=probed`` with the strategies that the probe's folder ``probe`` names.

    Raises ``UserError`` if the probe has not run.
    """
    if config.resize.input != PROBED:
        return config
    assert probe is not None  # run/reads.py gives it wherever the choice is used
    path = probe / FILE_NAME
    if not path.is_file():
        raise UserError(f"resize.input={PROBED}, but {path} does not exist: run the probe stage first")
    found = read_object(path, REMEDY)
    try:
        choice = StrategyChoice(**found)
    except TypeError as error:
        raise UserError(f"{path} is damaged: {one_line(error)}; {REMEDY}") from None
    return replace(config, resize=choice.applied(config.resize))
