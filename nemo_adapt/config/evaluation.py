"""What base and adapted model are compared on."""

from dataclasses import dataclass, field


@dataclass
class EvaluateConfig:
    texts: dict[str, str] = field(default_factory=dict)
    """Language -> file of held-out text for bits per byte."""
    target: str = ""
    """The language of ``texts`` that the run adapts to (named first in the report)."""
    max_bytes: int = 0
    """Score at most this many bytes of each text; 0 scores all."""
    context: int = 0
    """Window length in tokens; 0 means the training sequence length."""
    batch: int = 16
    """Windows per forward pass."""
