"""The command line: ``nemo-adapt COMMAND recipe=NAME [key=value ...]``."""

import contextlib
import errno
import gc
import importlib
import io
import json
import logging
import os
import signal
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nemo_adapt import __version__, pipeline
from nemo_adapt.config import Config, manual, recipe_files, recipes
from nemo_adapt.console.output import escape_unprintable, ignore_closed_pipes
from nemo_adapt.errors import UserError
from nemo_adapt.machine import cuda_environment, ranks
from nemo_adapt.registry import nearest
from nemo_adapt.run.run_folder import RunFolder

USAGE = """\
usage: nemo-adapt COMMAND recipe=NAME [key=value ...]

run, and its stages in order (nemo-adapt recipes lists the recipes):
  run         all stages; finished ones are skipped
  tokenizer   extend the base tokenizer with target-language tokens
  data        tokenize all sets of text into Megatron datasets
  auxiliary   token vectors, alignments: for strategies that need them
  convert     Hugging Face folder -> Megatron distributed checkpoint
  probe       short training runs of many strategies; choose one for resize.input=probed
  resize      write the checkpoint with longer tables (train does it in memory)
  train       continue pretraining
  export      newest training checkpoint -> Hugging Face folder
  evaluate    base against adapted: tables, plots, report

before a run:
  plan        what a training will need: cluster=NAME [plan.search=true] [json=FILE]
  fertility   measure any tokenizers on any texts: 'tokenizers=[A,B]' parallel=FOLDER out=FOLDER
  doctor      installed packages and hardware, and the fallback for each missing one: for bug reports [json=FILE]

on a cluster, and while a run goes on:
  launch      submit a run as dependent Slurm jobs, requeued until it is done: site=NAME [launch.dry_run=true]
  status      progress of a run: status runs/NAME [watch=SECONDS] [json=FILE]
  cancel      end the jobs of a launched run: cancel runs/NAME
  export-hf   any checkpoint -> Hugging Face folder: checkpoint=FOLDER model=FOLDER tokenizer=FOLDER out=FOLDER

after a run, and beside it:
  inspect     compare new rows with the base's: norms, neighbours, a plot: run=FOLDER, or base=FOLDER adapted=FOLDER
  verify      compare two models tensor by tensor, folders or checkpoints: verify A B [text=FILE] [tolerance=1e-5]
  compare     measure any models on texts and tasks: 'models={base: A, other: B}' evaluate.texts.tr=FILE out=FOLDER
  study       a grid of runs, and tables of which settings made a difference;
              as a Slurm job array: study.array=TASKS site=NAME [launch.dry_run=true]
  resize-hf   resize a Hugging Face folder without Megatron: model=FOLDER tokenizer=FOLDER out=FOLDER
  export-bridge  any checkpoint -> folder that Megatron-Bridge opens: the words of export-hf
  nemo-recipe    the training as a recipe of Megatron-Bridge, with all that it reads: [out=FOLDER]

nemo-adapt COMMAND --help says more, and lists the keys that can be set, with their defaults.
recipe=NAME is one of those listed, or the path of a YAML file:
  nemo-adapt run recipe=stories260k_tr train.phases.0.steps=100 run.name=short
"""


OTHER_COMMANDS = {
    "cancel": "nemo_adapt.launch.cancel",
    "compare": "nemo_adapt.evaluate.command",
    "doctor": "nemo_adapt.machine.doctor",
    "export-bridge": "nemo_adapt.bridge.export_command",
    "export-hf": "nemo_adapt.export_command",
    "fertility": "nemo_adapt.tokens.fertility_command",
    "inspect": "nemo_adapt.inspection.command",
    "launch": "nemo_adapt.launch.command",
    "nemo-recipe": "nemo_adapt.bridge.recipe_command",
    "plan": "nemo_adapt.plan.command",
    "resize-hf": "nemo_adapt.resize.offline",
    "status": "nemo_adapt.status.command",
    "study": "nemo_adapt.study.command",
    "verify": "nemo_adapt.verify",
}
"""Commands that are not stages of a run -> the module whose ``main(words)`` runs each."""
INTERNAL = {"job": "nemo_adapt.launch.job", "study-job": "nemo_adapt.study.jobs"}
"""The same for commands that only our own scripts call."""
PATH_ERRORS = (
    *(errno.ENOENT, errno.EACCES, errno.EPERM, errno.EROFS),
    *(errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ELOOP, errno.ENAMETOOLONG),
)
"""Errors for paths that do not exist, are too long, are blocked by another file, or may not be read or written."""
COLLECTED_AFTER = 50_000
"""New objects between searches for garbage. With Python's 700, ``gc.get_stats`` counts hundreds of searches while torch
and megatron-core are imported, among objects that all stay."""


