"""A study as a Slurm job array: its scripts and sizes, checks before submission, and its jobs."""

import json
import shlex
import signal
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.launches import WORKDIR, Machine, config_of
from helpers.tiny import TinyLlama, make_llama

from nemo_adapt import cli, pipeline
from nemo_adapt.config import recipes
from nemo_adapt.errors import UserError
from nemo_adapt.files import write_json
from nemo_adapt.launch import sbatch, slurm
from nemo_adapt.launch.paths import LaunchPaths
from nemo_adapt.run import preflight
from nemo_adapt.status import jobs as status_jobs
from nemo_adapt.study import array, jobs
from nemo_adapt.study import command as study_command
from nemo_adapt.study.array import chain_of, size_of
from nemo_adapt.study.work import DONE, FAILED, run_cells, unfinished

GOLDEN = Path(__file__).parents[2] / "golden" / "study"
PROFILES = {
    "gpus": ["site=gpus", "site.account=ling", "site.modules=[cuda/12.8]", "parallel.tp=2", "parallel.dp=1"],
    "cpu": ["site=cpu", "parallel.tp=1", "parallel.dp=1"],
}
HARMFUL = "a b'c\"d $(touch pwned) `touch pwned`; touch pwned\n#SBATCH --nodes=99 \\"


def script_of(config, job, place=None, workdir=WORKDIR):
    """The script of a study's job; each cell has the configuration's number of ranks."""
    chosen = next(each for each in chain_of(3) if each.name == job)
    place = place or LaunchPaths(workdir / "runs/turkish")
    return sbatch.script(config, chosen, size_of(config, config.parallel.ranks), place, workdir, "python")


@pytest.mark.parametrize("name", ["gpus-prepare.sh", "gpus-cells.sh", "gpus-report.sh", "cpu-cells.sh"])
def test_scripts_equal_the_golden_files(name):
    profile, job = name.removesuffix(".sh").split("-")
    assert script_of(config_of(*PROFILES[profile]), job) == (GOLDEN / name).read_text(encoding="utf-8")
    assert len(list(GOLDEN.iterdir())) == 4


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        (["site=gpus", "parallel.tp=1"], {"gpus-per-node": "1", "cpus-per-task": "8"}),
        (["site=gpus", "parallel.tp=8"], {"gpus-per-node": "8", "cpus-per-task": "64", "mem": "0"}),
        (["site=gpus", "parallel.tp=1", "study.processes=2"], {"gpus-per-node": "1", "cpus-per-task": "16"}),
        (["site=cpu", "parallel.tp=1", "site.memory=64G"], {"cpus-per-task": "1"}),
        (["site=cpu", "parallel.tp=1", "site.memory=64G", "study.processes=2"], {"cpus-per-task": "2", "mem": "64G"}),
    ],
)
def test_array_task_requests_only_the_part_of_a_node_that_it_needs(words, asked):
    config = config_of(*words, "parallel.dp=1")
    given = sbatch.options(config, chain_of(3)[1], size_of(replace_dp(config), config.parallel.tp))
    found = dict(option.removeprefix("--").partition("=")[::2] for option in given)
    named = ("gpus-per-node", "cpus-per-task", "mem")
    assert {name: found[name] for name in named if name in found} == asked
    assert (found["array"], found["nodes"], found["ntasks-per-node"]) == ("0-2", "1", "1")


def replace_dp(config):
    return replace(config, parallel=replace(config.parallel, dp=1))


def test_cells_larger_than_a_node_are_refused():
    with pytest.raises(UserError, match=r"a cell has 16 ranks .* one node, of 8: launch such cells as runs"):
        size_of(config_of("site=gpus"), 16)


def test_sbatch_arguments_have_dependencies_and_the_log_path():
    config, place = config_of("site=cpu", "parallel.tp=1", "parallel.dp=1"), LaunchPaths(Path("/runs/100%"))
    _, cells, report = (sbatch.submission(config, job, place, WORKDIR, after="12") for job in chain_of(3))
    assert "--dependency=afterok:12" in cells and "--dependency=afterany:12" in report
    assert "--output=/runs/100%%/logs/cells-%A_%a.log" in cells


