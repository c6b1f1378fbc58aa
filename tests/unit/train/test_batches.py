"""Data sets that are damaged, and samples that are read ahead."""

import json
import threading

import numpy as np
import pytest

from nemo_adapt.data.store import write_index
from nemo_adapt.errors import UserError
from nemo_adapt.train.batches import check_token_file, read_ahead


def data_set(folder, tokens, width):
    """A data set with documents of these numbers of tokens."""
    folder.mkdir()
    (folder / "counts.json").write_text(json.dumps({"documents": len(tokens), "tokens": sum(tokens), "bytes": 300}))
    (folder / "target.bin").write_bytes(bytes(width * sum(tokens)))
    write_index(folder / "target.idx", np.array(tokens, np.int32), {2: np.uint16, 4: np.int32}[width])
    return folder


@pytest.mark.parametrize(("tokens", "width"), [([100], 2), ([60, 30, 10], 4)])
def test_a_complete_data_set_passes(tmp_path, tokens, width):
    check_token_file(data_set(tmp_path / "target", tokens, width))


@pytest.mark.parametrize("left", [199, 0, None])
@pytest.mark.parametrize(("name", "content"), [("target.bin", "100 tokens"), ("target.idx", "an index of 3 documents")])
def test_a_truncated_or_missing_file_of_a_data_set_is_reported(tmp_path, name, content, left):
    path = data_set(tmp_path / "target", [60, 30, 10], 2) / name
    size = 0 if left is None else min(left, path.stat().st_size - 1)
    path.unlink() if left is None else path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(UserError) as raised:
        check_token_file(path.parent)
    said = f"{path} is damaged: {size} bytes are not {content}; delete {path.parent}, then run the same command"
    assert str(raised.value) == said


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
