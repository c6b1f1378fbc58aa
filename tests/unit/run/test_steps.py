"""Results that runs share (``run.shared``), and the check of a stage's inputs."""

import threading
import time
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest

from nemo_adapt import pipeline
from nemo_adapt.config import Config, RunConfig, recipes
from nemo_adapt.errors import UserError
from nemo_adapt.run import preflight, reads, steps
from nemo_adapt.run.artifact import Stage
from nemo_adapt.run.inputs import input_hash
from nemo_adapt.run.restart import Restart
from nemo_adapt.run.run_folder import RunFolder
from nemo_adapt.run.steps import Step, check_kept


@pytest.fixture
def step(tmp_path):
    log = tmp_path / "log"
    log.touch()
    return Step("toy", "helpers.toy_stage", lambda config, run: {"log": [log]}, "data/toy", ("resize.seed",))


def run_step(config, step):
    run = RunFolder.of(config)
    results = ("tokenizer", "data/code", "convert", "export")
    steps.run_step(config, step, {run[result]: result.split("/")[0] for result in results})


def config_of(tmp_path, name, seed, shared="shared"):
    config = Config(run=RunConfig(name, str(tmp_path / "runs"), str(tmp_path / shared) if shared else ""))
    config.resize.seed = seed
    return config


def test_runs_with_the_same_settings_share_a_result(step, tmp_path):
    for name, seed in (("one", 1), ("two", 1), ("three", 2), ("one", 1)):
        run_step(config_of(tmp_path, name, seed), step)
    assert (tmp_path / "calls").read_text().split() == ["one", "three"]
    places = {name: tmp_path / "runs" / name / "data" / "toy" for name in ("one", "two", "three")}
    assert all(place.is_symlink() and place.resolve().name == "toy" for place in places.values())
    assert places["one"].resolve() == places["two"].resolve() != places["three"].resolve()
    assert {name: (place / "said").read_text() for name, place in places.items()} == {
        "one": "1",
        "two": "1",
        "three": "2",
    }
    run_step(config_of(tmp_path, "one", 2), step)  # with other settings its link leads to the other result
    assert places["one"].resolve() == places["three"].resolve()
    assert (tmp_path / "calls").read_text().split() == ["one", "three"]


def test_ranks_do_not_join_a_stage_that_another_run_makes_meanwhile(step, tmp_path, monkeypatch, capsys):
    """They waited in its process group for the first rank, which had nothing to do any more."""
    told = []
    monkeypatch.setattr(steps.store_broadcast, "tell", lambda answer, error="": told.append(answer["joins"]))
    on_ranks = replace(step, on_ranks=True)
    steps_made = threading.Thread(target=run_step, args=[config_of(tmp_path, "two", 1), on_ranks])

    def launch(config, step):
        steps_made.start()
        while "[toy (toy)]" not in capsys.readouterr().out:  # until it waits for the folder
            time.sleep(0.01)
        time.sleep(0.2)

    monkeypatch.setattr(steps, "_launch", launch)
    run_step(config_of(tmp_path, "one", 1), on_ranks)
    steps_made.join(20)
    assert told == [True, False] and "[toy (toy)] is there already" in capsys.readouterr().out


def test_ranks_do_not_join_a_stage_that_only_lacks_its_name(step, tmp_path, monkeypatch):
    """The first rank has nothing to do in it but to rename it."""
    told = []
    config = config_of(tmp_path, "one", 1, shared="")
    monkeypatch.setattr(steps, "_launch", lambda config, step: None)
    with mock.patch.object(Stage, "publish"):
        run_step(config, replace(step, on_ranks=True))
    monkeypatch.setattr(steps.store_broadcast, "tell", lambda answer, error="": told.append(answer["joins"]))
    monkeypatch.setattr(steps, "_launch", lambda config, step: pytest.fail("made again"))
    run_step(config, replace(step, on_ranks=True))
    assert told == [False] and RunFolder.of(config)["data/toy"].is_dir()


def test_a_shared_training_goes_on_only_as_a_shared_one(step, tmp_path):
    """It would change the result of the other runs."""
    resumed = replace(step, restart=Restart(resumable=True))
    for shared in ("shared", ""):
        run_step(config_of(tmp_path, "one", 1, shared=shared), resumed)  # finished
    with pytest.raises(UserError, match=r"data/toy is the result that runs share in .*: give run\.shared as before"):
        run_step(config_of(tmp_path, "one", 2, shared=""), resumed)
    own = RunFolder.of(config_of(tmp_path, "two", 2))["data/toy"]
    (tmp_path / "large disk").mkdir()
    own.parent.mkdir(parents=True)
    own.symlink_to(tmp_path / "large disk")
    run_step(config_of(tmp_path, "two", 2, shared=""), resumed)
    assert (tmp_path / "large disk/said").is_file()


