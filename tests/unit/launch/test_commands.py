"""``launch``, ``cancel`` and ``job`` with stand-ins for Slurm's commands: their calls, and user errors."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys

import pytest
from helpers.command import unread
from helpers.tiny import TinyLlama, make_llama

from nemo_adapt import cli, pipeline
from nemo_adapt.config import recipes
from nemo_adapt.errors import UserError
from nemo_adapt.files import write_json
from nemo_adapt.launch import submit
from nemo_adapt.launch.chain import with_dp_of_jobs
from nemo_adapt.run import steps
from nemo_adapt.run.restart import STARTED
from nemo_adapt.status import command as status

NOTE = 'printf "%q " "${0##*/}" "$@" >> "$NOTES"; echo >> "$NOTES"\n'
SBATCH = """\
case $* in
*--test-only*) exit 0 ;;
*train.sh*) [ -z "${REFUSE:-}" ] || { echo no >&2; exit 1; } ;;
esac
echo $((100 + $(wc -l < $NOTES)))
"""
SLURM = {
    "sbatch": NOTE + SBATCH,
    "scontrol": 'echo "JobId=1 JobState=${STATE:-COMPLETED} Reason=None Command=/x"\n',
    "scancel": NOTE,
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with a model and text."""
    make_llama(tmp_path / "model", TinyLlama())
    (tmp_path / "tr.txt").write_text("bir iki\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def slurm(folder, monkeypatch):
    """Stand-ins for Slurm's commands; a function that returns the recorded calls as lists of words."""
    notes = folder / "notes"
    notes.touch()
    (folder / "bin").mkdir()
    for name, body in SLURM.items():
        (folder / "bin" / name).write_text(f"#!/bin/bash\n{body}")
        (folder / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}:/usr/bin:/bin")
    monkeypatch.setenv("NOTES", str(notes))
    return lambda: [shlex.split(line) for line in notes.read_text().splitlines()]


WORDS = [
    *("recipe=blank", "run.name=r", "model.path=model", "site=cpu", "parallel.tp=2"),
    *("data.target=[tr.txt]", "tokenizer.text=[tr.txt]", "evaluate.texts.tr=tr.txt"),
]


def test_launch_deletes_what_earlier_jobs_noted(slurm, folder):
    noted = folder / "runs/r/launch/seen/7.0/first"
    noted.parent.mkdir(parents=True)
    noted.touch()
    cli.command("launch", WORDS)
    assert not noted.parent.parent.exists()


def test_chain_is_tested_then_submitted_with_dependencies(slurm, folder, capsys):
    cli.command("launch", WORDS)
    calls = slurm()
    assert [words[:2] for words in calls[:4]] == [["sbatch", "--test-only"]] * 4
    assert all("--kill-on-invalid-dep=yes" in words and f"--chdir={folder}" in words for words in calls)
    after = [[word for word in words if "dependency" in word] for words in calls[4:]]
    assert after == [[], ["--dependency=afterok:105"], ["--dependency=afterok:106"], ["--dependency=afterok:107"]]
    made = json.loads((folder / "runs/r/launch/jobs.json").read_text())
    assert [(job["name"], job["id"]) for job in made["jobs"]] == [
        *(("prepare", "105"), ("train", "106"), ("export", "107"), ("evaluate", "108")),
    ]
    assert made["versions"]["nemo_adapt"] and made["executor"] == "sbatch"
    root = folder / "runs/r/launch"
    assert (root / "config.yaml").is_file() and (root / "code/nemo_adapt/cli.py").is_file()
    assert (root / "train.sh").read_text().startswith("#!/usr/bin/env bash\n#SBATCH")
    assert "submitted prepare (105), train (106), export (107), evaluate (108)" in capsys.readouterr().out


def test_options_of_the_scripts_are_not_overridden_by_variables_of_the_user(slurm, folder, monkeypatch):
    """sbatch prefers them to what a script says; those that no script sets remain the user's defaults."""
    body = 'env | grep ^SBATCH_ | sort | paste -sd" " > "$NOTES.$(basename "${@: -1}")"\n'
    (folder / "bin/sbatch").write_text(f"#!/bin/bash\n{body}{NOTE}{SBATCH}")
    names = (
        "TIMELIMIT",
        "SIGNAL",
        "JOB_NAME",
        "OPEN_MODE",
        "NO_REQUEUE",
        "REQUEUE",
        "ACCOUNT",
        "RESERVATION",
        "PARTITION",
    )
    for name in names:
        monkeypatch.setenv(f"SBATCH_{name}", "1")
    cli.command("launch", [*WORDS, "site.partition=long"])
    assert (folder / "notes.train.sh").read_text() == "SBATCH_ACCOUNT=1 SBATCH_RESERVATION=1\n"
    cli.command("launch", [*WORDS, "site.account=ling"])
    assert (folder / "notes.prepare.sh").read_text() == "SBATCH_PARTITION=1 SBATCH_RESERVATION=1\n"


def test_a_read_only_installation_can_be_launched_from_again(slurm, folder, monkeypatch):
    """Root may write to its copy nevertheless: the modes are compared."""
    installed, copied = folder / "site-packages/nemo_adapt", folder / "runs/r/launch/code/nemo_adapt"
    (installed / "launch").mkdir(parents=True)
    (installed / "launch/x.py").touch(mode=0o444)
    for place in (installed / "launch", installed):
        place.chmod(0o555)
    monkeypatch.setattr(submit.nemo_adapt, "__file__", str(installed / "__init__.py"))
    for _ in range(2):
        cli.command("launch", WORDS)
        assert [path.stat().st_mode & 0o777 for path in (copied, copied / "launch")] == [0o755, 0o755]
        assert (copied / "launch/x.py").is_file()
        for place in (copied / "launch", copied):
            place.chmod(0o555)  # as an earlier version left it


def test_the_commit_is_that_of_a_checkout_of_this_package(tmp_path, monkeypatch):
    """Not that of the user's own project, in which the package is installed."""
    package = tmp_path / ".venv/nemo_adapt"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (tmp_path / "own.py").touch()
    monkeypatch.setattr(submit.nemo_adapt, "__file__", str(package / "__init__.py"))

    def git(*words):
        who = ("-c", "user.name=x", "-c", "user.email=x@x.x")
        return subprocess.run(["git", "-C", tmp_path, *who, *words], check=True, capture_output=True, text=True).stdout

    assert submit.commit() == ""
    git("init")
    git("add", "own.py")
    git("commit", "-m", "x")
    assert submit.commit() == ""
    git("add", ".venv")
    git("commit", "-m", "x")
    head = git("rev-parse", "HEAD").strip()
    assert submit.commit() == head
    (package / "__init__.py").write_text("1")
    assert submit.commit() == f"{head}+"


LATER = ("train", "export", "evaluate")
"""The jobs after the first."""
ON_GPUS = ["cluster=a40_x4", "site=gpus", "site.gpus_per_node=4", "train.global_batch=64", "launch.dry_run=true"]
"""On GPUs of a cluster of which a plan knows the speed."""


@pytest.mark.parametrize("gibibytes", [44, 3.001])
def test_launch_says_what_is_estimated_for_the_cluster(folder, capsys, gibibytes):
    words = [*WORDS, *ON_GPUS, f"cluster.memory_gib={gibibytes}"]
    if gibibytes < 4:  # plan.reserve_gib is 3
        with pytest.raises(
            UserError, match=r"^cluster=a40_x4: does not fit: a rank needs .* most of it for .* launch\.must_fit=false"
        ):
            cli.command("launch", words)
        words.append("launch.must_fit=false")
    cli.command("launch", words)
    first, second = [line for line in capsys.readouterr().out.splitlines() if line.startswith("###")][:2]
    assert re.fullmatch(
        r"### estimated: a rank needs [\d.]+ MiB of [\d.]+ .iB, training takes 0:.* \([\d.]+ GPU-hours\), its "
        r"files up to [\d.]+ MB",
        first,
    )
    assert ("does not fit" in second) == (gibibytes < 4)


PARTITIONS = """\
case $* in *partition*)
    echo "PartitionName=short Default=YES DefaultTime=NONE MaxTime=06:00:00 State=UP"
    echo "PartitionName=long Default=NO DefaultTime=NONE MaxTime=2-00:00:00 State=UP"
    echo "PartitionName=free Default=NO DefaultTime=NONE MaxTime=UNLIMITED State=UP" ;;
*) echo "JobId=1 JobState=COMPLETED Reason=None Command=/x" ;;
esac
"""


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["site.cpu.time=1:00:00"], "site.time=24:00:00 is more than the default partition allows (06:00:00): train"),
        (["site.time=5:00:00"], "site.cpu.time=12:00:00 is more than the default partition allows (06:00:00): prepare"),
        (["site.partition=long", "site.time=3-0"], "site.time=3-0 is more than partition long allows (2-00:00:00)"),
        (["site.partition=free", "site.cpu.partition=short"], "site.cpu.time=12:00:00 is more than partition short"),
        (
            ["site.partition=long", "site.time=12:00:00", "site.cpu.partition=short"],
            "site.cpu.time=12:00:00 is more than partition short",
        ),
        (["site.partition='long,short'"], ""),
        (["site.partition=free", "site.time=30-0"], ""),
        (["site.partition=unknown", "site.time=30-0"], ""),  # which sbatch refuses
        (["site.qos=night", "site.time=3-0"], ""),
        (["site.sbatch=['--qos=night']", "site.time=3-0"], ""),
    ],
)
def test_a_time_limit_that_the_partition_does_not_allow_is_said(slurm, folder, words, says):
    """Slurm would accept the job, and let it wait for ever."""
    (folder / "bin/scontrol").write_text(f"#!/bin/bash\n{PARTITIONS}")
    if not says:
        cli.command("launch", [*WORDS, *words])
        return
    with pytest.raises(UserError) as error:
        cli.command("launch", [*WORDS, *words])
    assert says in str(error.value) and "would wait for ever" in str(error.value)
    assert not slurm() and not (folder / "runs").exists()


