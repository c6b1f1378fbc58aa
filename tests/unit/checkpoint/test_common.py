"""What is not sharded has a file of its own, whichever megatron-core has saved a checkpoint."""

import pytest
import torch
from megatron.core import dist_checkpointing

from nemo_adapt.checkpoint.common import write_common
from nemo_adapt.checkpoint.integrity import COMMON


@pytest.fixture
def among_tensors(monkeypatch):
    """What a checkpoint of megatron-core 0.19 has among its tensors."""
    monkeypatch.setattr(dist_checkpointing, "load_common_state_dict", lambda folder: {"folder": folder, "step": 3})


def test_it_is_written_where_it_is_missing(tmp_path, among_tensors):
    write_common(tmp_path)
    assert torch.load(tmp_path / COMMON, weights_only=True) == {"folder": str(tmp_path), "step": 3}


def test_what_is_there_stays(tmp_path, among_tensors):
    (tmp_path / COMMON).write_bytes(b"of an older one")
    write_common(tmp_path)
    assert (tmp_path / COMMON).read_bytes() == b"of an older one"


def test_a_disk_that_takes_no_more_is_an_error_of_the_system(tmp_path, among_tensors):
    """Other ranks learn of these alone (``first_rank_does``); torch has one of its own."""
    with pytest.raises(OSError):
        write_common(tmp_path / "missing")
