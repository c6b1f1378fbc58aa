"""The strategies. To add one, add a file here and its name to this import."""

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
