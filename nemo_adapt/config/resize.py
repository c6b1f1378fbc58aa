"""How new rows are initialized, and the short trainings that choose a strategy."""

from dataclasses import dataclass, field

PROBED_BY_DEFAULT = ("random_init", "mean", "subword_mean", "subword_weighted", "calibrated", "warm_start")


@dataclass
class ResizeConfig:
    input: str = "subword_mean"
    """Strategy for new rows of the embedding table (and of a tied output layer); ``probed`` uses the probe's choice for
    both tables."""
    output: str = "subword_mean"
    """Strategy for new rows of an untied output layer."""
    seed: int = 1234
    """Seed of strategies that use random numbers."""
    padded_vocab_multiple: int = 128
    """The tables are padded to a multiple of this times TP."""
    omp_pieces: int = 16
    """Most base rows that ``omp`` combines into a new one. The published tool uses 64, with vectors of thousands of
    dimensions; with fastText's 100 dimensions that many rows fit noise, with large weights of both signs."""
    wechsel_neighbours: int = 10
    """Nearest base rows that ``wechsel`` combines into a new one."""
    wechsel_temperature: float = 0.1
    """Temperature of the softmax over the similarities of those neighbours; smaller values favour the nearest."""
    learned_share: float = 0.1
    """Share of the training steps, taken from the first phase, in which ``learned`` trains only the new rows and
    ``warm_start`` only the tables."""
    learned_lr: float = 1e-3
    """Peak learning rate of those steps."""


@dataclass
class ProbeConfig:
    strategies: list[str] = field(default_factory=lambda: list(PROBED_BY_DEFAULT))
    """Strategies to try; ``A+B`` uses A for the input table and B for the output layer."""
    seeds: int = 3
    """Runs of each strategy, each with its own data order and its own random rows."""
    steps: int = 50
    """Steps of a run: the recipe's phases are shortened in proportion."""
    at: list[int] = field(default_factory=lambda: [0, 10, 25])
    """Steps after which a run is scored; it is always scored after the last one."""
    max_bytes: int = 100_000
    """Score runs on at most this many bytes of the target's held-out text (``evaluate.texts``); 0 takes all."""