NO_NODES = """\
case $* in
*--test-only*train.sh*) echo "allocation failure: Requested node configuration is not available" >&2; exit 1 ;;
esac
"""


@pytest.mark.parametrize(
    ("words", "nodes", "note"),
    [
        ([], "main* 0/0/1/1", "1 of 1 nodes are down or drained (sinfo): train, on 1, will wait for them"),
        (["site.partition=b"], "b 0/3/2/5", ""),  # there are three others
        (["site.partition='a,b'"], "a 2/3/0/5\nb 0/0/2/2", "2 of 2 nodes are down or drained"),
        (["site.partition=b"], "b 0/0/0/0", ""),
        ([], "main 0/0/1/1", ""),
        ([], "sinfo: error: cannot say", ""),
    ],
)
def test_a_job_may_wait_for_nodes_that_are_down(slurm, folder, capsys, words, nodes, note):
    """``sbatch --test-only`` refuses it, with the same message as one for which there are no nodes at all."""
    (folder / "bin/sbatch").write_text(f"#!/bin/bash\n{NOTE}{NO_NODES}{SBATCH}")
    (folder / "bin/sinfo").write_text(f"#!/bin/bash\necho '{nodes}'\n")
    (folder / "bin/sinfo").chmod(0o755)
    if note:
        cli.command("launch", [*WORDS, *words])
        assert note in capsys.readouterr().out and (folder / "runs/r/launch/jobs.json").is_file()
        return
    with pytest.raises(UserError, match="Slurm refuses the job train: no such nodes here"):
        cli.command("launch", [*WORDS, *words])
    assert not (folder / "runs").exists()


