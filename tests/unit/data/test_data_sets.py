"""Sets of text with shares: names, stages, and which settings are in a training's fingerprint."""

import json

import pytest

from nemo_adapt import pipeline
from nemo_adapt.config import recipes
from nemo_adapt.corpora.mixture import bytes_per_token, counts, passes, text_sets, token_shares
from nemo_adapt.errors import UserError
from nemo_adapt.run import artifact, preflight, reads, steps
from nemo_adapt.run.run_folder import RunFolder
from nemo_adapt.train.prepare import line_on_passes

GIVEN = ["run.name=x", "model.path=y", "data.target=[t.txt]"]
REPLAY = ["data.replay=[r.txt]", "data.replay_share=0.2"]
CODE = ["data.sets.code.text=[c.txt]", "data.sets.code.share=0.05"]


def load(*words):
    return recipes.load("blank", [*GIVEN, *words])


def test_the_target_gets_the_share_that_other_sets_leave():
    found = text_sets(load(*REPLAY, *CODE))
    assert {name: (each.key, each.text) for name, each in found.items()} == {
        "target": ("data.target", ["t.txt"]),
        "replay": ("data.replay", ["r.txt"]),
        "code": ("data.sets.code.text", ["c.txt"]),
    }
    assert [each.share for each in found.values()] == pytest.approx([0.75, 0.2, 0.05])
    assert list(text_sets(load("data.replay_share=0.2"))) == ["target"]
    assert text_sets(load("data.replay_share=0.2"))["target"].share == 1.0


def test_every_set_is_a_step_and_an_input_of_training():
    config = load(*REPLAY, *CODE)
    made = [step for step in pipeline.steps_of(config) if step.name == "data"]
    assert [step.result for step in made] == ["data/target", "data/replay", "data/code"]
    assert [step.title for step in made] == ["data (target)", "data (replay)", "data (code)"]
    inputs = reads.train(config, RunFolder.of(config))
    assert {key: path.name for key, (path,) in inputs.items() if key.startswith("data.")} == {
        "data.target": "target", "data.replay": "replay", "data.code": "code"
    }  # fmt: skip
    with pytest.raises(UserError, match=r"data\.sets\.code\.text: no file matches 'c\.txt'"):
        made[2].reads(config, RunFolder.of(config))


def test_a_training_s_fingerprint_has_shares_but_not_file_names():
    """The contents of the files are hashed as an input."""

    def deciding(*words):
        config = load(*REPLAY, *words)
        [step] = [step for step in pipeline.steps_of(config) if step.name == "train"]
        return steps._deciding(config, step)

    other_file = ["data.sets.code.text=[d.txt]", CODE[1]]
    assert deciding(*CODE) == deciding(*other_file) == deciding(*CODE, "data.processes=3")
    assert deciding(*CODE) != deciding(*CODE, "data.sets.code.share=0.06") != deciding()


def test_with_keep_best_the_fingerprint_has_the_scoring_settings(tmp_path):
    """Otherwise runs of a study would share a training, or an export use a checkpoint, chosen by another text."""
    for name in ("tr", "other", "en"):
        (tmp_path / f"{name}.txt").write_text(name)

    def stage(*words, target="tr"):
        texts = [f"evaluate.texts.tr={tmp_path / target}.txt", f"evaluate.texts.en={tmp_path / 'en'}.txt"]
        config = load(*texts, "evaluate.target=tr", "train.score_every=5", *words)
        [step] = [step for step in pipeline.steps_of(config) if step.name == "train"]
        read = step.reads(config, RunFolder.of(config))
        return steps._deciding(config, step), read.get("train.keep_best")

    best = "train.keep_best=true"
    plain, kept = stage(), stage(best)
    assert plain == stage("train.score_every=6", "train.score_bytes=9", target="other")
    assert kept != plain and kept[1] == [tmp_path / "tr.txt"]
    assert stage(best, "train.score_every=6")[0] != kept[0] != stage(best, "evaluate.target=en")[0]
    assert stage(best, target="other") == (kept[0], [tmp_path / "other.txt"])


def test_keep_best_and_its_text_may_change_when_a_training_resumes(tmp_path):
    """No other setting may change."""
    for name in ("tr", "other"):
        (tmp_path / f"{name}.txt").write_text(name)

    def stage(*words, target="tr"):
        texts = [f"evaluate.texts.tr={tmp_path / target}.txt", "evaluate.target=tr", "train.score_every=5"]
        config = load(*texts, *words)
        [step] = [step for step in pipeline.steps_of(config) if step.name == "train"]
        read = {
            key: paths for key, paths in step.reads(config, RunFolder.of(config)).items() if key.startswith("train")
        }
        deciding = steps._deciding(config, step)
        return artifact.Stage("train", tmp_path / "train", deciding, read, step.restart)

    best = "train.keep_best=true"
    for changed in (stage(), stage(best), stage(best, target="other"), stage(best, "train.score_bytes=9"), stage()):
        changed.prepare()
    with pytest.raises(UserError, match=r"other settings \(train\.weight_decay\)"):
        stage(best, "train.weight_decay=0.5").prepare()


