"""Checkpoints with damaged files: what is detected before ranks start, by checksums, and by the reader."""

import math
import os
import shutil
from pathlib import Path

import pytest
import torch
import torch.distributed.checkpoint as dcp
from helpers.tiny import TinyLlama, converted, make_llama
from hypothesis import given
from hypothesis import strategies as st

from nemo_adapt import pipeline
from nemo_adapt.checkpoint.box import Box
from nemo_adapt.checkpoint.contents import damaged_contents
from nemo_adapt.checkpoint.integrity import FILES, damage
from nemo_adapt.checkpoint.metadata import Damaged
from nemo_adapt.checkpoint.reader import Checkpoint, locate
from nemo_adapt.errors import UserError
from nemo_adapt.run import preflight

TENSORS = "__0_0.distcp"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    place = tmp_path_factory.mktemp("whole")
    return converted(make_llama(place / "model", TinyLlama()), place / "convert")


@pytest.fixture
def checkpoint(whole, tmp_path):
    """A copy to be damaged."""
    return Path(shutil.copytree(whole, tmp_path / "convert"))


def deleted(file):
    file.unlink()


def halved(file):
    os.truncate(file, file.stat().st_size // 2)


def emptied(file):
    os.truncate(file, 0)


def extended(file):
    file.write_bytes(file.read_bytes() + b"x")


def flipped(file, at=None, mask=0x01):
    content = bytearray(file.read_bytes())
    content[len(content) // 2 if at is None else at] ^= mask
    file.write_bytes(content)


@pytest.mark.parametrize("name", [TENSORS, ".metadata", "common.pt", "metadata.json", FILES])
@pytest.mark.parametrize("change", [deleted, halved, emptied, extended, flipped])
def test_damage_is_reported_before_ranks_start(checkpoint, tmp_path, name, change):
    inputs = {"checkpoint": [checkpoint]}
    preflight.check_converted(inputs, tmp_path / "train")
    change(checkpoint / name)
    if (name, change) == (TENSORS, flipped):  # not detected, as the size is the same
        preflight.check_converted(inputs, tmp_path / "train")
        return
    with pytest.raises(UserError) as error:
        preflight.check_converted(inputs, tmp_path / "train")
    (said,) = str(error.value).splitlines()
    assert said.startswith(f"{checkpoint} is damaged (") and (name in said or (name, change) == (FILES, flipped))
    assert said.endswith(f": delete {checkpoint}, and nemo-adapt convert or run makes it again")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A checkpoint with checksums, as trainings write it; conversion leaves them out."""
    place = tmp_path_factory.mktemp("trained")
    state = {"a": torch.randn(70, 3), "b": torch.randn(8).bfloat16(), "c": torch.tensor(1.0), "d": b"bytes"}
    dcp.save(state, checkpoint_id=place, no_dist=True)
    return place


@given(st.data())
def test_any_changed_byte_of_a_tensor_is_found(trained, data):
    """By the rank whose share it is. torch would load it."""
    reader = Checkpoint(trained)
    key = data.draw(st.sampled_from(sorted(reader.shapes)))
    chunk = reader._data(data.draw(st.sampled_from(reader._tensors[key].chunks)))
    size = math.prod(chunk.shape) * reader.dtypes[key].itemsize
    at, mask = data.draw(st.integers(0, size - 1)), data.draw(st.integers(1, 255))
    ranks = data.draw(st.integers(1, 3))
    flipped(chunk.file, chunk.position + at, mask)
    try:
        first, *others = (damaged_contents(trained, rank, ranks) for rank in range(ranks))
        assert first.startswith(f"{chunk.file.name} is not what was written, at byte ") and not any(others)
    finally:
        flipped(chunk.file, chunk.position + at, mask)
    assert not any(damaged_contents(trained, rank, ranks) for rank in range(ranks))


@pytest.mark.parametrize("change", [halved, emptied])
def test_contents_of_a_shorter_file_are_damaged(trained, tmp_path, change):
    copy = Path(shutil.copytree(trained, tmp_path / "copy"))
    change(copy / TENSORS)
    assert damaged_contents(copy, 0, 1).startswith(f"{TENSORS} is not what was written")


@given(st.data())
def test_whatever_is_in_a_file_is_a_damage_and_no_error(trained, data):
    """Zeros from some byte on, as after a power failure."""
    file = trained / TENSORS
    content = file.read_bytes()
    begin = data.draw(st.integers(0, len(content) - 1))
    length = data.draw(st.integers(1, len(content) - begin))
    file.write_bytes(content[:begin] + bytes(length) + content[begin + length :])
    try:
        damaged_contents(trained, 0, 1)
    finally:
        file.write_bytes(content)


def test_a_file_that_cannot_be_read_now_is_no_damage(trained, tmp_path):
    """A network file system may be away for a moment."""
    copy = Path(shutil.copytree(trained, tmp_path / "iter_0000003"))
    deleted(copy / TENSORS)
    with pytest.raises(
        UserError, match=r"cannot be read \(No such file.*rename .*iter_0000003 to iter_0000003.damaged"
    ):
        damaged_contents(copy, 0, 1)


def test_a_resumed_training_does_not_need_the_converted_checkpoint(checkpoint, tmp_path):
    deleted(checkpoint / TENSORS)
    own = tmp_path / "train/checkpoints/iter_0000003"
    own.mkdir(parents=True)
    (own / ".metadata").touch()
    preflight.check_converted({"checkpoint": [checkpoint]}, tmp_path / "train")


def test_the_folder_behind_a_link_is_named_for_deletion(checkpoint, tmp_path):
    (tmp_path / "link").symlink_to(checkpoint)
    deleted(checkpoint / TENSORS)
    with pytest.raises(UserError, match=f"{tmp_path}/link is damaged .*: delete {checkpoint},"):
        preflight.check_converted({"checkpoint": [tmp_path / "link"]}, tmp_path / "train")


def test_all_stages_that_read_the_checkpoint_check_it():
    checked = {step.name for step in pipeline.STEPS if step.check_inputs == preflight.check_converted}
    assert checked == {"probe", "resize", "train"}
    assert {step.name for step in pipeline.STEPS if step.on_ranks} == {"probe", "resize", "train"}


def test_a_missing_files_json_is_reported(checkpoint):
    deleted(checkpoint / FILES)
    assert damage(checkpoint) == f"no {FILES}"


@pytest.mark.filterwarnings("ignore")
def test_any_flipped_byte_of_the_metadata_is_a_user_error_or_harmless(checkpoint):
    path = checkpoint / ".metadata"
    content = path.read_bytes()
    said = 0
    for at in range(0, len(content), 11):
        path.write_bytes(content)
        flipped(path, at, 0x81)
        try:
            opened = Checkpoint(checkpoint)
            opened.examine()
            for key, shape in opened.shapes.items():
                opened.read(key, Box((0,) * len(shape), shape))
        except UserError:
            said += 1
    assert said > 100


@pytest.mark.filterwarnings("ignore")
def test_any_flipped_byte_of_a_tensor_file_is_detected_or_harmless(checkpoint):
    file = checkpoint / TENSORS
    stored = (each.extent for tensor in Checkpoint(checkpoint)._tensors.values() for each in tensor.chunks)
    extent = min(stored, key=size_of)
    file.write_bytes(file.read_bytes()[extent.begin : extent.begin + extent.length])
    content, before = file.read_bytes(), locate(file, 0, extent.length)
    said = 0
    for at in range(0, len(content), 5):
        file.write_bytes(content)
        flipped(file, at, 0x21)
        try:
            assert locate(file, 0, extent.length) == before
        except Damaged as error:
            assert str(file) in str(error)
            said += 1
    assert said > 50


def size_of(extent):
    return extent.length


def test_the_damaged_file_and_offset_are_named(checkpoint):
    opened = Checkpoint(checkpoint)
    opened.examine()
    stored = (each.extent for tensor in opened._tensors.values() for each in tensor.chunks)
    last = max(stored, key=lambda each: each.begin)
    content = (checkpoint / TENSORS).read_bytes()
    for at in (last.begin, last.begin + last.length - 60):
        (checkpoint / TENSORS).write_bytes(content[:at] + b"no tensor is here" + content[at + 17 :])
        with pytest.raises(Damaged, match=rf"{TENSORS} is cut short or damaged at byte {last.begin};"):
            Checkpoint(checkpoint).examine()
