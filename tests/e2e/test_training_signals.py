"""Signals at moments when a training cannot handle them at once, and the metrics of a training stopped by one."""

import signal

from helpers.trainings import PATIENCE, Training, fork_servers_of, ranks_of, wait_for
from ranks.command_bodies import signal_while_saving

from nemo_adapt.checkpoint.folders import complete, step_of
from nemo_adapt.training_files import SUMMARY, TRACES

MOMENTS = [
    ("import", signal.SIGUSR1),
    ("start", signal.SIGUSR1),
    ("start", signal.SIGTERM),
    ("end", signal.SIGTERM),
]
"""While the process imports that ranks are forks of, as soon as ranks exist, and when no step is left to stop."""


def test_signals_before_the_first_or_after_the_last_step_are_handled(world, short, prepared):
    words = [*short, "train.phases=[{steps: 4, lr: 1e-3}]", "train.log_every=1"]
    words += ["train.score_every=4", "evaluate.batch=1", "evaluate.context=8"]  # after the last step there is work left
    training = Training.prepared(world, "stopped-early", words, prepared)
    for moment, number in MOMENTS:
        process = training.start()
        happened = {
            "import": lambda running=process: bool(fork_servers_of(running)),
            "start": lambda running=process: bool(ranks_of(running)),
            "end": lambda: training.steps() >= 4,
        }
        assert wait_for(process, happened[moment])
        process.send_signal(number)
        out, _ = process.communicate(timeout=200)
        assert process.returncode == 85 and "run the same command to go on" in out, out
        training.assert_sound()
    code, out = training.run()
    assert code == 0, out
    assert [step for step, _ in training.losses()] == [1, 2, 3, 4]


def test_signal_during_the_last_save_stops_a_rank_that_a_launcher_started(world, short, prepared):
    """No process above it knows of the signal, and the next stages would run into the time limit."""
    words = [*short, "train.phases=[{steps: 2, lr: 1e-3}]", "parallel.tp=1", "parallel.sequence=false"]
    training = Training.prepared(world, "last-save", words, prepared)
    code, out = training.run_fork(signal_while_saving)
    assert code == 85 and "asked to stop: all steps are saved; run the same command to go on" in out, out
    assert len(complete(training.checkpoints)) == 1
    code, out = training.run_fork()
    assert code == 0 and (training.folder / SUMMARY).is_file(), out


def test_ctrl_c_saves_a_checkpoint(world, short, prepared):
    """A terminal sends SIGINT to all processes of the command."""
    words = [*short, "train.phases=[{steps: 400, lr: 1e-3}]", "train.log_every=1", "train.save_every=1000"]
    training = Training.prepared(world, "interrupted", words, prepared)
    process = training.start()
    assert wait_for(process, lambda: training.steps() >= 4)
    for each in [*ranks_of(process), process]:
        each.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=200)
    assert process.returncode == 85 and "Traceback" not in out and "asked to stop: saved after step" in out, out
    assert len(complete(training.checkpoints)) == 1


def test_metrics_of_a_resumed_training_equal_an_uninterrupted_one(world, short, prepared):
    """Also if it was stopped between two records; the last step always has one. Checkpoints that are to stay are saved
    between the others, and steps are traced."""
    words = [*short, "train.phases=[{steps: 24, lr: 1e-3}]", "train.log_every=5", "train.save_every=100"]
    words += ["parallel.tp=1", "parallel.sequence=false", "train.keep=1", "train.keep_every=10", "train.trace=[3,4]"]
    whole, stopped = (Training.prepared(world, f"records-{name}", words, prepared) for name in ("whole", "stopped"))
    code, out = whole.run_fork()
    assert code == 0, out
    process = stopped.fork()
    assert wait_for(process, lambda: stopped.steps() >= 5)
    process.send_signal(signal.SIGTERM)
    code, out = process.end(PATIENCE)
    assert code == 85, out
    code, out = stopped.run_fork()
    assert code == 0, out
    assert [step_of(place) for place in complete(whole.checkpoints)] == [10, 20, 24]
    assert [file.name for file in (whole.folder / TRACES).iterdir()] == ["rank_0.json.gz"]
    assert [step for step, _ in whole.losses()] == [5, 10, 15, 20, 24]
    assert stopped.losses() == whole.losses()
