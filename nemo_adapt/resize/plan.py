"""What a strategy answers: how each new row is made of source rows. It knows no device, process group or file."""

from collections.abc import Callable
from dataclasses import dataclass

from scipy.sparse import csr_matrix

from nemo_adapt.registry import Registry
from nemo_adapt.token_map import TokenMap


@dataclass(frozen=True)
class RowPlan:
    """New rows = ``combination @ source + mean_share * mean(source) + noise * std(source) * gaussian``.

    ``combination`` is [new rows, source rows]; mean and standard deviation are taken per column over all source rows.
    """

    combination: csr_matrix
    mean_share: float = 0.0
    noise: float = 0.0

    @property
    def new_rows(self) -> int:
        """Number of rows to be made."""
        return int(self.combination.shape[0])


Strategy = Callable[[TokenMap], RowPlan]

strategies: Registry[Strategy] = Registry("resize strategy")


def nothing_from_rows(token_map: TokenMap) -> csr_matrix:
    """The combination of a strategy that looks at no single source row."""
    return csr_matrix((len(token_map.tokens), token_map.source_vocab), dtype="float32")
