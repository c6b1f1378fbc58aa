"""How a batch divides among ranks and pipeline stages."""

import pytest

from nemo_adapt.config import ParallelConfig, TrainConfig
from nemo_adapt.errors import UserError
from nemo_adapt.layout import check_batch, check_train


@pytest.mark.parametrize(
    ("dp_size", "said"),
    [
        (1, ""),
        (2, ""),
        (4, "needs micro batches in multiples of parallel.pp=4: there are 2"),
        (3, "3 data-parallel ranks"),
    ],
)
def test_batch_is_checked_for_the_data_parallel_size_that_a_launcher_gives(dp_size, said):
    train, parallel = TrainConfig(global_batch=8), ParallelConfig(pp=4, virtual=2)
    check_train(train, parallel)  # with parallel.dp=1
    if said:
        with pytest.raises(UserError, match=said):
            check_batch(train, parallel, dp_size)
    else:
        check_batch(train, parallel, dp_size)
