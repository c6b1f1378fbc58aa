"""How new rows are made, and the short trainings that choose a way."""

from dataclasses import dataclass, field

PROBED_BY_DEFAULT = ("random_init", "mean", "subword_mean", "subword_weighted", "calibrated", "warm_start")


@dataclass
class ResizeConfig:
    input: str = "subword_mean"
    """Strategy for new rows of the embedding table (and of the output layer where they are tied); ``probed`` takes what
    the probe chose, for both tables."""
    output: str = "subword_mean"
    """Strategy for new rows of an untied output layer."""
    seed: int = 1234
    """Seed of the strategies that draw random numbers."""
    padded_vocab_multiple: int = 128
    """The tables are padded to a multiple of this times TP."""
    omp_pieces: int = 16
    """Most base rows that ``omp`` combines into a new one. The published tool takes 64 from tables with thousands of
    columns; of fastText's 100 dimensions so many fit noise, with large weights of both signs."""
    wechsel_neighbours: int = 10
    """Nearest base rows that ``wechsel`` combines into a new one."""
    wechsel_temperature: float = 0.1
    """Temperature of the softmax over their similarities; smaller prefers the nearest."""
    learned_share: float = 0.1
    """Share of the training steps in which ``learned`` and ``warm_start`` train the tables alone (``phases``)."""
    learned_lr: float = 1e-3
    """Peak learning rate of those steps."""


@dataclass
class ProbeConfig:
    strategies: list[str] = field(default_factory=lambda: list(PROBED_BY_DEFAULT))
    """Strategies to try; ``A+B`` takes A for the input table and B for the output layer."""
    seeds: int = 3
    """Runs of each strategy, each with its own order of the data and its own random rows."""
    steps: int = 50
    """Steps of a run: the recipe's phases, shortened in proportion."""
    at: list[int] = field(default_factory=lambda: [0, 10, 25])
    """Steps after which a run is scored; the last step always is."""
    max_bytes: int = 100_000
    """Bytes of the target language's held-out text (``evaluate.texts``) that runs are scored on; 0 takes all."""
