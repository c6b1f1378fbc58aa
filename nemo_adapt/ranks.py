"""Processes that work together: started here by torchrun's launcher, or already there (torchrun, Slurm)."""

import contextlib
import ctypes
import json
import os
import platform
import signal
import sys
import threading
import time
import traceback
from collections.abc import Collection, Iterator
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any, NoReturn

from nemo_adapt.errors import ERROR, UserError
from nemo_adapt.workers import cores

USER_ERROR = 2
"""Exit code for the user's mistakes."""
MORE_TO_DO = 85
"""Exit code of a training that was asked to stop, and has saved: the same command goes on."""
STOP_SIGNALS = (signal.SIGUSR1, signal.SIGTERM)
"""What asks a training to save and end: Slurm sends the first before a time limit (``--signal``), it and others the
second at the end. The process that started the ranks hands them on."""
FIRST_SPEAKS, NEXT_SPEAKS = 10.0, 0.5
"""Seconds that ranks behind the first leave it for saying what they all have to say, and each leaves the one before."""
MOST_SAID = 500
"""Characters of an error that nobody has foreseen, in its line."""
terminated = False
"""Whether TERM has come while signals were only noted: it does not come again to a rank that then fails."""
SLURM = {"RANK": "SLURM_PROCID", "WORLD_SIZE": "SLURM_NTASKS", "LOCAL_RANK": "SLURM_LOCALID"}


def adopt_slurm(least: int = 2) -> None:
    """Under ``srun`` with at least so many tasks, name this rank in torchrun's variables.

    MASTER_ADDR and MASTER_PORT are the job's to set. In a container of PyTorch's, pyxis itself has set RANK, and
    WORLD_SIZE only where the site has a hook of enroot for it.
    """
    several = int(os.environ.get("SLURM_NTASKS", "1")) >= least
    if not already_started() and several and "SLURM_PROCID" in os.environ:
        for name, slurm in SLURM.items():
            os.environ[name] = os.environ[slurm]


def already_started() -> bool:
    """True in a process that a launcher started as one of several ranks."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def is_first() -> bool:
    """True in the process that does what is done once: rank 0, or the only one."""
    return os.environ.get("RANK", "0") == "0"


def launch(count: int, arguments: list[str]) -> None:
    """Run ``python -m nemo_adapt ARGUMENTS`` on ``count`` ranks of this machine and wait for them.

    When one fails, the others are ended. Raises its ``UserError`` here; ``SystemExit`` with ``MORE_TO_DO``, also where
    all have ended well after they were asked to stop, or with 1 for anything else, which the rank has printed with its
    traceback.
    """
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores() // count)))
    config = LaunchConfig(
        run_id="nemo_adapt",
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=count,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="127.0.0.1",
        max_restarts=0,
        monitor_interval=0.2,
        signals_to_handle="SIGHUP,SIGQUIT",  # not TERM and INT, on which it would end the ranks: we hand them on
    )
    with _forwarding() as handed:
        try:
            elastic_launch(config, sys.executable)("-m", "nemo_adapt", *arguments)
        except ChildFailedError as error:
            _end_like(list(error.failures.values()), handed)
    if handed:  # too late for the ranks to stop at it; what follows would take its time
        _end_asked()


def _end_like(failures: list[Any], handed: Collection[int] = ()) -> NoReturn:
    """End as the ranks have ended that failed: with the ``UserError`` that one has reported, or its exit code. One that
    has died of a signal that was ``handed`` on could not take it yet, and has lost nothing."""
    for failure in failures:  # a rank that has reported may still die of its threads on the way out
        if Path(failure.error_file).is_file():
            raise UserError(failure.message) from None
    # A rank ends with it once all have saved; the launcher then ends those that are still on their way out.
    codes = {failure.exitcode for failure in failures if failure.exitcode >= 0 or -failure.exitcode in handed}
    if codes and codes <= {MORE_TO_DO, *(-number for number in handed)}:
        if MORE_TO_DO in codes:  # which has said so
            raise SystemExit(MORE_TO_DO) from None
        _end_asked()
    for failure in failures:
        if failure.exitcode < 0:
            print(
                f"{ERROR}rank {failure.local_rank} was ended by {failure.signal_name()}; the same command "
                "goes on from what is finished",
                file=sys.stderr,
            )
    raise SystemExit(1) from None


def _end_asked() -> NoReturn:
    """End because of a signal at which no rank could save."""
    print("asked to stop; run the same command to go on", flush=True)
    raise SystemExit(MORE_TO_DO) from None


@contextlib.contextmanager
def _forwarding() -> Iterator[Collection[int]]:
    """While it lasts, signals are handed on to the ranks, which are this process's children; given are those that were.
    Before there are any, a signal ends it with ``MORE_TO_DO``: nobody else would hear of it. Control-C, which a
    terminal sends to ranks too and they leave to this process, is handed on as TERM; the second ends all at once.

    Ranks are started deaf, or a signal that comes before they can say what they do with it would kill them. So this
    thread is deaf, too, and another hears; Python calls what is to be done from this one.
    """
    import psutil  # type: ignore[import-untyped]

    handed: set[int] = set()
    interrupted = False
    over = threading.Event()

    def hand_on(number: int, frame: Any) -> None:
        nonlocal interrupted
        heard = False
        if number == signal.SIGINT:
            if interrupted:
                raise KeyboardInterrupt
            interrupted, number = True, signal.SIGTERM
        for child in psutil.Process().children():
            with contextlib.suppress(psutil.NoSuchProcess):
                if "nemo_adapt" in child.cmdline():
                    child.send_signal(number)
                    heard = True
        if not heard:
            raise SystemExit(MORE_TO_DO)
        handed.add(number)

    def hear() -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        over.wait()

    before = {number: signal.signal(number, hand_on) for number in (*STOP_SIGNALS, signal.SIGINT)}
    threading.Thread(target=hear, daemon=True).start()
    try:
        with deaf_children():
            yield handed
    finally:
        over.set()
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def deaf_children() -> Iterator[None]:
    """While it lasts, processes that are started do not take signals that are meant for a training.

    srun sends them to all processes of a rank, also to one that could not yet say what it does with them.
    """
    resource_tracker.ensure_running()  # who starts it later, as multiprocessing does, lets TERM through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def hear_parents_end(number: int) -> None:
    """Have Linux send this process a signal when its parent ends, and be it by ``kill -9``."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, number)  # PR_SET_PDEATHSIG of linux/prctl.h


