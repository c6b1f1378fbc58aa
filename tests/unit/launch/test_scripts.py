"""Job scripts: equal to the golden files, safe for any names, and their behaviour when bash runs them."""

import itertools
import os
import shlex
import signal
import time
from pathlib import Path

import pytest
from helpers.launches import Machine, config_of, jobs_of, script_of

from nemo_adapt.config import recipes
from nemo_adapt.errors import UserError
from nemo_adapt.launch import job, nemo_run, preparation, sbatch
from nemo_adapt.launch.chain import size_of
from nemo_adapt.launch.paths import LaunchPaths

GOLDEN = Path(__file__).parent.parent.parent / "golden" / "launch"
PROFILES = {
    "gpus": ["site=gpus", "site.account=ling", "site.environment.NCCL_SOCKET_IFNAME=ib0", "site.modules=[cuda/12.8]"],
    "container": ["site=container", "site.container.mounts=['/models:/models','/text:/text']"],
    "cpu": ["site=cpu", "parallel.tp=2", "parallel.dp=1"],
}
UGLY = [
    "a b",
    "it's",
    'a"b',
    "a\nb",
    "$(touch pwned)",
    "`touch pwned`",
    "; touch pwned",
    "a\\nb",
    "%j",
    "-rf",
    "*",
    "é ü",
]
UNTIL_SIGNALLED = "while :; do /bin/sleep 0.05; done"
HARMFUL = "a b'c\"d $(touch pwned) `touch pwned`; touch pwned\ntouch pwned\n#SBATCH --nodes=99 \\"


@pytest.mark.parametrize("name", sorted(path.name for path in GOLDEN.iterdir()))
def test_scripts_equal_the_golden_files(name):
    profile, job = name.removesuffix(".sh").split("-")
    assert script_of(config_of(*PROFILES[profile]), job) == (GOLDEN / name).read_text(encoding="utf-8")


def test_golden_files_cover_all_profiles():
    names = {path.name for path in GOLDEN.iterdir()}
    assert names == {f"gpus-{job}.sh" for job in ("prepare", "train", "export", "evaluate")} | {
        "container-train.sh",
        "cpu-train.sh",
    }


@pytest.mark.parametrize("name", [*UGLY, HARMFUL])
def test_shell_metacharacters_in_names_are_not_executed(tmp_path, name):
    """In the run's name, in paths, in values of variables: every word arrives unchanged, and nothing is executed."""
    place, workdir = LaunchPaths(tmp_path / f"runs {name}" / f"x{name}"), tmp_path / f"w{name}"
    config = config_of("site=cpu", "parallel.tp=2", "parallel.dp=1")
    config.run.name = name
    config.site.environment = {"GREETING": name}
    config.site.modules = [name]
    config.site.srun = [name]
    machine = Machine(tmp_path / "machine", place.root)
    script = script_of(config, "train", place, workdir)
    code, said = machine.ends(script, tasks=f"touch {shlex.quote(str(place.root / 'train/manifest.json'))}")
    assert code == 0, said
    assert machine.words == [
        *("--kill-on-bad-exit=1", "--ntasks=2", "--cpus-per-task=1", name, "python", str(place.code)),
        *("job", str(place.root), "train"),
    ]
    assert machine.noted("module") == f"load {name}\n"
    machine.ends(script, tasks='printf %s "$GREETING" > "$NOTES/greeting"')
    assert (machine.notes / "greeting").read_text() == name
    assert not list(tmp_path.rglob("pwned"))
    header = list(
        itertools.takewhile(lambda line: line.startswith("#"), script.splitlines())
    )  # sbatch reads no further
    assert "#SBATCH --nodes=1" in header and "nodes=99" not in "".join(header)