TASK = {"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "2"}
"""Environment of an array's last task, whose SLURM_JOB_ID is the array's: requeueing that would requeue every task."""


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path / "machine", tmp_path / "run")


@pytest.fixture
def task(machine):
    return script_of(config_of(*PROFILES["cpu"]), "cells", LaunchPaths(machine.run))


@pytest.mark.parametrize(
    ("tasks", "restarts", "code", "is_requeued"),
    [
        ("exit 0", 0, 0, False),  # all of its cells are done
        ("exit 85", 0, 0, True),  # it was asked to stop
        ("exit 2", 0, 2, False),  # some cells failed
        ("exit 1", 0, 1, False),
        ("exit 137", 2, 0, True),  # it was killed
        ("exit 137", 3, 137, False),  # killed too often
        ("exit 85", 9, 0, True),
    ],
)
def test_exit_code_decides_whether_a_task_is_requeued(machine, task, tasks, restarts, code, is_requeued):
    count = str(restarts)
    found, said = machine.ends(task, tasks=tasks, RESTARTS=count, SLURM_RESTART_COUNT=count, **TASK)
    assert (found, machine.is_requeued) == (code, is_requeued), said
    assert all("7_2" in line for line in machine.noted("scontrol").splitlines()), "this task alone"
    assert machine.words[-3:] == ["study-job", str(machine.run), "cells"]


def test_cancelled_task_is_not_requeued(machine, task):
    code, said = machine.ends(task, tasks="exit 85", STATE="COMPLETING", **TASK)
    assert (code, machine.is_requeued) == (1, False) and "job 7_2 was cancelled" in said


def test_container_gets_the_number_of_threads_from_the_job_not_the_image():
    said = script_of(config_of("site=container", "site.cpus_per_rank=8", "parallel.tp=2", "parallel.dp=1"), "cells")
    assert "export OMP_NUM_THREADS=" in said and "--container-env=NCCL_DEBUG,OMP_NUM_THREADS " in said


def test_signal_before_the_cell_is_started_requeues_the_task(machine, task):
    srun = '#!/usr/bin/env bash\nwhile [[ $1 == --* ]]; do shift; done\n[[ $1 == bash ]] || touch "$NOTES/started"\n'
    checks = 'touch "$NOTES/checking"; /bin/sleep 1; SLURMD_NODENAME=n1 exec "$@"\n'
    machine.folder.joinpath("bin/srun").write_text(srun + checks)
    process = machine.start(task, "exit 1", **TASK)
    machine.wait_for("checking")
    process.send_signal(signal.SIGUSR1)
    said, _ = process.communicate(timeout=30)
    assert (process.returncode, machine.is_requeued) == (0, True), said
    assert not (machine.notes / "started").exists()


def test_signal_is_forwarded_and_the_task_requeued(machine, task):
    tasks = (
        'trap "touch $NOTES/handed; exit 85" USR1; touch "$NOTES/ready" "$STARTED"; while :; do /bin/sleep 0.05; done'
    )
    process = machine.start(task, tasks, **TASK)
    machine.wait_for("ready")
    process.send_signal(signal.SIGUSR1)
    said, _ = process.communicate(timeout=60)
    assert (machine.notes / "handed").exists() and (process.returncode, machine.is_requeued) == (0, True), said


def test_shell_metacharacters_in_names_are_not_executed(tmp_path):
    place, workdir = LaunchPaths(tmp_path / f"runs {HARMFUL}" / HARMFUL), tmp_path / HARMFUL
    config = config_of(*PROFILES["cpu"])
    config.run.name = HARMFUL
    machine = Machine(tmp_path / "machine", place.root)
    code, said = machine.ends(script_of(config, "cells", place, workdir), **TASK)
    assert code == 0, said
    assert machine.words[-4:] == [str(place.code), "study-job", str(place.root), "cells"]
    assert not list(tmp_path.rglob("pwned"))