@ranks.ended_at_once()
def main() -> None:
    """Entry point: exit with 0 when done; print one line for a user's mistake and exit with 2."""
    escape_unprintable()
    ignore_closed_pipes()
    arguments = sys.argv[1:]
    if arguments[:1] == ["help"] and len(arguments) == 2:
        arguments = [arguments[1], "--help"]
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(USAGE, end="")
        raise SystemExit(0 if arguments else 2)
    if arguments[0] == "--version":
        print(__version__)
        return
    gc.set_threshold(COLLECTED_AFTER)
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # warnings of our dependencies are not for our users
    # Hugging Face libraries must not query the network for a local folder.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    for noisy in ("torch.distributed", "torch.distributed.elastic", "torch.multiprocessing", "transformers"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    logging.getLogger("torch.distributed.elastic.multiprocessing.api").setLevel(logging.CRITICAL)
    sys.unraisablehook = _report_unless_of_file
    if arguments[0] in ("run", *pipeline.names()):
        ranks.stop_at_usr1()
    try:
        with file_errors_explained():
            command(arguments[0], arguments[1:])
    except UserError as error:
        if arguments[0] == "rank":
            ranks.report(error)  # all ranks may have the same error: the launching process prints it once
        else:
            ranks.print_user_error(error)
        raise SystemExit(ranks.USER_ERROR) from None
    except KeyboardInterrupt:
        print("nemo-adapt: interrupted; run the same command to go on", file=sys.stderr)
        raise SystemExit(130) from None
    except BaseException as error:  # torch's CheckpointException is not an Exception
        if arguments[0] not in INTERNAL or isinstance(error, SystemExit):
            raise
        ranks.fail(error)


def _report_unless_of_file(unraisable: Any) -> None:
    """Report an exception in a finalizer, but not that of an unclosed file, which Python prints since 3.13: after a
    full disk, for instance, the error was raised where the file was written."""
    if not isinstance(unraisable.object, io.IOBase):
        sys.__unraisablehook__(unraisable)


@contextlib.contextmanager
def file_errors_explained() -> Iterator[None]:
    """Context: raise file errors that the user can fix (full disk, path not readable or writable) as ``UserError``."""
    try:
        yield
    except OSError as error:
        if error.errno in PATH_ERRORS and error.filename:
            raise UserError(f"{error.filename}: {error.strerror}; give another path, or fix this one") from None
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        place = f" (at {error.filename})" if error.filename else ""
        raise UserError(f"the disk is full{place}; free some space and run the same command to go on") from None


def command(name: str, words: list[str]) -> None:
    """Run one command, or print its help."""
    if name == "recipes" and not {"-h", "--help"} & set(words):
        if words:
            raise UserError(f"recipes only lists their names: {words[0]!r} means nothing here")
        print("\n".join(recipe_files.names()))
        return
    if name == "rank":
        _run_as_rank(*words)
        return
    if name not in INTERNAL and {"-h", "--help"} & set(words):
        of = name if name in ("recipes", *OTHER_COMMANDS) else stage_named(name)
        print(manual.page(of, OTHER_COMMANDS.get(name, "")), end="")
        return
    if module := (OTHER_COMMANDS | INTERNAL).get(name):
        importlib.import_module(module).main(words)
        return
    ranks.adopt_slurm()
    stage = stage_named(name)
    config = recipes.of_words(words)
    if ranks.already_started():
        cuda_environment.set_up(config.parallel, config.train.deterministic)
    if stage == "run":
        pipeline.run_all(config)
        _say_result(config)
    else:
        pipeline.run_stage(config, stage)
        if stage == "probe":
            _say_probe(config)


def stage_named(name: str) -> str:
    """Return ``name`` if it is a stage or ``run``; else raise ``UserError`` with the nearest command."""
    if name not in ("run", *pipeline.names()):
        known = ["run", *pipeline.names(), "recipes", *OTHER_COMMANDS]
        raise UserError(f"unknown command {name!r}.{nearest(name, known)} Commands: {', '.join(known)}")
    return name


def _run_as_rank(stage: str, file: str) -> None:
    """Run this rank's part of a stage, with the configuration in ``file``."""
    # A training unblocks them once it can save; until then, also while torch is imported, they stay pending.
    keeps = signal.SIG_BLOCK if stage == "train" else signal.SIG_UNBLOCK
    signal.pthread_sigmask(keeps, ranks.STOP_SIGNALS)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that started it forwards it
    pipeline.run_as_rank(recipes.read(Path(file)), stage)


def _say_result(config: Config) -> None:
    if not ranks.is_first():
        return
    from nemo_adapt.evaluate.headline import headline

    folder = RunFolder.of(config)["evaluate"]
    print(f"\nreport: {folder / 'report.html'}")
    for line in headline(json.loads((folder / "report.json").read_text(encoding="utf-8"))):
        print(f"  {line}")


def _say_probe(config: Config) -> None:
    if not ranks.is_first():
        return
    from nemo_adapt.probe.report import show

    folder = RunFolder.of(config)["probe"]
    show(json.loads((folder / "probe.json").read_text(encoding="utf-8")))
    print(f"table and plot: {folder}; to train with the choice: resize.input=probed")