def test_a_shared_training_that_begins_anew_says_so(step, tmp_path, capsys):
    """Without ``run.shared`` it would have gone on, or been refused."""
    resumed = replace(step, restart=Restart(resumable=True))

    def interrupted(config, inputs, out):
        raise KeyboardInterrupt

    with mock.patch("helpers.toy_stage.build", interrupted), pytest.raises(KeyboardInterrupt):
        run_step(config_of(tmp_path, "one", 1), resumed)
    begun = RunFolder.of(config_of(tmp_path, "one", 1))["data/toy"].resolve()
    capsys.readouterr()
    for seed, says in ((2, True), (2, False)):
        run_step(config_of(tmp_path, "one", seed), resumed)
        said = capsys.readouterr().out
        assert (f"changed; what was begun stays in {begun}" in said) == says, said
    assert begun.is_dir()


def test_inputs_are_checked_before_a_stage_starts_but_not_once_finished(step, tmp_path):
    def damaged(inputs, out):
        raise UserError(f"{inputs['log'][0].name} is damaged")

    with pytest.raises(UserError, match="log is damaged"):
        run_step(config_of(tmp_path, "one", 1), replace(step, check_inputs=damaged))
    assert not (tmp_path / "calls").exists()
    run_step(config_of(tmp_path, "one", 1), step)
    run_step(config_of(tmp_path, "one", 1), replace(step, check_inputs=damaged))


def test_a_result_made_before_run_shared_was_set_is_not_replaced(step, tmp_path):
    run_step(config_of(tmp_path, "one", 1, shared=""), step)
    with pytest.raises(UserError, match=r"made before run\.shared"):
        run_step(config_of(tmp_path, "one", 1), step)
    assert (tmp_path / "runs/one/data/toy/said").read_text() == "1"


def test_padding_decides_the_resized_tables_but_not_a_training():
    """A training may go on with other padding."""

    def deciding(*words):
        config = recipes.load(
            "blank", ["run.name=x", "model.path=m", "data.target=[t.txt]", "tokenizer.text=[t.txt]", *words]
        )
        return {step.name: steps._deciding(config, step) for step in pipeline.steps_of(config)}

    plain, padded = deciding(), deciding("resize.padded_vocab_multiple=64")
    assert [name for name in plain if plain[name] != padded[name]] == ["resize"]


def test_ranks_have_the_configuration_of_their_own_command(step, tmp_path, monkeypatch):
    """Another command, although it is refused later, may replace the run's file before they read it."""
    config, given = config_of(tmp_path, "one", 1, shared=""), []
    config.model.path = "model"

    def launch(count, arguments):
        run = RunFolder.of(config)
        assert recipes.read(run.config).resize.seed == 1, "saved before the stage starts"
        run.config.write_text("another")
        given.append(recipes.read(Path(arguments[2])).resize.seed)

    monkeypatch.setattr(steps.cuda_environment, "set_up", lambda parallel, deterministic: given.append("variables"))
    monkeypatch.setattr(steps.launcher, "launch", launch)
    run_step(config, replace(step, on_ranks=True))
    assert given == ["variables", 1], "ranks begin with the variables, which must be set before they import torch"


def test_a_result_that_a_resumable_stage_was_started_with_is_not_replaced(step, tmp_path):
    """It could not go on, and what it was started with would be lost."""
    config = config_of(tmp_path, "one", 1, shared="")
    run_step(config, step)
    between = Step("between", "helpers.toy_stage", lambda config, run: {"log": [run["data/toy"]]}, "data/between")
    run_step(config, between)

    def read(config, run):
        return {"log": [run["data/toy"]], "between": [run["data/between"]]}

    later = Step("later", "helpers.toy_stage", read, "later", restart=Restart(resumable=True))
    check_kept(config, [step, between], later)
    run_step(config, later)
    check_kept(config, [step, between], later)
    with pytest.raises(
        UserError, match=r"later was started with another toy \(toy\) than now \(resize\.seed\): put that back"
    ):
        check_kept(config_of(tmp_path, "one", 2, shared=""), [step], later)
    check_kept(
        config_of(tmp_path, "one", 2, shared=""), [step], replace(later, restart=Restart(True, may_change=("log",)))
    )
    with pytest.raises(UserError, match=r"later was made with other settings \(between\): choose another run"):
        check_kept(config, [step], replace(later, reads=lambda config, run: {"log": [run["data/toy"]]}))
    check_kept(config_of(tmp_path, "one", 2), [step], later)
    run_step(config_of(tmp_path, "one", 2, shared=""), step)  # by itself
    check_kept(config, [step, between], later)