ARRAY = """\
JobId=14 ArrayJobId=14 ArrayTaskId=6-8%2 JobName=x JobState=PENDING Reason=Resources Restarts=0 Command=/x JobState=no
JobId=17 ArrayJobId=14 ArrayTaskId=5 JobName=x JobState=RUNNING Reason=None Restarts=3 NodeList=n2 Command=/x
JobId=16 ArrayJobId=14 ArrayTaskId=1 JobName=x JobState=FAILED Reason=NonZeroExitCode Restarts=0 Command=/x
JobId=15 ArrayJobId=14 ArrayTaskId=0 JobName=x JobState=COMPLETED Reason=None Restarts=1 Command=/x
"""


@pytest.mark.parametrize(
    ("lines", "state", "is_live", "tasks"),
    [
        (slice(0, 4), "RUNNING", True, {"PENDING": 3, "RUNNING": 1, "FAILED": 1, "COMPLETED": 1}),
        (slice(2, 4), "FAILED", False, {"FAILED": 1, "COMPLETED": 1}),
        (slice(3, 4), "COMPLETED", False, {"COMPLETED": 1}),
        (slice(0, 1), "PENDING", True, {"PENDING": 3}),
    ],
)
def test_array_state_is_combined_from_its_tasks(monkeypatch, lines, state, is_live, tasks):
    answer = "\n".join(ARRAY.splitlines()[lines])
    monkeypatch.setattr(slurm, "call", lambda words, timeout=0, without=(): (0, answer, ""))
    found = slurm.states(["14"])["14"]
    assert (found.state, found.is_live, dict(found.tasks)) == (state, is_live, tasks)
    if state == "RUNNING":
        assert (found.restarts, found.nodes) == (3, "n2")


@pytest.mark.parametrize(
    ("reason", "why"),
    [("PartitionTimeLimit", "3 waiting, asks for more time than the partition allows"), ("None", "3 waiting")],
)
def test_status_says_why_the_tasks_of_an_array_wait(tmp_path, reason, why):
    (tmp_path / "launch").mkdir()
    write_json(tmp_path / "launch/jobs.json", {"jobs": [{"name": "cells", "id": "14", "tasks": 3}]})
    state = slurm.State("PENDING", reason, tasks=(("PENDING", 3),))
    assert status_jobs.jobs(tmp_path, {"14": state})[0].reason == why


def test_states_are_parsed_despite_line_breaks_in_job_names(monkeypatch):
    """``scontrol --oneliner`` does not escape them, neither in the job's name nor in its paths."""
    name = "it's\n`two`\n100%"
    job = f"JobId=7 JobName={name} JobState=COMPLETED Restarts=1 Command=/{name} WorkDir=/{name}"
    monkeypatch.setattr(slurm, "call", lambda words, timeout=0, without=(): (0, job, ""))
    found = slurm.states(["7"])["7"]
    assert (found.state, found.restarts, found.tasks) == ("COMPLETED", 1, ())
    array = "\n".join(ARRAY.splitlines()).replace("JobName=x", "JobName=a\nb").replace("Command=/x", "Command=/a\nb")
    monkeypatch.setattr(slurm, "call", lambda words, timeout=0, without=(): (0, array, ""))
    assert dict(slurm.states(["14"])["14"].tasks) == {"PENDING": 3, "RUNNING": 1, "FAILED": 1, "COMPLETED": 1}


def test_array_state_comes_from_sacct_once_scontrol_has_forgotten_it(monkeypatch):
    rows = "14_0|COMPLETED|None|0:0|n1|00:01:00|01:00:00|Unknown\n14_[1-3]|CANCELLED by 0|None|0:0||00:00:00||Unknown"
    monkeypatch.setattr(slurm, "missing", lambda command: False)
    monkeypatch.setattr(slurm, "call", lambda words, timeout=0, without=(): (words[0] == "scontrol", rows, ""))
    found = slurm.states(["14"])["14"]
    assert (found.state, dict(found.tasks)) == ("CANCELLED", {"COMPLETED": 1, "CANCELLED": 3})


