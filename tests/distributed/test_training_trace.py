"""Traces of training steps: of which steps, on which ranks, and without any other effect."""

import pytest
from helpers.folders import folders_of
from helpers.tiny import TinyLlama, tiny_config
from ranks import trace_bodies, training_bodies

from nemo_adapt.config import PhaseConfig
from nemo_adapt.errors import UserError
from nemo_adapt.train.trace import check_trace

VOCAB = 251
"""Rows of the target: 245 of the source and six new ones."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return folders_of(tmp_path_factory.mktemp("model"), TinyLlama(tied=False, vocab=245), new=6)


def config_of(trace, **parallel):
    config = tiny_config(**parallel)
    config.train.global_batch, config.train.micro_batch, config.train.seq_length = 8, 2, training_bodies.SEQ
    config.train.phases, config.train.trace = [PhaseConfig(steps=8, lr=1e-2)], trace
    return config


def steps_in(trace):
    return sum(count for name, count in trace.items() if name.startswith("ProfilerStep#"))


@pytest.mark.parametrize(
    ("trace", "done", "stop", "count"),
    [
        ([3, 4], 0, 6, 2),
        ([1, 2], 0, 6, 2),
        ([3, 4], 3, 6, 1),  # only step 4 is left
        ([3, 4], 5, 6, 0),
        ([5, 8], 0, 6, 2),  # training is stopped meanwhile
        ([7, 8], 0, 6, 0),
        ([], 0, 6, 0),
    ],
)
def test_trace_has_the_steps_that_were_asked_for(tmp_path, folders, ranks, trace, done, stop, count):
    ((losses, found),) = ranks(1).run(trace_bodies.train, config_of(trace), folders, VOCAB, tmp_path, done, stop)
    assert len(losses) == stop - done
    assert steps_in(found) == count and bool(count) == bool(found.get("aten::mm"))


@pytest.mark.parametrize(
    ("parallel", "traced"),
    [({"tp": 2}, [2, 0]), ({"dp": 2}, [2, 0]), ({"cp": 2}, [2, 0]), ({"pp": 2}, [2, 2])],
    ids=str,
)
def test_one_rank_of_each_stage_is_traced_and_losses_stay_the_same(tmp_path, folders, ranks, parallel, traced):
    words = folders, VOCAB, tmp_path, 0, 5
    plain = ranks(2).run(trace_bodies.train, config_of([], **parallel), *words)
    found = ranks(2).run(trace_bodies.train, config_of([3, 4], **parallel), *words)
    assert [steps_in(trace) for _, trace in found] == traced
    assert [losses for losses, _ in found] == [losses for losses, _ in plain]


def test_trace_that_cannot_be_written_does_not_end_the_training(tmp_path, folders, ranks):
    (tmp_path / "rank_0.json.gz").mkdir()
    ((losses, _),) = ranks(1).run(trace_bodies.train, config_of([2, 3]), folders, VOCAB, tmp_path, 0, 5)
    assert len(losses) == 5


def test_a_trace_of_steps_that_training_does_not_have_is_refused():
    """An empty folder had been made, and nothing said."""
    check_trace([], 8)
    check_trace([8, 99], 8)
    with pytest.raises(UserError, match=r"train\.trace=\[9, 12\]: the training has only 8 steps"):
        check_trace([9, 12], 8)