def test_sbatch_arguments_keep_odd_names_as_single_words(tmp_path):
    config = config_of("site=cpu", "parallel.tp=2", "parallel.dp=1")
    place = LaunchPaths(tmp_path / HARMFUL.strip("\\") / "100%j")
    words = sbatch.submission(config, jobs_of(config)["train"], place, tmp_path / HARMFUL, after="12")
    assert f"--chdir={tmp_path / HARMFUL}" in words and "--dependency=afterok:12" in words
    assert "--kill-on-invalid-dep=yes" in words
    assert f"--output={place.root.parent}/100%%j/logs/train-%j.log" in words, "sbatch fills in the last %j alone"
    assert words[-1] == str(place.script("train"))
    with pytest.raises(UserError, match="would interpret the backslash in the name"):
        sbatch.submission(config, jobs_of(config)["train"], LaunchPaths(tmp_path / HARMFUL), tmp_path)


@pytest.mark.parametrize("name", UGLY)
def test_labels_have_only_plain_characters(name):
    assert sbatch.PLAIN.fullmatch(sbatch.label(name)) and "=" not in sbatch.label(name)


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path / "machine", tmp_path / "run")


@pytest.fixture
def train(machine):
    """The script of a training on two ranks."""
    return script_of(config_of("site=cpu", "parallel.tp=2", "parallel.dp=1"), "train", LaunchPaths(machine.run))


def test_finished_training_is_not_requeued(machine, train):
    code, said = machine.ends(train, tasks=f"touch {machine.run}/train/manifest.json")
    assert (code, machine.is_requeued) == (0, False), said
    environment = machine.noted("environment")
    assert 'MASTER_ADDR="n1"' in environment and 'MASTER_PORT="15007"' in environment


def test_unfinished_training_is_requeued(machine, train):
    code, said = machine.ends(train, tasks="exit 0")
    assert (code, machine.is_requeued) == (0, True)
    assert "job 7 is queued again" in said


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM])
@pytest.mark.parametrize("end", [0, 137])
def test_signal_is_forwarded_to_the_ranks_and_the_job_requeued(machine, train, number, end):
    """Also if the ranks are killed because they take too long to stop."""
    tasks = f'trap "touch $NOTES/handed; exit {end}" USR1; touch "$NOTES/ready" "$STARTED"; {UNTIL_SIGNALLED}'
    process = machine.start(train, tasks)
    machine.wait_for("ready")
    for _ in range(2):  # a second signal does no harm
        process.send_signal(number)
        time.sleep(0.1)
    said, _ = process.communicate(timeout=30)
    assert (machine.notes / "handed").exists()
    assert (process.returncode, machine.is_requeued) == (0, True), said


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM])
@pytest.mark.parametrize("check", ['exec "$@"', "exit 143"])
def test_signal_before_the_ranks_are_started_requeues_the_job(machine, train, number, check):
    """Slurm may send it up to a minute early: while the nodes are checked. No ranks are started then. A manifest there
    is that of a finished training, which is launched again with a further phase."""
    (machine.run / "train/manifest.json").touch()
    srun = machine.folder.joinpath("bin/srun")
    checks = f'touch "$NOTES/checking"; /bin/sleep 1; while [[ $1 == --* ]]; do shift; done; SLURMD_NODENAME=n1 {check}'
    srun.write_text(f"#!/usr/bin/env bash\n[[ $* == *' train' ]] && touch \"$NOTES/started\"\n{checks}\n")
    process = machine.start(train, "exit 1")
    machine.wait_for("checking")
    process.send_signal(number)
    said, _ = process.communicate(timeout=30)
    assert (process.returncode, machine.is_requeued) == (0, True), said
    assert not (machine.notes / "started").exists()


def test_signal_while_the_ranks_are_started_is_forwarded_once_all_run(machine, train):
    """srun would lose it before, or end the step with an error."""
    tasks = f"""
        trap "touch $NOTES/early; exit 1" USR1; touch "$NOTES/ready"; for _ in $(seq 40); do /bin/sleep 0.05; done
        trap "touch $NOTES/handed; exit 0" USR1; touch "$STARTED"; {UNTIL_SIGNALLED}"""
    process = machine.start(train, tasks)
    machine.wait_for("ready")
    process.send_signal(signal.SIGUSR1)
    said, _ = process.communicate(timeout=30)
    assert (machine.notes / "handed").exists() and not (machine.notes / "early").exists(), said
    assert (process.returncode, machine.is_requeued) == (0, True), said