@pytest.mark.parametrize("name", ["PARTITION", "QOS"])
def test_the_partition_and_quality_of_service_of_the_user_s_environment_are_not_second_guessed(
    slurm, folder, monkeypatch, name
):
    (folder / "bin/scontrol").write_text(f"#!/bin/bash\n{PARTITIONS}")
    monkeypatch.setenv(f"SBATCH_{name}", "long")
    cli.command("launch", WORDS)
    assert slurm()


def test_launch_succeeds_if_its_output_is_a_closed_pipe(slurm, folder):
    """As with ``nemo-adapt launch ... 2>&1 | head -1``: all jobs are submitted and recorded, and the exit code is 0."""
    assert unread("launch", *WORDS) == 0
    calls = [words[-1].rpartition("/")[2] for words in slurm() if "--test-only" not in words]
    assert calls == ["prepare.sh", "train.sh", "export.sh", "evaluate.sh"]
    assert len(json.loads((folder / "runs/r/launch/jobs.json").read_text())["jobs"]) == 4


def test_dry_run_prints_scripts_and_changes_nothing(folder, monkeypatch, capsys):
    monkeypatch.setenv("PATH", "/nowhere")
    before = sorted(folder.rglob("*"))
    cli.command("launch", [*WORDS, "launch.dry_run=true"])
    shown = capsys.readouterr().out
    assert shown.count("#!/usr/bin/env bash") == shown.count("### sbatch --parsable") == 4
    assert "'--dependency=afterok:<number of train>'" in shown
    assert sorted(folder.rglob("*")) == before


