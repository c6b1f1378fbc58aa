"""Unsharded state is in common.pt, whichever version of megatron-core has saved a checkpoint."""

import pytest
import torch
from megatron.core import dist_checkpointing

from nemo_adapt.checkpoint.common_state import write_common
from nemo_adapt.checkpoint.folders import COMMON


@pytest.fixture
def among_tensors(monkeypatch):
    """Unsharded state that megatron-core 0.19 stores among the tensors."""
    monkeypatch.setattr(dist_checkpointing, "load_common_state_dict", lambda folder: {"folder": folder, "step": 3})


def test_a_missing_common_pt_is_written(tmp_path, among_tensors):
    write_common(tmp_path)
    assert torch.load(tmp_path / COMMON, weights_only=True) == {"folder": str(tmp_path), "step": 3}


def test_an_existing_common_pt_is_kept(tmp_path, among_tensors):
    (tmp_path / COMMON).write_bytes(b"of an older one")
    write_common(tmp_path)
    assert (tmp_path / COMMON).read_bytes() == b"of an older one"


def test_a_failed_write_raises_oserror(tmp_path, among_tensors):
    """Only these are passed on to the other ranks (``first_rank_does``); torch.save raises another one for a path."""
    with pytest.raises(OSError):
        write_common(tmp_path / "missing")