@pytest.mark.parametrize("moved", [False, True])
def test_a_result_of_a_run_whose_folder_has_another_name_now_is_not_replaced_either(step, tmp_path, monkeypatch, moved):
    """Its inputs were looked for under the names that they had when it was started."""
    monkeypatch.chdir(tmp_path)

    def config_in(folder, seed):
        config = config_of(tmp_path, "one", seed, shared="")
        config.run.dir = str(folder)
        return config

    later = replace(step, name="later", result="later", decided_by=(), restart=Restart(resumable=True))
    later = replace(later, reads=lambda config, run: {"log": [run["data/toy"]]})
    for each in (step, later):
        run_step(config_in("runs", 1), each)
    if moved:
        (tmp_path / "runs").rename(tmp_path / "elsewhere")
    now = tmp_path / ("elsewhere" if moved else "runs")
    check_kept(config_in(now, 1), [step], later)
    with pytest.raises(UserError, match=r"one/later was started with another toy \(toy\) than now \(resize\.seed\)"):
        check_kept(config_in(now, 2), [step], later)


def test_a_started_stage_with_other_settings_is_refused_before_the_first_stage(step, tmp_path):
    """A training of a job chain would say it only after hours in the queue."""
    config, changed = (config_of(tmp_path, "one", seed, shared="") for seed in (1, 2))
    later = replace(step, name="later", result="later", restart=Restart(resumable=True))
    check_kept(changed, [], later)
    run_step(config, later)
    check_kept(config, [step], later)
    check_kept(changed, [], replace(later, restart=Restart(True, may_change=("resize.seed",))))
    for refuses in (lambda: check_kept(changed, [], later), lambda: run_step(changed, later)):
        with pytest.raises(UserError, match=r"later was made with other settings \(resize\.seed\): choose another run"):
            refuses()


def test_a_training_is_not_exported_with_another_tokenizer(step, tmp_path):
    config = config_of(tmp_path, "one", 1, shared="")
    run_step(config, step)
    made_with = {"log": [tmp_path / "log"], "tokenizer": [tmp_path / "runs/one/data/toy"]}
    run_step(config, Step("train", "helpers.toy_stage", lambda config, run: made_with, "train"))
    run = RunFolder.of(config)
    inputs = {"train": [run["train"]], "tokenizer": [run["data/toy"]]}
    preflight.check_trained(inputs, run["export"])
    run_step(config_of(tmp_path, "one", 2, shared=""), step)
    with pytest.raises(UserError, match="trained with another tokenizer than"):
        preflight.check_trained(inputs, run["export"])


def test_files_of_the_user_in_the_run_folder_are_not_taken_for_results(step, tmp_path):
    config = config_of(tmp_path, "one", 1, shared="")
    run = RunFolder.of(config)
    own = {"text": run["text/tr.txt"], "model": run["model"], "texts.tr": run["heldout.txt"], "base": run["base"]}
    for folder in ("model", "base", "text"):
        run[folder].mkdir(parents=True)
    for path in (own["text"], own["texts.tr"]):
        path.write_text("one\n")
    log = step.reads(config, run)
    run_step(config, replace(step, reads=lambda config, run: {**log, **{key: [path] for key, path in own.items()}}))
    assert run["data/toy/said"].is_file()


@pytest.mark.parametrize(
    ("key", "result", "maker"), [("tokenizer", "tokenizer", "tokenizer"), ("checkpoint", "convert", "convert")]
)
def test_an_unfinished_result_is_no_input(step, tmp_path, key, result, maker):
    needs = replace(step, reads=lambda config, run: {key: [run[result]]})
    with pytest.raises(UserError, match=f"{result} is not finished: run the {maker} stage before toy"):
        run_step(config_of(tmp_path, "one", 1, shared=""), needs)


def test_an_unfinished_set_of_text_and_an_unfinished_export_are_no_inputs(step, tmp_path):
    config = config_of(tmp_path, "one", 1, shared="")
    config.export.dir = str(tmp_path / "model")
    for key, result, maker in (("data.code", "data/code", "data"), ("adapted", "export", "export")):
        needs = replace(step, reads=lambda config, run, key=key, result=result: {key: [run[result]]})
        with pytest.raises(UserError, match=f"is not finished: run the {maker} stage before toy"):
            run_step(config, needs)