def test_container_image_is_checked_where_possible(slurm, folder, capsys):
    (folder / "there.sqsh").touch()
    container = [word for word in WORDS if word != "site=cpu"] + ["site=container", "parallel.tp=8"]
    make_llama(folder / "model", TinyLlama(heads=8, kv_heads=8))
    for image, says in (
        (f"{folder}/there.sqsh", ""),
        ("nvcr.io#nvidia/nemo:26.02", "is in a registry: not checked here whether it can be fetched"),
        ("docker://nvidia/nemo", "is in a registry: not checked here"),
        ("/absent/nemo.sqsh", "/absent/nemo.sqsh cannot be seen from here: each job looks for it"),
    ):
        cli.command("launch", [*container, f"site.container.image='{image}'", "launch.dry_run=true"])
        shown = capsys.readouterr().out
        assert says in shown and ("site.container.image" in shown.split("#!/")[0]) == bool(says)
    for image, says in ((f"{folder}/nemo.sqsh", "nemo.sqsh is missing"), ("~/nemo.sqsh", "write out the home folder")):
        with pytest.raises(UserError, match=says):
            cli.command("launch", [*container, f"site.container.image='{image}'"])
    assert not slurm(), "nothing was submitted"
    cli.command("launch", [*container, "site.container.image='docker://nvidia/nemo'"])
    assert "not checked here" in capsys.readouterr().out and len(slurm()) == 8


def test_missing_dependencies_on_a_node_give_one_error_line(slurm, folder):
    """Instead of a traceback: the program is copied to the nodes, the packages it imports are not."""
    cli.command("launch", WORDS)
    code = folder / "runs/r/launch/code"
    done = subprocess.run([sys.executable, "-I", "-S", str(code / "main.py")], capture_output=True, text=True, cwd=code)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "nemo-adapt: error: " in done.stderr and "the dependencies of nemo-adapt must be installed" in done.stderr


def test_missing_sbatch_is_a_user_error(folder, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UserError, match="there is no sbatch on this machine: launch from a login node"):
        cli.command("launch", WORDS)
    assert not (folder / "runs").exists()


def test_submitted_jobs_are_cancelled_if_a_later_one_is_refused(slurm, folder, monkeypatch):
    monkeypatch.setenv("REFUSE", "1")
    with pytest.raises(UserError, match="Slurm refuses the job train: no"):
        cli.command("launch", WORDS)
    assert slurm()[-1] == ["scancel", "105"] and not (folder / "runs/r/launch/jobs.json").exists()