def test_ranks_and_script_agree_on_the_file_that_says_that_all_run(machine, train, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "3")
    place = LaunchPaths(machine.run)
    place.tell(place.started)
    assert not list(machine.run.rglob("*started")), "no script of ours waits"
    machine.ends(train, 'echo -n "$STARTED" > "$NOTES/started"', SLURM_RESTART_COUNT="3", RESTARTS="3")
    place.tell(place.started)
    assert machine.noted("started") == str(place.started) and place.started.exists()


@pytest.mark.parametrize(
    ("before", "end"),
    [("", 1), ("", 2), ("", 137), ('touch "$STARTED"', 1), ('touch "$STARTED" "${STARTED%started}mistake"', 143)],
)
def test_job_ends_with_the_exit_code_of_failed_ranks(machine, train, before, end):
    """Also with that of a rank that srun has killed, as another one ended with a user's mistake, and where none ran."""
    code, said = machine.ends(train, tasks=f"{before}\nexit {end}")
    assert (code, machine.is_requeued) == (end, False)
    assert f"the ranks ended with code {end}" in said


@pytest.mark.parametrize("end", [134, 137, 143])
def test_killed_ranks_go_on_but_not_forever_from_the_same_checkpoint(machine, train, end):
    """An error of a GPU, or want of memory, ends a rank: with a thousand of them the usual end of a start."""
    made, tasks = machine.run / "train/checkpoints", f'touch "$STARTED"; exit {end}'
    restart = itertools.count()

    def is_requeued():
        (machine.notes / "scontrol").unlink(missing_ok=True)
        number = str(next(restart))
        code, said = machine.ends(train, tasks, SLURM_RESTART_COUNT=number, RESTARTS=number)
        assert code == (0 if machine.is_requeued else end), said
        assert ("the ranks were killed" in said) == machine.is_requeued
        return machine.is_requeued

    assert is_requeued() and is_requeued()
    (made / "iter_0000100").mkdir(parents=True)
    assert [is_requeued() for _ in range(4)] == [True, True, True, False]
    (made / "iter_0000200").mkdir()
    assert is_requeued()


def test_a_user_s_mistake_in_a_job_is_noted_for_its_script(machine, monkeypatch):
    """srun ends the other ranks of the step, and its code is theirs."""

    def fails(config, stages):
        raise UserError("no")

    place = LaunchPaths(machine.run)
    place.config.write_text(recipes.to_yaml(config_of("site=cpu")), encoding="utf-8")
    place.seen.mkdir()
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setattr(job.pipeline, "run_stages", fails)
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    with pytest.raises(UserError):
        job.main([str(machine.run), "export"])
    signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    assert [path.name for path in place.seen.iterdir()] == ["7.0.mistake"]


def test_cancelled_job_is_not_requeued(machine, train):
    code, said = machine.ends(train, STATE="COMPLETING")
    assert (code, machine.is_requeued) == (1, False)
    assert "was cancelled: it is not queued again" in said


def test_job_at_its_time_limit_is_requeued(machine, train):
    code, _ = machine.ends(train, STATE="COMPLETING", REASON="TimeLimit")
    assert (code, machine.is_requeued) == (0, True)


def test_start_that_slurm_has_replaced_does_not_requeue_the_job(machine, train):
    """Slurm has lost this node and started the job elsewhere: a requeue would end it there."""
    code, said = machine.ends(train, RESTARTS="2", SLURM_RESTART_COUNT="1")
    assert (code, machine.is_requeued) == (0, False)
    assert "has queued job 7 again by itself" in said


def test_job_waits_for_a_restarting_controller(machine, train):
    code, _ = machine.ends(train, DOWN="1")
    assert (code, machine.is_requeued) == (0, True)
    assert machine.noted("scontrol").count("show job") == 2


def test_node_without_the_shared_folder_is_named(machine, train):
    """The node has another folder under the same name, without what the first node wrote."""
    elsewhere = STAND_IN_ELSEWHERE.format(run=machine.run)
    machine.folder.joinpath("bin/srun").write_text(elsewhere)
    code, said = machine.ends(train)
    assert code == 2 and not machine.is_requeued
    assert f"nemo-adapt: error: n2 does not see the folder {machine.run}: it must be on a shared file system" in said