STUDY = """
defaults: [blank, _self_]
run: {name: grid}
model: {path: model}
parallel: {tp: 1, dp: 1}
data: {target: [tr.txt]}
tokenizer: {text: [tr.txt]}
evaluate: {texts: {tr: tr.txt}}
train: {seq_length: 16, global_batch: 2, micro_batch: 2, phases: [{train: all, bytes: 1000, lr: 1e-3}]}
study:
  seeds: 2
  axes: {vocabulary: {"0": [tokenizer.new_tokens=0], "5": [tokenizer.new_tokens=5]}}
"""
WORDS = ["recipe=study.yaml", "study.array=3", "site=cpu"]
CELLS = ["0-seed0", "5-seed0", "0-seed1", "5-seed1"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with a study, and stand-ins for Slurm's commands that record their arguments."""
    make_llama(tmp_path / "model", TinyLlama())
    (tmp_path / "tr.txt").write_text("bir iki\n")
    (tmp_path / "study.yaml").write_text(STUDY)
    (tmp_path / "bin").mkdir()
    note = 'printf "%q " "${0##*/}" "$@" >> "$NOTES"; echo >> "$NOTES"; echo $((100 + $(wc -l < $NOTES)))\n'
    for name, body in (("sbatch", note), ("scontrol", "exit 1\n")):
        (tmp_path / "bin" / name).write_text(f"#!/bin/bash\n{body}")
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setenv("NOTES", str(tmp_path / "notes"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_study_is_submitted_as_three_jobs_with_the_recipe_of_each_cell(folder, capsys):
    cli.command("study", [*WORDS, "train.seed=7"])
    calls = [shlex.split(line) for line in (folder / "notes").read_text().splitlines()]
    assert [words[-1].rpartition("/")[2] for words in calls[3:]] == ["prepare.sh", "cells.sh", "report.sh"]
    assert [word for words in calls[3:] for word in words if "dependency" in word] == [
        *("--dependency=afterok:104", "--dependency=afterany:105")
    ]
    assert "submitted prepare (104), cells (105), report (106)" in capsys.readouterr().out
    root = folder / "runs/grid"
    assert [job["tasks"] for job in json.loads((root / "launch/jobs.json").read_text())["jobs"]] == [0, 3, 0]
    (folder / "study.yaml").write_text("no study any more")  # jobs may start days later
    config, found = array.read_launched(root)
    assert config.study.array == 3 and [job.cell.name for job in found] == CELLS
    assert found[2].command[:2] == ["run", "recipe=study.yaml"] and found[2].frozen[2:] == ("cell", "0-seed1")
    assert "site=cpu" not in found[2].command, "what is done counts for a study that runs here, too"
    own = recipes.read(root / "launch/cells/0-seed1.yaml")
    assert (own.run.name, own.run.shared) == ("grid/cells/0-seed1", "runs/grid/shared")
    assert (own.train.seed, own.tokenizer.new_tokens) == (8, 0)


def test_cells_have_the_last_of_two_recipes_as_the_study_does(folder):
    (folder / "first.yaml").write_text(STUDY.replace("lr: 1e-3", "lr: 5e-3"))
    cli.command("study", ["recipe=first.yaml", *WORDS])
    _, found = array.read_launched(folder / "runs/grid")
    assert found[0].command[:2] == ["run", "recipe=study.yaml"]
    assert recipes.read(folder / "runs/grid/launch/cells/0-seed0.yaml").train.phases[0].lr == 1e-3


def test_number_of_tasks_is_limited_to_the_number_of_cells(folder, capsys):
    cli.command("study", [*WORDS, "study.array=9"])
    assert "study.array=9: there are 4 cells, and so 4 tasks" in capsys.readouterr().out
    assert "#SBATCH --array=0-3\n" in (folder / "runs/grid/launch/cells.sh").read_text()


def test_dry_run_prints_scripts_and_changes_nothing(folder, capsys):
    before = sorted(folder.rglob("*"))
    cli.command("study", [*WORDS, "launch.dry_run=true"])
    shown = capsys.readouterr().out
    assert shown.count("#!/usr/bin/env bash") == 3 and "'--dependency=afterany:<number of cells>'" in shown
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["study.array=0"], "site=cpu is for a study on a cluster: study.array=TASKS"),
        (["study.array=-1"], "study.array=-1 must be a number of tasks"),
        (["site.ranks_per_node=0"], "how many ranks share a node"),
        (["parallel.dp=4"], "a cell has 4 ranks .* one node, of 2"),
        (["launch.nodes=2"], "neither launch.executor nor launch.nodes"),
        (["launch.executor=nemo_run"], "neither launch.executor nor launch.nodes"),
        (["data.target=[absent.txt]"], "study: 0: .*absent.txt"),
        (["evaluate.texts.tr=blank.txt"], "study: 0: blank.txt holds no document"),
        (["evaluate.tasks.quiz.tr=tr.txt"], "study: 0: evaluate.tasks: unknown kind 'quiz'"),
        (["data.replay=[blank.txt]", "data.replay_share=0.1"], "study: 0: blank.txt holds no document"),
        (["site.sbatch=['--array=1-2']"], "is an option that launch sets"),
        (["export.dir=out"], "export.dir=out is the folder of several cells"),
    ],
)
def test_user_errors_are_raised_before_anything_is_submitted(folder, words, says):
    (folder / "blank.txt").write_text(" \n")
    with pytest.raises(UserError, match=says) as error:
        cli.command("study", [*WORDS, *words])
    assert "\n" not in str(error.value)
    assert not (folder / "runs").exists() and not (folder / "notes").exists()


