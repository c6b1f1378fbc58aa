"""A stage that writes what it was asked to."""

from pathlib import Path

from nemo_adapt.artifact import Inputs
from nemo_adapt.config import Config


def build(config: Config, inputs: Inputs, out: Path) -> None:
    """``out/said`` has the seed; ``log`` of the inputs gets a line for each call."""
    (out / "said").write_text(str(config.resize.seed), encoding="utf-8")
    with inputs["log"][0].parent.joinpath("calls").open("a") as calls:
        calls.write(f"{config.run.name}\n")