def test_sets_of_a_recipe_can_be_changed_and_added(tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text("defaults: [blank, _self_]\ndata:\n  sets:\n    web: {text: [w.txt], share: 0.2}\n")
    config = recipes.load(str(own), [*GIVEN, *CODE, "data.sets.web.share=0.3"])
    assert {name: each.share for name, each in config.data.sets.items()} == {"web": 0.3, "code": 0.05}
    (tmp_path / "saved.yaml").write_text(recipes.to_yaml(config), encoding="utf-8")
    assert recipes.read(tmp_path / "saved.yaml") == config


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            [*CODE, "data.sets.code.share=1.0"],
            "data.sets.code.share=1.0: shares must .* leave some of 1 to data.target",
        ),
        ([*REPLAY, *CODE, "data.sets.code.share=0.8"], "data.replay_share=0.2, data.sets.code.share=0.8: shares must"),
        (["data.shares_in=words"], "data.shares_in='words' is neither tokens nor bytes"),
        ([*REPLAY, "data.replay_share=-0.1"], "data.replay_share=-0.1: shares must be above 0"),
        ([*CODE, "data.sets.code.share=0"], "data.sets.code.share=0.0 must be above 0"),
        (["data.sets.code.text=[c.txt]"], "data.sets.code.share=0.0 must be above 0"),
        (["data.sets.code.share=0.1"], "no value for data.sets.code.text: give it files or globs"),
        (["data.sets.replay.text=[c.txt]"], "data.sets.replay: the name is taken"),
        (["data.sets.target.text=[c.txt]"], "data.sets.target: the name is taken"),
        (["data.sets._x.text=[c.txt]"], "a set's name is made of letters"),
        (["data.sets.code.texts=[c.txt]"], "unknown key 'data.sets.code.texts'. Did you mean 'data.sets.NAME.text'"),
    ],
)
def test_invalid_sets_are_refused(words, says):
    with pytest.raises(UserError, match=says) as error:
        pipeline.steps_of(load(*words))
    assert "\n" not in str(error.value)


def test_shares_in_bytes_are_converted_to_shares_in_tokens(tmp_path):
    """A set whose tokens are short gets more of the tokens, so that its bytes are the share that was asked for."""
    sizes = {"target": (300, 100), "replay": (1000, 200)}  # bytes, tokens: 3 and 5 bytes a token
    folders = {name: tmp_path / name for name in sizes}
    for name, (size, tokens) in sizes.items():
        folders[name].mkdir()
        (folders[name] / "counts.json").write_text(json.dumps({"documents": 1, "bytes": size, "tokens": tokens}))
    in_tokens, in_bytes = load(*REPLAY), load(*REPLAY, "data.shares_in=bytes")
    assert token_shares(in_tokens, folders) == {"target": 0.8, "replay": 0.2}
    assert bytes_per_token(in_tokens, folders) == pytest.approx(0.8 * 3 + 0.2 * 5)
    shares = token_shares(in_bytes, folders)
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["replay"] * 5 / (shares["replay"] * 5 + shares["target"] * 3) == pytest.approx(0.2)
    assert bytes_per_token(in_bytes, folders) == pytest.approx(1 / (0.8 / 3 + 0.2 / 5))  # 1 / tokens per byte


def test_files_of_every_set_are_looked_into_before_the_first_stage(tmp_path):
    paths = {name: tmp_path / f"{name}.jsonl" for name in "trc"}
    for path in paths.values():
        path.write_text('{"text": "one"}\n')
    words = [f"data.target=[{paths['t']}]", f"data.replay=[{paths['r']}]", f"data.sets.code.text=[{paths['c']}]"]
    config = load(*words, "data.sets.code.share=0.05", "data.replay_share=0.2")
    steps_of_run = [step for step in pipeline.steps_of(config) if step.name in ("tokenizer", "data")]
    preflight.precheck(config, steps_of_run)
    for path in paths.values():
        path.write_text('{"content": "one"}\n')
        with pytest.raises(UserError, match=f"{path.name}: line 1 is not a JSON object"):
            preflight.precheck(config, steps_of_run)
        path.write_text('{"text": "one"}\n')


@pytest.mark.parametrize(("unit", "share"), [("tokens", 0.2), ("bytes", 1 / 9)])
def test_passes_are_the_tokens_read_of_those_there_are(tmp_path, unit, share):
    """A fifth of the tokens is replay; in bytes, its tokens are half as long."""
    folders = {}
    for name, (tokens, size) in {"target": (100, 200), "replay": (1000, 1000)}.items():
        folders[name] = tmp_path / name
        folders[name].mkdir()
        (folders[name] / "counts.json").write_text(json.dumps({"documents": 1, "tokens": tokens, "bytes": size}))
    config = load("data.replay=[r.txt]", f"data.replay_share={share}", f"data.shares_in={unit}")
    found = passes(config, folders, 500)
    assert found == pytest.approx({"target": 4.0, "replay": 0.1})
    assert line_on_passes(found) == "the training reads target 4.00 times, replay 0.10 times"
    often = line_on_passes(passes(config, folders, 501))
    assert often.endswith("more than 4 times adds little, give more text of target")


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"documents": 1, "tokens": 2}', '{"documents": 1, "tokens": 2, "bytes": "3"}']
)
def test_damaged_counts_are_one_line(tmp_path, content):
    (tmp_path / "counts.json").write_text(content)
    with pytest.raises(UserError, match=r"counts\.json is damaged: .*; run the data stage again"):
        counts(tmp_path)