def test_texts_are_read_once_before_any_cell_runs_here(folder, monkeypatch, capsys):
    read, precheck = [], preflight.precheck

    def noted(config, steps):
        read.append(config.run.name)
        precheck(config, steps)

    monkeypatch.setattr(preflight, "precheck", noted)
    monkeypatch.setattr(study_command, "run_cells", lambda jobs, processes: pytest.fail("has begun"))
    words = [word for word in WORDS if not word.startswith(("study.array", "site"))]
    (folder / "blank.txt").write_text(" \n")
    with pytest.raises(UserError, match=r"study: 0: blank\.txt holds no document"):
        cli.command("study", [*words, "evaluate.texts.tr=blank.txt"])
    assert read == ["grid/cells/0-seed0"] and not (folder / "runs").exists()
    cli.command("study", [*WORDS, "launch.dry_run=true"])
    assert read == ["grid/cells/0-seed0"] * 2, "all cells have the same texts"
    given = STUDY.replace("[tokenizer.new_tokens=5]", "[tokenizer.new_tokens=5, evaluate.texts.tr=blank.txt]")
    (folder / "study.yaml").write_text(given)
    monkeypatch.setattr(study_command, "run_cells", lambda jobs, processes: read.append("begun") or [])
    with pytest.raises(UserError, match="4 of 4 cells are not done"):
        cli.command("study", words)
    assert read[2:] == ["grid/cells/0-seed0", "grid/cells/5-seed0", "begun"], "a value fails, the other can be run"
    assert "study: 5: blank.txt holds no document" in capsys.readouterr().out


def test_cells_may_export_to_folders_of_their_own(folder, capsys):
    cli.command("study", [*WORDS, "export.dir='out/${run.name}'", "launch.dry_run=true"])
    assert "cells.sh" in capsys.readouterr().out


def test_launch_of_a_study_refers_to_the_study_command(folder):
    with pytest.raises(UserError, match=r"is a study: nemo-adapt study .* study.array=TASKS"):
        cli.command("launch", ["recipe=study.yaml", "site=cpu"])


@pytest.fixture
def launched(folder):
    cli.command("study", WORDS)
    return folder / "runs/grid"


def test_prepare_goes_on_when_it_fails_for_one_cell(launched, monkeypatch, capsys):
    asked = []

    def stages(config, names):
        asked.append((config.run.name, list(names)))
        if config.tokenizer.new_tokens == 0:
            raise UserError("no such text")

    monkeypatch.setattr(jobs.pipeline, "run_stages", stages)
    jobs.main([str(launched), "prepare"])
    made = ["tokenizer", "data", "convert"]
    assert asked == [("grid/cells/0-seed0", made), ("grid/cells/5-seed0", made)], "once for all seeds"
    assert "nemo-adapt: error: no such text" in capsys.readouterr().out
    monkeypatch.setattr(jobs.pipeline, "run_stages", lambda config, names: 1 / 0)
    with pytest.raises(UserError, match="no cell of the study can be prepared"):
        jobs.main([str(launched), "prepare"])


