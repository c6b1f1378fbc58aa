"""The strategies. A new one is one file beside this one and one name here."""

from nemo_adapt.resize.strategies import (
    align,
    calibrated,
    focus,
    learned,
    mean,
    multivariate_normal,
    normal,
    omp,
    random_init,
    random_token,
    subword,
    subword_weighted,
    subword_weighted_position,
    wechsel,
    zero,
)