def report(error: UserError) -> None:
    """In a rank that ``launch`` started: leave the error's line where the launcher finds it."""
    path = Path(os.environ["TORCHELASTIC_ERROR_FILE"])
    path.write_text(json.dumps({"message": str(error), "timestamp": int(time.time())}), encoding="utf-8")


def tell(error: UserError) -> None:
    """Print the line of a user's mistake, one for all ranks of a launcher that have the same; of several, end this one.

    The first rank does so at once. Its end makes ``torchrun``, and ``srun --kill-on-bad-exit``, end the others, which
    therefore wait a little; one that nobody has ended by then is the first that knows.
    """
    _let_earlier_speak(USER_ERROR)
    print(f"{ERROR}{error}", file=sys.stderr, flush=True)
    if several():
        _leave(USER_ERROR)


def fail(error: BaseException) -> NoReturn:
    """End a rank, or the only process, by an error that nobody has foreseen: its traceback and one line.

    As with ``tell``, the first that knows speaks. Those that wait keep their connections, which others may wait at.
    """
    _let_earlier_speak(1)
    traceback.print_exception(error)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = " ... ".join(dict.fromkeys(lines[:1] + lines[-1:]))[:MOST_SAID]  # others' errors may be told in between
    what = f"{type(error).__name__}: {said}"
    who = f"rank {os.environ['RANK']} on {platform.node()}" if several() else platform.node()
    print(f"{ERROR}{who} failed: {what} (see above)", file=sys.stderr, flush=True)
    _leave(1)


def several() -> bool:
    """True in a process that is one of several ranks."""
    return already_started() and os.environ["WORLD_SIZE"] != "1"


def _let_earlier_speak(code: int) -> None:
    """Wait for the end that the launcher makes of this rank, with ``code``, once an earlier one has ended."""
    rank = int(os.environ.get("RANK") or os.environ.get("SLURM_PROCID") or 0)
    if rank:
        signal.signal(signal.SIGTERM, lambda number, frame: os._exit(code))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
        if terminated:
            os._exit(code)
        time.sleep(FIRST_SPEAKS + NEXT_SPEAKS * min(rank, 20))


def _leave(code: int) -> NoReturn:
    """End at once: what a process does at its end may wait for ranks that wait for this one's end."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def wait_for_first(folder: Path, fingerprint: str, timeout_seconds: float = 12 * 3600) -> None:
    """Wait until the first rank has finished a stage's folder (seen through the shared file system)."""
    from nemo_adapt.artifact import read_manifest

    until = time.monotonic() + timeout_seconds
    while read_manifest(folder).get("fingerprint") != fingerprint:
        if time.monotonic() > until:
            raise UserError(f"{folder} was not finished by the first rank in {timeout_seconds:.0f} s")
        time.sleep(0.5)
