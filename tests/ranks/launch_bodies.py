"""Ranks that fail, or react late to a signal or never, and a command that launches two of them."""

import logging
import os
import signal
import tempfile
import time
from pathlib import Path

from nemo_adapt.errors import UserError
from nemo_adapt.machine import launcher, ranks

STOP_SIGNALS = [signal.SIGUSR1, signal.SIGTERM, signal.SIGHUP]


def launch(kind: str, folder: Path, log: Path, under_nohup: bool) -> None:
    """Launch two ranks in ``folder`` as a command does, with the output in ``log``."""
    os.chdir(folder)
    if kind == "is within a step":
        os.environ["TORCH_ELASTIC_SHUTDOWN_TIMEOUT"] = "500"  # longer than the test: torchrun's own would be 30 s
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)  # ignored by what a shell starts in the background, and by its ranks
    tempfile.tempdir = str(folder / "temporary")
    with log.open("ab") as out:
        for stream in (1, 2):
            os.dup2(out.fileno(), stream)
    signal.signal(signal.SIGHUP, signal.SIG_IGN if under_nohup else signal.SIG_DFL)
    logging.getLogger("torch").setLevel(logging.CRITICAL)  # its own lines; to make them it imports its compiler
    launcher.PRELOAD, launcher._run = "torch.distributed.elastic.multiprocessing.api", rank
    try:
        launcher.launch(2, [kind])
    except UserError as error:
        print(f"mistake: {error}")
    else:
        print("went on")


def rank(arguments: list[str], mistakes: Path) -> None:
    """Take the place of a rank's work: do in it what the kind ``arguments[0]`` says."""
    os.environ[ranks.MISTAKE] = str(mistakes / os.environ["RANK"])
    number, (kind,) = os.environ["RANK"], arguments
    launcher.workers.signal_when_starter_ends(signal.SIGTERM)
    Path(f"begun{number}").write_text(str(os.getpid()))
    Path(f"begun{number}").rename(f"ready{number}")
    while not Path(f"ready{1 - int(number)}").exists():
        time.sleep(0.01)
    if kind == "handles it later":  # after its imports
        time.sleep(1)
        for each in STOP_SIGNALS:
            signal.signal(each, lambda number, frame: os._exit(85))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        time.sleep(60)
    elif kind == "ends well":
        _wait_for_signal()
    elif kind == "dies":
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        time.sleep(60)
    elif kind == "goes on":
        _wait_for("sent")
        time.sleep(1)  # a launcher that stops would end this rank meanwhile
    elif kind == "is within a step":
        _ignore_term()
        Path(f"within{number}").touch()
        time.sleep(600)
    elif kind == "fails":
        _wait_for_signal()
        os._exit(1)
    elif kind == "is mistaken while another crashes" and number == "0":
        _wait_for("reported")
        os._exit(1)  # at the same time
    elif kind == "hangs" or number == "0":
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        time.sleep(60)
    elif kind in WORK:
        launcher.runpy.run_module = WORK[kind]
        RUN(arguments, mistakes)
    else:
        ranks.report(UserError("no such file; give another"))
        Path("reported").touch()
        os.kill(os.getpid(), signal.SIGKILL)  # however it ends


def _raise(*words: object, **named: object) -> None:
    raise ValueError("offset")


def _ignore_term(*words: object, **named: object) -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _wait(*words: object, **named: object) -> None:
    time.sleep(600)  # with stop signals blocked, as they are until a training can save


RUN = launcher._run
WORK = {"raises": _raise, "is done": _ignore_term, "waits for others": _wait}
"""Kind -> what the rank does in the place of ``python -m nemo_adapt``."""


def _wait_for(file: str) -> None:
    while not Path(file).exists():
        time.sleep(0.001)


def _wait_for_signal() -> None:
    while not signal.sigpending():
        time.sleep(0.05)