def test_submitted_jobs_are_cancelled_at_control_c(slurm, folder):
    """No record of them is left by which they could be cancelled later."""
    asked = "case $* in *--test-only*) ;; *train.sh*) kill -INT $PPID; exec sleep 60 ;; esac\n"
    (folder / "bin/sbatch").write_text(f"#!/bin/bash\n{NOTE}{asked}{SBATCH}")
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs in the background ignores it
    try:
        with pytest.raises(KeyboardInterrupt):
            cli.command("launch", WORDS)
    finally:
        signal.signal(signal.SIGINT, before)
    assert slurm()[-1] == ["scancel", "105"] and not (folder / "runs/r/launch/jobs.json").exists()


def test_each_job_is_recorded_before_the_next_is_submitted(slurm, folder):
    """A connection that is lost in between leaves no job that nobody knows."""
    known = 'cp runs/r/launch/jobs.json "$NOTES.$(basename "${@: -1}")" 2> /dev/null'
    seen = f"case $* in *--test-only*) ;; *) {known} ;; esac\n"
    (folder / "bin/sbatch").write_text(f"#!/bin/bash\n{NOTE}{seen}{SBATCH}")
    cli.command("launch", WORDS)
    known = [[job["id"] for job in json.loads((folder / f"notes.{name}.sh").read_text())["jobs"]] for name in LATER]
    assert known == [["105"], ["105", "106"], ["105", "106", "107"]]
    assert not (folder / "notes.prepare.sh").exists()


def test_submitted_jobs_are_cancelled_if_they_cannot_be_recorded(slurm, folder):
    full = "case $* in *--test-only*) ;; *export.sh*) rm $FILE; mkdir -p $FILE/x ;; esac\n"
    full = f"FILE=runs/r/launch/jobs.json\n{full}"
    (folder / "bin/sbatch").write_text(f"#!/bin/bash\n{NOTE}{full}{SBATCH}")
    with pytest.raises(OSError, match=r"jobs\.json"):
        cli.command("launch", WORDS)
    assert slurm()[-1] == ["scancel", "105", "106", "107"]


def test_refused_launch_leaves_no_files(slurm, folder):
    (folder / "bin/sbatch").write_text("#!/bin/bash\necho sbatch: error: invalid partition specified: x >&2; exit 1\n")
    with pytest.raises(UserError, match=r"the job prepare: the partition does not exist here: site\.partition"):
        cli.command("launch", WORDS)
    assert not (folder / "runs").exists()


def test_run_with_live_jobs_cannot_be_launched_again(slurm, monkeypatch):
    cli.command("launch", WORDS)
    monkeypatch.setenv("STATE", "PENDING")
    with pytest.raises(UserError, match=r"has been launched, and prepare \(105\), .* nemo-adapt cancel"):
        cli.command("launch", WORDS)
    monkeypatch.setenv("STATE", "FAILED")
    cli.command("launch", WORDS)


def test_a_copied_run_does_not_answer_for_the_jobs_of_the_original(slurm, folder, monkeypatch):
    """``launch`` had advised to cancel the copy's jobs, which cancelled the original's."""
    cli.command("launch", WORDS)
    monkeypatch.setenv("STATE", "RUNNING")
    shutil.copytree("runs/r", "runs/copy")
    (folder / "link").symlink_to("runs/r")
    copied = [word.replace("run.name=r", "run.name=copy") for word in WORDS]
    with pytest.raises(UserError, match=f"are the jobs of {folder}/runs/r, .* cancel {folder}/runs/r"):
        cli.command("cancel", ["runs/copy"])
    assert "scancel" not in [words[0] for words in slurm()]
    assert not status.look(folder / "runs/copy").jobs and len(status.look(folder / "link").jobs) == 4
    cli.command("launch", copied)
    assert len(status.look(folder / "runs/copy").jobs) == 4
    cli.command("cancel", ["link"])
    assert slurm()[-1] == ["scancel", "108", "107", "106", "105"]