STAND_IN_ELSEWHERE = """\
#!/usr/bin/env bash
while [[ $1 == --* ]]; do shift; done
mkdir -p "$PWD/elsewhere"
SLURMD_NODENAME=n2 exec "$1" "$2" "$3" "$4" "$PWD/elsewhere" "$6"
"""


def test_missing_folder_on_the_first_node_is_an_error(machine, train):
    (machine.run / "launch/config.yaml").unlink()
    code, said = machine.ends(train)
    assert code == 2 and f"does not see the run's folder {machine.run}" in said


def test_missing_image_or_mount_source_on_a_node_is_named(machine):
    """Each node checks for the image's file and the sources of mounts."""
    absent, registry = "/absent/nemo.sqsh", "nvcr.io#nvidia/nemo:26.02"
    for image, mounts, missing in (
        (absent, "[]", absent),
        (registry, "['/absent/models:/models','tmpfs:/x']", "/absent/models"),
        (registry, "['/tmp:/inside:ro']", ""),
    ):
        config = config_of("site=container", f"site.container.image='{image}'", f"site.container.mounts={mounts}")
        code, said = machine.ends(script_of(config, "prepare", LaunchPaths(machine.run)))
        assert code == (2 if missing else 0), said
        assert (f"nemo-adapt: error: site.container: {missing} is missing on n1" in said) == bool(missing)
    assert f"--container-image={registry}" in machine.words


def test_missing_virtual_environment_is_an_error(machine):
    """Otherwise another Python on the PATH would run the job."""
    (machine.folder / "my env/bin").mkdir(parents=True)
    (machine.folder / "my env/bin/activate").write_text("export TASKS='exit 3'\n")
    for venv, wanted in (("/absent env", 2), (machine.folder / "my env", 3)):
        script = script_of(config_of("site=gpus", f"site.venv={venv}"), "prepare", LaunchPaths(machine.run))
        setup = "\n".join(nemo_run.setup(config_of("site=gpus", "site.modules=[]", f"site.venv={venv}")))
        with_nemo_run = machine.ends(f"{setup}\neval $TASKS")
        for code, said in (machine.ends(script), with_nemo_run):
            assert code == wanted and ("site.venv: /absent env/bin/activate is missing on" in said) == (wanted == 2)


def test_what_earlier_starts_noted_is_deleted(machine, train):
    """Of the same job alone: jobs of an array run beside each other."""
    seen = machine.run / "launch/seen"
    for name in ("7.0", "77.0"):
        (seen / name).mkdir(parents=True)
        (seen / f"{name}.started").touch()
    machine.ends(train, tasks="exit 2", SLURM_RESTART_COUNT="1")
    assert sorted(path.name for path in seen.iterdir()) == ["7.1", "77.0", "77.0.started"]


def test_prepare_job_has_the_exit_code_of_its_process(machine):
    script = script_of(config_of("site=cpu", "parallel.tp=2", "parallel.dp=1"), "prepare", LaunchPaths(machine.run))
    assert machine.ends(script, tasks="exit 2")[0] == 2 and machine.ends(script)[0] == 0
    assert machine.words[-3:] == ["job", str(machine.run), "prepare"] and "--ntasks=1" in machine.words


