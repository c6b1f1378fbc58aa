"""Steps that are read ahead."""

import threading

import pytest

from nemo_adapt.errors import UserError
from nemo_adapt.train.batches import read_ahead


def test_only_the_next_step_is_read_ahead():
    begun, seen = threading.Semaphore(0), []

    def read(step):
        seen.append((step, threading.current_thread()))
        begun.release()
        return 10 * step

    steps = read_ahead(read, range(3, 7))
    for number, found in zip(range(3, 7), steps, strict=True):
        assert found == 10 * number
        for _ in range(2 if number == 3 else number < 6):
            assert begun.acquire(timeout=10)  # while the caller has ``found``
        assert [step for step, _ in seen] == list(range(3, min(number + 2, 7)))
    assert {thread for _, thread in seen}.isdisjoint({threading.current_thread()})


def test_an_error_while_reading_ahead_is_raised_at_its_step():
    def read(step):
        if step == 1:
            raise UserError("target.bin is damaged")
        return step

    steps = read_ahead(read, range(3))
    assert next(steps) == 0
    with pytest.raises(UserError, match="damaged"):
        next(steps)


def test_closing_ends_the_reading_thread():
    before = threading.active_count()
    steps = read_ahead(lambda step: step, range(100))
    assert next(steps) == 0 and threading.active_count() == before + 1
    steps.close()
    assert threading.active_count() == before
    assert list(read_ahead(lambda step: step, range(5, 5))) == []