def test_an_export_into_the_model_s_own_folder_says_so(step, tmp_path):
    """Not that the export, which it is, has to be run before."""
    config = config_of(tmp_path, "one", 1, shared="")
    config.export.dir = str(tmp_path / "model")
    (tmp_path / "model").mkdir()
    own = replace(step, name="export", result="export", reads=lambda config, run: {"model": [tmp_path / "model"]})
    with pytest.raises(UserError, match=r"model is .*model, which export reads: choose another folder for the result"):
        run_step(config, own)


def test_a_stage_by_itself_says_which_results_it_uses_though_settings_have_changed(step, tmp_path, monkeypatch, capsys):
    def read(config, run):
        return {**step.reads(config, run), "toy": [run["data/toy"]]}

    later = Step("later", "helpers.toy_stage", read, "later", ("train.seed",))
    monkeypatch.setattr(pipeline, "STEPS", (step, later))
    before, now = (config_of(tmp_path, "one", seed, shared="") for seed in (1, 2))
    before.model.path = now.model.path = "model"
    pipeline.run_stage(before, "toy")
    pipeline.run_stage(before, "later")
    assert "used as it is" not in capsys.readouterr().out
    pipeline.run_stage(now, "later")
    said = "[toy (toy)] used as it is, though made with another resize.seed: run toy to make it anew"
    assert said in capsys.readouterr().out.splitlines()


def test_a_result_whose_file_is_gone_is_made_again_or_refused_as_an_input(step, tmp_path, monkeypatch, capsys):
    def read(config, run):
        return {**step.reads(config, run), "toy": [run["data/toy"]]}

    later = Step("later", "helpers.toy_stage", read, "later", ("train.seed",))
    config = config_of(tmp_path, "one", 1, shared="")
    for each in (step, later):
        run_step(config, each)
    gone = tmp_path / "runs/one/data/toy/said"
    gone.unlink()
    with pytest.raises(UserError, match="said is gone: run the toy stage before later, which makes it again"):
        steps.run_step(config, later, {tmp_path / "runs/one/data/toy": "toy"})
    training = replace(later, name="train", result="train", restart=Restart(resumable=True))
    steps.run_step(config, training, {tmp_path / "runs/one/data/toy": "toy"})  # it may not need the file any more
    run_step(config, step)
    assert f"[toy (toy)] is made again, as {gone} is gone" in capsys.readouterr().out and gone.is_file()
    steps.run_step(config, later, {tmp_path / "runs/one/data/toy": "toy"})
    assert "[later] finished before, skipped" in capsys.readouterr().out


def test_another_training_is_not_advised_where_it_would_be_refused(step, tmp_path, monkeypatch, capsys):
    """A training that was begun does not begin anew with other settings."""
    resumable = replace(step, restart=Restart(resumable=True))

    def read(config, run):
        return {**step.reads(config, run), "toy": [run["data/toy"]]}

    later = Step("later", "helpers.toy_stage", read, "later", ("train.seed",))
    monkeypatch.setattr(pipeline, "STEPS", (resumable, later))
    before, now = (config_of(tmp_path, "one", seed, shared="") for seed in (1, 2))
    before.model.path = now.model.path = "model"
    pipeline.run_stage(before, "toy")
    pipeline.run_stage(now, "later")
    said = "used as it is, though made with another resize.seed: choose another run.name to make it anew"
    assert said in capsys.readouterr().out


@pytest.mark.parametrize(("base", "key"), [("nowhere", "model.path"), ("elsewhere", "tokenizer.base")])
def test_a_missing_base_is_said_with_the_key_that_names_it(base, key):
    config = Config()
    config.model.path, config.tokenizer.base = "nowhere", base
    with pytest.raises(UserError, match=f"{key}: {base} does not exist: give a folder on this machine"):
        reads.tokenizer(config, RunFolder(Path("runs/r")))


@pytest.mark.parametrize("base", ["base", "model/tokenizer.json", "model"])
def test_a_changed_config_json_makes_the_tokenizer_unfinished(step, tmp_path, base):
    """The number of rows and the type of the model decide, also where the base tokenizer is not in its folder."""
    for file in ("base/tokenizer.json", "model/tokenizer.json", "model/config.json"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text("{}")
    config = config_of(tmp_path, "r", 1, shared="")
    config.model.path, config.tokenizer.base = str(tmp_path / "model"), str(tmp_path / base)
    config.tokenizer.new_tokens = 0
    step = replace(step, reads=lambda config, run, own=step.reads: {**own(config, run), **reads.tokenizer(config, run)})
    run_step(config, step)
    assert not steps.change_of(config, step, input_hash)
    (tmp_path / "model/config.json").write_text('{"model_type": "qwen2"}')
    assert "model" in steps.change_of(config, step, input_hash)