def test_a_job_without_ranks_is_requeued_at_its_time_limit_three_times(machine):
    """Text of terabytes takes longer than a limit; what never ends must not be begun for ever."""
    script = script_of(config_of("site=cpu", "parallel.tp=2", "parallel.dp=1"), "prepare", LaunchPaths(machine.run))
    until_requeued = (
        "until grep -q requeue $NOTES/scontrol; do /bin/sleep 0.05; done 2> /dev/null"  # then Slurm kills it
    )
    for restart in range(5):
        for name in ("ready", "scontrol"):
            (machine.notes / name).unlink(missing_ok=True)
        tasks = f"touch $NOTES/ready; {until_requeued if restart < 3 else '/bin/sleep 3; exit 9'}"
        process = machine.start(script, tasks, SLURM_RESTART_COUNT=str(restart), RESTARTS=str(restart))
        machine.wait_for("ready")
        process.send_signal(signal.SIGUSR1)
        said, _ = process.communicate(timeout=30)
        assert (process.returncode, machine.is_requeued) == ((0, True) if restart < 3 else (9, False)), said
        assert ("job 7 is queued again and goes on with what is left to do" in said) == machine.is_requeued


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["site.cpu.time='12:00:00'", "site.cpu.cpus=32"],
            "tokenizing 5,000 GB of text takes about 14 hours on 32 cores",
        ),
        (
            ["site.cpu.time='12:00:00'", "data.processes=16"],
            "takes about 29 hours on 16 cores, more than site.cpu.time=12",
        ),
        (["site.cpu.time='2-0'", "site.cpu.cpus=16"], ""),
        (["site.cpu.time=UNLIMITED"], ""),
    ],
)
def test_text_that_takes_longer_than_the_limit_is_said(tmp_path, words, said):
    for name, size in (("a.txt", 1e12), ("b.jsonl.zst", 1e12)):
        (tmp_path / name).touch()
        os.truncate(tmp_path / name, int(size))  # sparse
    config = config_of("site=cpu", f"run.dir={tmp_path}", "run.name=r", f"data.target=['{tmp_path}/*']", *words)
    note = preparation.takes_longer_than_its_limit(config)
    assert said in note and bool(note) == bool(said)
    (tmp_path / "r/data/target").mkdir(parents=True)
    (tmp_path / "r/data/target/manifest.json").touch()
    assert preparation.takes_longer_than_its_limit(config) == "", "it is there"


@pytest.mark.parametrize(("limit", "is_asked"), [("12:00:00", True), ("4", True), ("3", False), ("UNLIMITED", True)])
def test_a_job_of_a_few_minutes_is_not_requeued_at_its_limit(limit, is_asked):
    """Slurm may ask two minutes before it: such a job could be asked as it begins."""
    script = script_of(config_of("site=cpu", "parallel.tp=2", "parallel.dp=1", f"site.cpu.time={limit}"), "prepare")
    assert ("#SBATCH --signal=B:USR1@60\n" in script) == is_asked


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["site.partition='a b'"], "site.partition='a b': sbatch takes no spaces"),
        (["site.sbatch=[exclusive]"], "is not an --option"),
        (["site.sbatch=['--output=x']"], "is an option that launch sets itself"),
        (["site.sbatch=['--signal=B:TERM@9']"], "site.sbatch: '--signal=B:TERM@9' is an option that launch sets"),
        (["site.sbatch=['--no-requeue']"], "'--no-requeue' is an option that launch sets itself"),
        (["site.sbatch=['--sig=TERM']"], "'--sig=TERM' is an option that launch sets itself"),
        (["site.sbatch=['--time=1:00:00']"], "'--time=1:00:00' is an option that launch sets itself"),
        (["site.srun=['--kill-on-bad-exit=0']"], "site.srun: '--kill-on-bad-exit=0' is an option that launch sets"),
        (["site.sbatch=['--x=\\'a\\nb\\'']"], "line breaks"),
        (["++site.environment={A-B: c}"], "'A-B' is not a valid variable name"),
        (["site.venv='~/venv'"], "site.venv=~/venv: write out the home folder"),
        (["site.gpu_request=gpus"], "is not one of gpus-per-node, gres, none"),
        (["site.time='2'", "site.signal_seconds=120"], "leaves no time to train"),
        (["site.time=soon"], "'soon' is not a time limit"),
    ],
)
def test_invalid_site_settings_raise_user_errors(words, says):
    config = config_of("site=gpus", *words)
    with pytest.raises(UserError, match=says.replace("(", r"\(")) as error:
        script_of(config, "train")
    assert "\n" not in str(error.value)


def test_a_time_limit_that_leaves_a_training_little_time_is_noted():
    for limit, notice, left in (("1", 30, "0 s"), ("6", 300, "0 s"), ("0:06:59", 300, "59 s"), ("0:07:00", 300, "")):
        note = sbatch.short_of_time(
            config_of("site=gpus", f"site.time='{limit}'", f"site.signal_seconds={notice}").site
        )
        assert (f"may leave a training {left}," in note) if left else not note


