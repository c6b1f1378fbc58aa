"""How a batch divides among ranks and pipeline stages, layers among stages, and shares of a schedule."""

import pytest
from helpers.plans_of_models import models_of, settings

from nemo_adapt.config import ParallelConfig, TrainConfig
from nemo_adapt.config.layout import check_batch, check_layout, check_train, stage_layers
from nemo_adapt.errors import UserError


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


@pytest.mark.parametrize("steps", [[5], [0, 2], [3, 2], [1, 2, 3]])
def test_trace_has_a_first_and_a_last_step(steps):
    check_train(TrainConfig(trace=[2, 2]), ParallelConfig())
    with pytest.raises(UserError, match=r"train\.trace=.*give the first and the last step"):
        check_train(TrainConfig(trace=steps), ParallelConfig())


def test_warm_up_and_decay_of_wsd_do_not_overlap():
    check_train(TrainConfig(schedule="wsd", warmup_share=0.5, decay_share=0.5), ParallelConfig())
    check_train(TrainConfig(schedule="cosine", warmup_share=0.9, decay_share=0.5), ParallelConfig())
    with pytest.raises(UserError, match=r"decay_share=0\.5 are together more than 1"):
        check_train(TrainConfig(schedule="wsd", warmup_share=0.6, decay_share=0.5), ParallelConfig())


@pytest.mark.parametrize(
    ("layers", "parallel", "each"),
    [
        (32, {"pp": 4}, [8, 8, 8, 8]),
        (62, {"pp": 4}, [15, 16, 16, 15]),
        (5, {"pp": 2}, [3, 2]),
        (7, {"pp": 4}, [2, 2, 2, 1]),
        (10, {"pp": 2, "virtual": 2}, [2, 3, 3, 2]),
        (10, {"pp": 2, "stage_layers": [7, 3]}, [7, 3]),
    ],
)
def test_last_stage_has_fewest_layers_where_they_do_not_divide(layers, parallel, each):
    assert stage_layers(layers, ParallelConfig(**parallel)) == each


@pytest.mark.parametrize(
    ("parallel", "said"),
    [
        ({"pp": 5}, r"parallel\.pp=5: more stages than the model's 4 layers"),
        ({"pp": 2, "virtual": 3}, r"parallel\.pp=2 x parallel\.virtual=3: more stages"),
        (
            {"pp": 2, "stage_layers": [1, 2]},
            r"\[1, 2\]: parallel\.pp=2 needs 2 numbers above 0 whose sum is .* 4",
        ),
        ({"pp": 2, "stage_layers": [4, 0]}, r"needs 2 numbers above 0"),
        ({"pp": 2, "stage_layers": [1, 1, 2]}, r"needs 2 numbers"),
        ({"pp": 2, "virtual": 2, "stage_layers": [2, 2]}, r"parallel\.virtual=2 needs 4 numbers"),
        ({"stage_layers": [2, 2]}, r"parallel\.pp=1 needs 1 numbers"),
    ],
)
def test_stages_that_do_not_fit_the_model_are_refused(parallel, said):
    with pytest.raises(UserError, match=said):
        check_layout(models_of(settings()).target, ParallelConfig(**parallel))