def test_cells_are_divided_among_the_array_tasks(launched, monkeypatch):
    shares = []
    monkeypatch.setattr(
        jobs, "run_cells", lambda mine, processes: shares.append([job.cell.name for job in mine]) or mine[:1]
    )
    monkeypatch.setenv("PYTHONPATH", "/before")
    monkeypatch.setenv("PYTHONSAFEPATH", "")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    (launched / "launch/seen").mkdir(exist_ok=True)
    for task in range(3):
        monkeypatch.setenv("SLURM_ARRAY_TASK_ID", str(task))
        with pytest.raises(UserError, match=r"1 of \d cells failed"):
            jobs.main([str(launched), "cells"])
    assert shares == [["0-seed0", "5-seed1"], ["5-seed0"], ["0-seed1"]]
    assert LaunchPaths(launched).started.exists(), "its script forwards signals from then on"


def test_report_without_finished_cells_names_the_unfinished(launched):
    folder = launched / "cells" / CELLS[3]
    folder.mkdir(parents=True)
    write_json(folder / FAILED, {"code": 2, "why": "no text"})
    with pytest.raises(UserError, match=r"4 of 4 cells are not done \(5-seed1, 0-seed0, 5-seed0, …\): see .*5-seed1"):
        jobs.main([str(launched), "report"])


def test_cells_of_an_array_are_checked_against_the_launched_recipe(launched, folder, monkeypatch):
    for cell in CELLS:
        (launched / "cells" / cell).mkdir(parents=True)
        write_json(launched / "cells" / cell / DONE, {"command": ["of", "an", "earlier", "study"]})
    (folder / "study.yaml").write_text("no study any more")
    _, found = array.read_launched(launched)
    asked = []
    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "change", lambda config, hash_of: asked.append(config.run.name) or "")
        assert unfinished(found) == {} and asked == [f"grid/cells/{cell}" for cell in CELLS]
    with pytest.raises(UserError, match=r"4 of 4 cells are not done \(0-seed0, .*: see .*0-seed0"):
        jobs.main([str(launched), "report"])


def test_failed_cell_is_retried_by_a_new_job_but_not_after_a_requeue(launched, monkeypatch):
    """A task is requeued for its other cells."""
    _, found = array.read_launched(launched)
    job = replace(found[0], command=["verify", "nowhere", "nowhere"], frozen=())
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    for count, tried in (("0", 1), ("1", 1), ("1", 1)):
        monkeypatch.setenv("SLURM_RESTART_COUNT", count)
        assert run_cells([job], 1) == [job] and not (job.folder / DONE).exists()
        assert (job.folder / "log.txt").read_text().count("nemo-adapt: error") == tried
    assert "nowhere" in job.why
    monkeypatch.setenv("SLURM_JOB_ID", "8")
    run_cells([job], 1)
    assert (job.folder / "log.txt").read_text().count("nemo-adapt: error") == 2


def test_concurrent_writers_of_one_json_file_do_not_conflict(tmp_path):
    failed = []

    def write():
        try:
            for _ in range(200):
                write_json(tmp_path / "x.json", {"a": list(range(50))})
                json.loads((tmp_path / "x.json").read_text())
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed and [path.name for path in tmp_path.iterdir()] == ["x.json"]


def test_status_counts_the_cells_of_a_study_by_state(launched, capsys):
    for name, state in ((CELLS[0], DONE), (CELLS[1], FAILED), (CELLS[2], "log.txt")):
        (launched / "cells" / name).mkdir(parents=True)
        write_json(launched / "cells" / name / state, {"why": "no text"})
    cli.command("status", [str(launched)])
    shown = capsys.readouterr().out
    assert "1 of 4 cells finished, 1 failed, 1 begun, 1 not yet" in shown
    assert "no text" in shown and "cells (105)" in shown and "tokenizer" not in shown
    cli.command("status", [str(launched), "json=-"])
    found = json.loads(capsys.readouterr().out)["cells"]
    assert [cell["state"] for cell in found] == ["finished", "failed", "begun", "not yet"]
