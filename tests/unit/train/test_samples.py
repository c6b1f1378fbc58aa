"""Data sets whose files are damaged, and how many samples of each set are made."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from megatron.core.datasets import helpers

from nemo_adapt.data.store import write_index
from nemo_adapt.errors import UserError
from nemo_adapt.train.samples import check_token_file, surplus


def data_set(folder, tokens, width):
    """A data set with documents of these numbers of tokens."""
    folder.mkdir()
    (folder / "counts.json").write_text(json.dumps({"documents": len(tokens), "tokens": sum(tokens), "bytes": 300}))
    (folder / "target.bin").write_bytes(bytes(width * sum(tokens)))
    write_index(folder / "target.idx", lambda: [np.array(tokens, np.int32)], {2: np.uint16, 4: np.int32}[width])
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


def test_more_documents_than_megatron_can_number_are_refused(tmp_path):
    folder = data_set(tmp_path / "target", [60, 30, 10], 2)
    counts = {"documents": 1 << 31, "tokens": 100, "bytes": 300}
    (folder / "counts.json").write_text(json.dumps(counts))
    with pytest.raises(UserError, match=r"target: 2,147,483,648 documents .* 2,147,483,647 .*data\.sets\.NAME"):
        check_token_file(folder)


def made_and_taken(samples, weights, surplus):
    """Return how many samples of each set Megatron makes, and how many its blend takes."""
    shares = np.array(weights) / sum(weights)
    sizes = np.ceil(samples * shares)
    taken = np.zeros(int(sizes.sum()), np.int16)
    helpers.build_blending_indices(taken, np.zeros(len(taken), np.int64), shares, len(shares), len(taken), False)
    return np.ceil(sizes * (1 + surplus)), np.bincount(taken, minlength=len(shares))


@settings(max_examples=200, deadline=None)
@given(samples=st.integers(1, 3000), weights=st.lists(st.floats(0.001, 1), min_size=2, max_size=20))
def test_samples_made_of_each_set_are_as_many_as_the_blend_takes(samples, weights):
    """Megatron's own number is kept where it suffices: the order of a text that is read twice depends on it."""
    made, taken = made_and_taken(samples, weights, 0.005)
    found = surplus(samples, weights)
    assert (found == 0.005) == (made >= taken).all()
    made, taken = made_and_taken(samples, weights, found)
    assert (made >= taken).all()


def test_megatron_makes_too_few_samples_of_many_sets():
    assert surplus(64, [0.75, 0.1, 0.05, 0.05, 0.05]) > 0.005
    assert surplus(64, [0.9, 0.1]) == surplus(10**8, [0.9, *[0.01] * 10]) == 0.005