def test_a_run_that_was_moved_keeps_its_jobs(slurm, folder, monkeypatch):
    cli.command("launch", WORDS)
    (folder / "runs").rename(folder / "elsewhere")
    assert [job.state for job in status.look(folder / "elsewhere/r").jobs] == ["done"] * 4
    moved = [*WORDS, "run.dir=elsewhere"]
    with monkeypatch.context() as patch:
        patch.setenv("STATE", "PENDING")
        with pytest.raises(UserError, match=r"has been launched, and prepare \(105\), "):
            cli.command("launch", moved)
    cli.command("launch", moved)


FAR = """\
case $* in
*,*) echo "Only one cluster can be used at a time" >&2; exit 1 ;;
*--clusters=far*partition*) echo "PartitionName=x Default=YES MaxTime=UNLIMITED" ;;
*partition*) echo "PartitionName=x Default=YES MaxTime=01:00:00" ;;
*--clusters=far*) echo "JobId=1 JobState=RUNNING Reason=None Command=/x" ;;
*) echo "slurm_load_jobs error: Invalid job id specified" >&2; exit 1 ;;
esac
"""
"""A controller of this machine's cluster, which knows no jobs, and one of another."""


@pytest.mark.parametrize("variable", ["", "SLURM_CLUSTERS", "SBATCH_CLUSTERS"])
def test_jobs_on_another_cluster_are_asked_about_and_cancelled_there(slurm, folder, monkeypatch, variable):
    """Job numbers of two clusters are unrelated: without the cluster's name, Slurm speaks of other jobs, or of none."""
    (folder / "bin/scontrol").write_text(f"#!/bin/bash\n{FAR}")
    clusters = 'case "$* ${SLURM_CLUSTERS:-$SBATCH_CLUSTERS} $(cat "${@: -1}")" in *far*) ;; *) exit 1 ;; esac\n'
    (folder / "bin/sbatch").write_text(f"#!/bin/bash\n{clusters}{NOTE}{SBATCH.rstrip()}';far'\n")
    if variable:
        monkeypatch.setenv(variable, "near,far" if variable.startswith("SBATCH") else "far")
    words = WORDS if variable else [*WORDS, "site.sbatch=['--clusters=far']"]
    cli.command("launch", words)
    rows = json.loads((folder / "runs/r/launch/jobs.json").read_text())["jobs"]
    assert {row["cluster"] for row in rows} == {"far"} and rows[0]["id"] == "105"
    pinned = [[word for word in call if word.startswith("--clusters")] for call in slurm()[4:]]
    assert pinned == [[], *[["--clusters=far"]] * 3], "all jobs of a chain are on one cluster"
    monkeypatch.delenv(variable or "SLURM_CLUSTERS", raising=False)
    if not variable:
        monkeypatch.setenv("SLURM_CLUSTERS", "near")  # since then
    with pytest.raises(UserError, match=r"has been launched, and prepare \(105\), "):
        cli.command("launch", words)
    assert [job.slurm for job in status.look(folder / "runs/r").jobs] == ["RUNNING"] * 4
    cli.command("cancel", ["runs/r"])
    assert slurm()[-1] == ["scancel", "--clusters=far", "108", "107", "106", "105"]


def test_jobs_of_this_machine_s_cluster_are_not_looked_for_on_another(slurm, folder, monkeypatch):
    """Which the user's environment chooses by now."""
    cli.command("launch", WORDS)
    other = '[ -z "${SLURM_CLUSTERS:-}" ] || exit 1; echo "JobId=1 JobState=RUNNING Reason=None Command=/x"\n'
    (folder / "bin/scontrol").write_text(f"#!/bin/bash\n{other}")
    monkeypatch.setenv("SLURM_CLUSTERS", "far")
    assert [job.slurm for job in status.look(folder / "runs/r").jobs] == ["RUNNING"] * 4


