"""Signals as a shell leaves them."""

import signal

import pytest


@pytest.fixture(autouse=True)
def hup_is_not_ignored():
    """Under nohup, tests would ignore it, and so would what they start."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)
