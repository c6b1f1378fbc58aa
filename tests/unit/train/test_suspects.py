"""Samples whose text is written where a training ends with an error: how many, and what if it cannot be written."""

import json
from types import SimpleNamespace

import pytest
import torch
from helpers.bytes_tokenizer import save_tokenizer

from nemo_adapt.errors import UserError
from nemo_adapt.train import suspects
from nemo_adapt.train.suspects import MOST, write_suspects


class Samples:
    """As Megatron's lone set: sample ``n`` is the text of ``n`` with three digits."""

    dataset_path = "data/target/target"

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer

    def __getitem__(self, number):
        ids = torch.tensor(self.tokenizer.encode(f"{number:03}"))
        return {"tokens": ids[:-1], "labels": ids[1:]}


@pytest.fixture
def write(tmp_path):
    """Return a function that writes the text of samples, of which a step has 8, into an empty folder."""
    samples = Samples(save_tokenizer(tmp_path / "tokenizer"))
    (tmp_path / "train").mkdir()

    def call(numbers, check=lambda: None, tokenizer=tmp_path / "tokenizer"):
        fence = SimpleNamespace(folder=tmp_path / "train", check=check)
        return write_suspects(samples, tokenizer, fence, 8, numbers)

    return call


@pytest.mark.parametrize("left_out", [0, 3])
def test_samples_are_written_in_the_given_order_up_to_a_limit(write, tmp_path, left_out):
    numbers = [500, *range(MOST - 1 + left_out)]
    path = tmp_path / "train/suspect_samples.jsonl"
    assert write(numbers) == str(path)
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert lines[0] == {"sample": 500, "step": 63, "set": "target", "text": "500"}
    assert [line["text"] for line in lines[:MOST]] == [f"{number:03}" for number in numbers[:MOST]]
    assert lines[MOST:] == ([{"samples_left_out": left_out}] if left_out else [])


def raising(error):
    def fail(*_):
        raise error

    return fail


@pytest.mark.parametrize(
    ("error", "where"),
    [
        (OSError(28, "No space left on device"), "write_text"),
        (UserError("train is now written by another start"), "check"),
        (Exception("of the Rust library"), "load"),
    ],
)
def test_a_failure_to_write_them_is_said_and_leaves_no_file(write, tmp_path, monkeypatch, error, where):
    """It must not hide the error that ends the training."""
    if where == "write_text":
        monkeypatch.setattr(suspects, where, raising(error))
    if where == "load":
        monkeypatch.setattr(suspects.hf_tokenizer, where, raising(error))
    check = raising(error) if where == "check" else lambda: None
    assert write([1, 2], check=check) == f"their text could not be written: {error}"
    assert not list((tmp_path / "train").iterdir())


def test_a_tokenizer_that_is_gone_is_said(write, tmp_path):
    said = write([1, 2], tokenizer=tmp_path / "gone")
    assert said.startswith("their text could not be written: ") and "gone" in said
    assert not list((tmp_path / "train").iterdir())