def test_nemo_run_takes_no_other_cluster(slurm):
    with pytest.raises(UserError, match=r"launch.executor=nemo_run takes no other cluster \(far\)"):
        cli.command("launch", [*WORDS, "launch.executor=nemo_run", "site.sbatch=['--clusters=far']"])


def test_cancel_ends_live_jobs_last_first(slurm, folder, monkeypatch, capsys):
    cli.command("launch", WORDS)
    cli.command("cancel", ["runs/r"])
    assert "nothing to cancel" in capsys.readouterr().out
    monkeypatch.setenv("STATE", "RUNNING")
    cli.command("cancel", ["runs/r"])
    assert slurm()[-1] == ["scancel", "108", "107", "106", "105"], "the last first"
    for words, says in ((["runs/other"], "was not launched"), ([], "takes the folder of one run")):
        with pytest.raises(UserError, match=says):
            cli.command("cancel", words)


def test_jobs_may_be_live_while_slurm_does_not_answer(slurm, folder, capsys):
    """A controller that is restarted knows them again: they are cancelled, watched, and not launched a second time."""
    cli.command("launch", WORDS)
    said = "Unable to contact slurm controller (connect failure)"
    for name in ("scontrol", "scancel"):
        (folder / "bin" / name).write_text(f"#!/bin/bash\necho 'slurm_load_jobs error: {said}' >&2; exit 1\n")
    with pytest.raises(UserError, match="scancel 108 107 106 105: Slurm's controller does not answer: try again later"):
        cli.command("cancel", ["runs/r"])
    submitted = len(slurm())
    with pytest.raises(UserError, match="not known whether its jobs have ended: Slurm's controller does not answer"):
        cli.command("launch", WORDS)
    assert len(slurm()) == submitted
    report = status.look(folder / "runs/r")
    assert report.is_under_way
    assert {(job.state, job.reason) for job in report.jobs} == {
        ("unknown", f"Slurm's controller does not answer: try again later (slurm_load_jobs error: {said})")
    }


