"""What is asked of CUDA before there are ranks."""

import os

import pytest
import torch

from nemo_adapt import devices

QUEUES = "CUDA_DEVICE_MAX_CONNECTIONS"


@pytest.mark.parametrize(
    ("generation", "sends_in_layers", "given", "found"),
    [(9, True, None, "1"), (9, False, None, None), (10, True, None, None), (9, True, "8", "8"), (0, True, None, None)],
    ids=["hopper", "data parallel alone", "blackwell", "the environment's", "no GPU"],
)
def test_kernels_keep_their_order_where_layers_send(monkeypatch, generation, sends_in_layers, given, found):
    monkeypatch.setenv(QUEUES, given or "")  # whatever is set below is put back
    if not given:
        monkeypatch.delenv(QUEUES)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: generation > 0)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (generation, 0))
    devices.keep_order(sends_in_layers)
    assert os.environ.get(QUEUES) == found
