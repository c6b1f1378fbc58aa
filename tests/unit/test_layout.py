"""How a batch divides among ranks and pipeline stages, and shares of a schedule."""

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


def test_warm_up_and_decay_of_wsd_do_not_overlap():
    check_train(TrainConfig(schedule="wsd", warmup_share=0.5, decay_share=0.5), ParallelConfig())
    check_train(TrainConfig(schedule="cosine", warmup_share=0.9, decay_share=0.5), ParallelConfig())
    with pytest.raises(UserError, match=r"decay_share=0\.5 are together more than 1"):
        check_train(TrainConfig(schedule="wsd", warmup_share=0.6, decay_share=0.5), ParallelConfig())
