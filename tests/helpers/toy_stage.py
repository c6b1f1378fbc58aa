"""A stage that writes its seed and records its calls."""

from pathlib import Path

from nemo_adapt.config import Config
from nemo_adapt.run.inputs import Inputs


def build(config: Config, inputs: Inputs, out: Path) -> None:
    """Write the seed to ``out/said``; append the run's name to ``calls``, beside the input ``log``."""
    (out / "said").write_text(str(config.resize.seed), encoding="utf-8")
    with inputs["log"][0].parent.joinpath("calls").open("a") as calls:
        calls.write(f"{config.run.name}\n")