def test_options_of_a_site_that_scripts_do_not_depend_on_are_passed_on():
    words = [
        "site.sbatch=['--exclusive','--nodelist=n1','--export=NONE','--time-min=1']",
        "site.srun=['--cpu-bind=none']",
    ]
    script = script_of(config_of("site=gpus", *words), "train")
    assert "#SBATCH --nodelist=n1\n" in script and "#SBATCH --time-min=1\n" in script and "--cpu-bind=none" in script


@pytest.mark.parametrize(
    ("limit", "found"),
    [("90", 5400), ("1:30", 90), ("2:00:30", 7230), ("1-12", 129600), ("1-0:30", 88200), ("2-01:02:03", 176523)],
)
def test_time_limits_are_converted_to_seconds(limit, found):
    assert sbatch.seconds(limit) == found


def test_options_that_request_gpus():
    for words, said in (
        (["site.gpu_type=h100"], "--gpus-per-node=h100:8"),
        (["site.gpu_request=gres"], "--gres=gpu:8"),
        (["site.gpu_request=gres", "site.gpu_type=h100"], "--gres=gpu:h100:8"),
    ):
        config = config_of("site=gpus", *words)
        assert said in sbatch.options(config, jobs_of(config)["train"], size_of(config))
    config = config_of("site=gpus", "site.gpu_request=none")
    assert "gpu:" not in script_of(config, "train") and "gpus-per-node" not in script_of(config, "train")


@pytest.mark.parametrize(
    ("job", "words", "asked"),
    [
        ("prepare", [], {"cpus-per-task": "32", "mem": "128G"}),
        ("train", [], {"cpus-per-task": "8", "mem": "0"}),
        ("train", ["parallel.tp=2", "parallel.dp=1"], {"cpus-per-task": "8"}),  # others use the node, too
        ("train", ["site.ranks_per_node=4", "parallel.tp=4"], {"cpus-per-task": "8"}),
        (
            "train",
            ["parallel.tp=2", "parallel.dp=1", "site.sbatch=['--exclusive']"],
            {"cpus-per-task": "8", "mem": "0"},
        ),
        ("evaluate", [], {"cpus-per-task": "8"}),
        ("evaluate", ["site.cpus_per_rank=0"], {}),
        ("evaluate", ["site.gpus_per_node=1", "parallel.tp=1"], {"cpus-per-task": "8", "mem": "0"}),
        ("evaluate", ["site.gpus_per_node=0", "site.ranks_per_node=8"], {"cpus-per-task": "32", "mem": "128G"}),
    ],
)
def test_cores_and_memory_follow_from_what_a_job_takes_of_a_node(job, words, asked):
    """``site.cpu`` is of jobs without GPUs alone, whose nodes may be others. All memory of a node is asked for only by
    jobs that leave nothing of it to others."""
    config = config_of("site=gpus", *words)
    given = sbatch.options(config, jobs_of(config)[job], size_of(config))
    found = dict(option.removeprefix("--").partition("=")[::2] for option in given)
    assert {name: found[name] for name in ("cpus-per-task", "mem") if name in found} == asked


@pytest.mark.parametrize(
    ("gib", "words", "found"),
    [
        (7, (), 1),
        (70, (), 2),
        (140, (), 3),
        (140, ("cluster.gpus_per_node=8", "cluster.memory_gib=180"), 1),
        (2000, (), 8),
        (140, ("site.gpus_per_node=0", "site.ranks_per_node=8"), 0),
    ],
)
def test_evaluation_gets_the_gpus_that_the_weights_need(tmp_path, gib, words, found):
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.truncate(gib << 30)
    config = config_of("site=gpus", f"model.path={tmp_path}", *words)
    said = sbatch.options(config, jobs_of(config)["evaluate"], size_of(config))
    assert [word for word in said if "gpus" in word] == ([f"--gpus-per-node={found}"] if found else [])
