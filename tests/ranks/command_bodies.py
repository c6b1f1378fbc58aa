"""Changes to a command before it runs in a fork: slow writes, and kills and signals at chosen moments."""

import io
import os
import signal
import threading
import time
from pathlib import Path

import numpy as np

from nemo_adapt.train import checkpoints, held_out
from nemo_adapt.train.between_steps import BetweenSteps


def slow_disk(seconds):
    """Writing a tensor to the disk, which threads do, takes ``seconds``."""
    sync, first = os.fsync, threading.main_thread()
    os.fsync = lambda file: (threading.current_thread() == first or time.sleep(seconds), sync(file))


def kill_while_samples_are_ordered():
    """The process is killed when half of the order of samples is in its cache."""
    save = np.save

    def cut(path, array, **settings):
        if not str(path).endswith("shuffle_index.npy"):
            return save(path, array, **settings)
        whole = io.BytesIO()
        save(whole, array)
        Path(path).write_bytes(whole.getvalue()[: len(whole.getvalue()) // 2])
        os.kill(os.getpid(), signal.SIGKILL)

    np.save = cut


def signal_in_step(step):
    """A signal comes in ``step``."""
    count = BetweenSteps._count

    def counted(self, done):
        count(self, done)
        if done.step == step:
            os.kill(os.getpid(), signal.SIGUSR1)

    BetweenSteps._count = counted


def signal_while_scoring():
    """A signal comes with each pass over held-out text after the first step."""
    _signal_while_scoring(lambda step: step > 0)


def signal_while_scoring_at_first():
    """A signal comes with each pass over held-out text before the first step."""
    _signal_while_scoring(lambda step: step == 0)


def _signal_while_scoring(comes_at):
    score, score_all = held_out._score, BetweenSteps._score

    def signalled(*words):
        os.kill(os.getpid(), signal.SIGUSR1)
        return score(*words)

    def of_step(self):
        held_out._score = signalled if comes_at(self.metrics.progress["step"]) else score
        return score_all(self)

    BetweenSteps._score = of_step


def signal_while_saving():
    """A signal comes when a checkpoint gets its name."""
    publish = checkpoints.publish
    checkpoints.publish = lambda *words: os.kill(os.getpid(), signal.SIGUSR1) or publish(*words)