@pytest.fixture
def mask():
    """Restore this process's signal mask after the test."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    yield
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def test_job_blocks_sigusr1_before_reading_the_recipe(slurm, mask, monkeypatch):
    """Threads of later imports inherit the mask; without it, a signal to any one of them ends the rank."""
    seen = []
    monkeypatch.setattr(
        "nemo_adapt.config.recipes.read", lambda path: seen.append(signal.pthread_sigmask(signal.SIG_BLOCK, []))
    )
    with pytest.raises(AttributeError):
        cli.command("job", ["runs/r", "train"])
    assert signal.SIGUSR1 in seen[0]


def test_unknown_job_is_a_user_error(slurm, mask):
    cli.command("launch", WORDS)
    for words, says in ((["runs/r", "probe"], "has no job 'probe': prepare, train"), (["runs/r"], "job takes a run's")):
        with pytest.raises(UserError, match=says):
            cli.command("job", words)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["site=nope"], "unknown site 'nope'.*Sites: container, cpu, gpus, or FILE.yaml"),
        (["site=gpu"], "Did you mean 'gpus'"),
        (["site=absent.yaml"], "unknown site 'absent.yaml'"),
        (["site.partitoin=x"], "unknown key 'site.partitoin'. Did you mean 'site.partition'"),
        (["launch.executor=slurm"], "launch.executor='slurm' is not one of sbatch, nemo_run"),
        (["parallel.tp=3", "site.ranks_per_node=3"], "parallel.tp=3 does not divide"),
        (["parallel.tp=0"], r"^parallel\.tp=0 must be at least 1$"),
        (["launch.nodes=-1"], r"^launch\.nodes=-1 must be at least 0$"),
        (["site.cpu.cpus=-4"], r"^site\.cpu\.cpus=-4 must be at least 0$"),
        (["data.target=[absent.txt]"], "absent.txt"),
        (["evaluate.texts.tr=absent.txt"], "absent.txt"),
    ],
)
def test_user_errors_are_raised_before_anything_is_submitted(slurm, folder, words, says):
    with pytest.raises(UserError, match=says) as error:
        cli.command("launch", [*WORDS, *words])
    assert "\n" not in str(error.value)
    assert slurm() == [] and not (folder / "runs").exists()


@pytest.mark.parametrize("command", ["launch", "run", "evaluate"])
def test_missing_held_out_text_is_an_error_before_anything_is_made(slurm, folder, command):
    """The last stage needs it: a training would have ended before it is said."""
    left = ("evaluate", "site", *(("parallel",) if command == "run" else ()))
    words = [word for word in WORDS if not word.startswith(left)]
    with pytest.raises(UserError, match=r"evaluate\.texts is empty"):
        cli.command(command, [*words, "site=cpu"])
    assert slurm() == [] and not (folder / "runs").exists()


@pytest.mark.parametrize("command", ["launch", "run", "export"])
@pytest.mark.parametrize(
    ("place", "says"),
    [
        ("full", "full exists and is not a result of nemo-adapt export"),
        ("tr.txt/mine", r"tr.txt/mine cannot be made, as .*tr\.txt is no folder that you may write to"),
        ("locked/a/mine", "locked/a/mine cannot be made, as .*locked is no folder that you may write to"),
        ("locked/empty", "locked/empty cannot be made, as .*locked is no folder that you may write to"),
        ("empty", ""),
        ("new/mine", ""),
    ],
)
def test_a_model_that_could_not_be_written_is_said_before_anything_is_made(
    slurm, folder, monkeypatch, command, place, says
):
    """It had been said after the training."""
    for name in ("full", "empty", "locked/empty"):
        (folder / name).mkdir(parents=True)
    (folder / "full/thesis.tex").touch()
    allowed = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path != folder / "locked" and allowed(path, mode))
    monkeypatch.setattr(pipeline, "run_step", lambda config, step, made: None)
    monkeypatch.setattr(cli, "_say_result", lambda config: None)
    if not says:
        cli.command(command, [*WORDS, f"export.dir={place}"])
        return
    with pytest.raises(UserError, match=says):
        cli.command(command, [*WORDS, f"export.dir={place}"])
    assert not slurm() and not (folder / "runs").exists()


def test_launch_does_not_replace_what_a_training_was_begun_with(slurm, folder):
    """The job that prepares would have made another tokenizer, with which the training then could not go on; with other
    settings it could not either."""
    config = recipes.of_words(WORDS)
    train = next(step for step in pipeline.steps_of(config) if step.name == "train")
    settings = steps._deciding(with_dp_of_jobs(config), train)
    begun = folder / "runs/r/train" / STARTED
    begun.parent.mkdir(parents=True)
    inputs = {"model": {}, "checkpoint": {}, "data.target": {}}
    inputs["tokenizer"] = {"runs/r/tokenizer": "made with other settings"}
    write_json(begun, {"config": settings, "inputs": inputs})
    for command in ("launch", "tokenizer"):
        with pytest.raises(UserError, match=r"train was started with another tokenizer than now .*: put that back"):
            cli.command(command, WORDS)
    assert not (folder / "runs/r/tokenizer").exists()
    write_json(begun, {"config": settings, "inputs": {key: {} for key in inputs}})
    with pytest.raises(UserError, match=r"train was made with other settings \(train\.phases\): choose another run"):
        cli.command("launch", [*WORDS, "train.phases=[{steps: 77}]"])
    assert slurm() == []
    cli.command("launch", WORDS)


def test_site_file_of_the_user_is_read_and_can_be_overridden(folder, capsys):
    (folder / "mine.yaml").write_text("partition: a100\nranks_per_node: 1\ncpu: {partition: cpu}\n")
    words = [*(word for word in WORDS if not word.startswith("site")), "site=mine.yaml", "launch.dry_run=true"]
    cli.command("launch", [*words, "site.account=ling", "site.partition=h100"])
    shown = capsys.readouterr().out
    assert "--partition=h100" in shown and "--partition=cpu" in shown and "a100" not in shown
    assert shown.count("--account=ling") == 4
