"""Every recipe composes into the typed configuration; mistakes get one line that names the nearest key."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from nemo_adapt import cli, pipeline
from nemo_adapt.config import Config, PhaseConfig, recipe_files, recipes
from nemo_adapt.errors import UserError

REPOSITORY = Path(__file__).parents[3]
NEEDED = ["run.name=x", "model.path=y"]


@pytest.mark.parametrize("name", recipe_files.names())
def test_every_recipe_composes(name):
    config = recipes.load(name, NEEDED if name == "blank" else [])
    assert isinstance(config, Config) and config.recipe == name
    assert {step.name for step in pipeline.steps_of(config)} >= set(pipeline.names()) - {"auxiliary"}


def test_the_expected_recipes_exist():
    assert {"blank", "demo", "demo_base", "stories260k_tr"} <= set(recipe_files.names())


def test_a_saved_configuration_reads_back_the_same(tmp_path):
    config = recipes.load("blank", [*NEEDED, "train.phases=[{steps: 3, lr: 0.1}]"])
    (tmp_path / "config.yaml").write_text(recipes.to_yaml(config), encoding="utf-8")
    assert recipes.read(tmp_path / "config.yaml") == config
    assert config.train.phases[0].steps == 3


def test_languages_are_added_and_replaced_by_name():
    config = recipes.load("stories260k_tr", ["evaluate.texts.hi=h.txt", "evaluate.texts.tr=t.txt"])
    assert config.evaluate.texts["hi"] == "h.txt" and config.evaluate.texts["tr"] == "t.txt"
    assert set(config.evaluate.texts) == {"tr", "en", "hi"}


def test_tables_may_be_given_whole():
    words = ["evaluate.texts={tr: t.txt, hi: h.txt}", "evaluate.tasks={xcopa: {tr: x}}", "model.config={a: 1}"]
    config = recipes.load("stories260k_tr", [*words, "data.sets={code: {text: [c.txt], share: 0.1}}"])
    assert config.evaluate.texts["hi"] == "h.txt" and set(config.evaluate.texts) == {"tr", "en", "hi"}
    assert config.evaluate.tasks["xcopa"] == {"tr": "x"} and config.model.config == {"a": 1}
    assert config.data.sets["code"].text == ["c.txt"] and config.data.sets["code"].share == 0.1


def test_a_user_s_recipe_extends_another(tmp_path):
    own = tmp_path / "mine.yaml"
    own.write_text("defaults: [stories260k_tr, _self_]\ntokenizer:\n  new_tokens: 7\n", encoding="utf-8")
    config = recipes.load(str(own), ["parallel.tp=1"])
    assert (config.tokenizer.new_tokens, config.parallel.tp, config.recipe) == (7, 1, "mine")


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["tokenizer.new_token=5"], "unknown key 'tokenizer.new_token'. Did you mean 'tokenizer.new_tokens'?"),
        (["train.phases=[{step: 3}]"], "unknown key 'train.phases[0].step'. Did you mean 'steps'?"),
        (["tokenizer.new_tokens=many"], "tokenizer.new_tokens: Value 'many'"),
        (["train.phases=[{steps: 1}, {steps: two}]"], "train.phases[1].steps: Value 'two'"),
        (["tokenizer.text=/a b.txt"], "tokenizer.text: expected a list: tokenizer.text=[...]"),
        (["train.phases={steps: 3}"], "train.phases: expected a list: train.phases=[...]"),
        (["train.phases=[3]"], "train.phases[0]: expected names with values"),
        (["evaluate.texts=/tr.txt"], "expected names with values: evaluate.texts.NAME=..."),
        (["evaluate.texts=[/tr.txt]"], "expected names with values: evaluate.texts.NAME=..."),
        (["parallel.tp=null"], "parallel.tp: it cannot be null: leave parallel.tp out for its default"),
        (["tp=2"], "unknown key 'tp'. Did you mean 'parallel.tp'?"),
        (["warmup_share=0.1"], "unknown key 'warmup_share'. Did you mean 'train.warmup_share'?"),
        (["paralel.tp=2"], "unknown key 'paralel'. Did you mean 'parallel'?"),
        (["model.path=~/base"], "'model.path=~/base' cannot be read: close lists and tables, write $HOME for ~"),
        (["train.phases=[{steps: 3"], "'train.phases=[{steps: 3' cannot be read"),
        (["evaluate.texts.tr=/a(1).txt"], "in quotes of its own: 'evaluate.texts.tr=\"...\"'"),
        (["tokenizer.text=[/a(1).txt]"], "in quotes of its own: 'tokenizer.text=[\"...\"]'"),
        (["+foo=1"], "'+foo=1' is not of the form key=value"),
        (
            ["evaluate.texts={tr:", "/tr.txt}"],
            "'/tr.txt}' is not of the form key=value: put key={...} in quotes",
        ),
        (["hydra.run.dir=x"], "unknown key 'hydra.run.dir'"),
        (["hydra=x"], "unknown key 'hydra': Hydra's own settings cannot be changed"),
        (["model.path="], "no value for model.path"),
        (["evaluate.texts={tr: [a.txt]}"], "evaluate.texts.tr: expected one value, not ['a.txt']"),
        (["tokenizer.text=[[a.txt]]"], "tokenizer.text.0: expected one value, not ['a.txt']"),
        (["study.axes={x: {y: 3}}"], "study.axes.x: expected a list"),
        (["evaluate.tasks={a: [b]}"], "evaluate.tasks.a: expected names with values"),
        (["train.phases.x.steps=3"], "entries of a list are numbered from 0, as in train.phases.0.steps=5"),
        (["train.phases.x=3"], "'x': entries of a list are numbered from 0, as in train.phases.0.steps=5"),
        (["data.sets.a.text.x=3"], "'x': entries of a list are numbered from 0"),
        (["run.name="], "run.name='': it names a folder in run.dir=runs"),
        (["run.name=../other"], "run.name='../other': it names a folder in"),
        (["train.phases.3.steps=4"], "train.phases[3]: train.phases has 1 entries, numbered from 0"),
        (["data.target.4=x"], "data.target[4]: data.target has 0 entries, numbered from 0: give the list itself"),
        (["run.dir=rs/p,q"], "'run.dir=rs/p,q' cannot be read"),
        (["run.dir=range(1,3)"], "in quotes of its own: 'run.dir=\"...\"'"),
        (["data.sets.code.text=a,b"], "'data.sets.code.text=a,b' cannot be read"),
        (["data.sets.code.text=[x"], "'data.sets.code.text=[x' cannot be read"),
        (
            ["evaluate.texts.ü=/a.txt"],
            "names in ASCII letters: choose another name than 'ü', or give it in a recipe file",
        ),
        (["evaluate.texts={en: /a.txt, ü: b.txt}"], "names in ASCII letters: choose another name than 'ü'"),
        (["site.environment={X: true}"], "X is read as True: write it as site.environment.X=WORD"),
        (["site.environment.X=null"], "site.environment.X: it cannot be null"),
        (["tokenizer.new_tokens=1e3"], "'1000.0' of type 'float' could not be converted to Integer; write 1000"),
        (["train.phases=[{tokens: 1e9}]"], "'1e9' of type 'str' could not be converted to Integer; write 1000000000"),
    ],
)
def test_mistakes_in_keys_and_values(overrides, says):
    with pytest.raises(UserError) as error:
        recipes.of_words(["recipe=blank", *NEEDED, *overrides])
    assert says in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("word", ["true", "off", "1.10", "ib0,ib1", "", "3", "'a,b'", '"on"', "müller"])
def test_environment_variables_have_the_words_of_the_command_line(word):
    found = recipes.of_words(["recipe=blank", *NEEDED, f"site.environment.X={word}"])
    assert found.site.environment == {"X": word.strip("'\"")}


WORDS_LIKE_NUMBERS = ["2024_01_01", "1e3", "true", "1.10", "007", "-5", "nan"]


@pytest.mark.parametrize("word", WORDS_LIKE_NUMBERS)
def test_texts_have_the_words_of_the_command_line(word):
    words = [f"run.name={word}", f"tokenizer.text=[a.txt, {word}, '{word}', {word}:2]", f"evaluate.texts.tr={word}"]
    words += [f"evaluate.texts={{en: {word},hi:{word}}}", f"data.sets.a.text=[{word}]", f"site.account= {word}"]
    words += [f"study.axes={{x: {{y: [{word}]}}}}", f"train.phases=[{{train: {word}, steps: 1_0, lr: 1e-1}}]"]
    found = recipes.of_words(["recipe=blank", "model.path=y", *words, "data.sets.a.share=1e-1", "train.seed=1_0"])
    assert found.run.name == found.site.account == word and found.data.sets["a"].text == [word]
    assert found.tokenizer.text == ["a.txt", word, word, f"{word}:2"]
    assert found.evaluate.texts == {"tr": word, "en": word, "hi": word} and found.study.axes["x"]["y"] == [word]
    assert found.train.phases[0] == PhaseConfig(word, 10, 0.1)
    assert (found.data.sets["a"].share, found.train.seed) == (0.1, 10), "numbers are numbers"
    own = recipes.parse(Command, [f"out={word}", f"texts=[{word}]"])
    assert (own.out, own.texts) == (word, [word])


def test_a_model_s_settings_keep_their_types():
    words = ["model.config.a=1e3", "model.config.b=true", "model.config={c: [1_0, x]}"]
    found = recipes.of_words(["recipe=blank", *NEEDED, *words]).model.config
    assert found == {"a": 1000.0, "b": True, "c": [10, "x"]}


@dataclass
class Command:
    """Settings of a command that is not a stage."""

    out: str = ""
    texts: list[str] = field(default_factory=list)


def test_a_name_in_a_list_of_a_command_is_one_line():
    with pytest.raises(UserError, match=r"^texts\.tr: expected a list: texts=\[\.\.\.\]$"):
        recipes.parse(Command, ["texts.tr=a.txt"])


def test_a_comma_in_a_command_s_value_needs_quotes():
    with pytest.raises(UserError, match=r"'out=rs/p,q' cannot be read.* in quotes of its own: 'out=\"\.\.\.\"'"):
        recipes.parse(Command, ["out=rs/p,q"])
    assert recipes.parse(Command, ['out="rs/p,q"']).out == "rs/p,q"


@pytest.mark.parametrize("folder", ["müller", "a (x)", "a=b", "a, b", "a[1]{2}", 'a"b', "a\\"])
def test_recipes_are_found_wherever_the_package_is(tmp_path, folder):
    """Hydra reads the path of the recipes in its own grammar."""
    place = tmp_path / folder
    for name in ("nemo_adapt", "recipes"):
        shutil.copytree(REPOSITORY / name, place / name, ignore=shutil.ignore_patterns("__pycache__"))
    code = "from nemo_adapt.config import recipes; print(recipes.__file__, recipes.of_words(['recipe=demo']).run.name)"
    environment = {**os.environ, "PYTHONPATH": str(place)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.strip() == f"{place}/nemo_adapt/config/recipes.py demo", done.stderr


def test_non_ascii_letters_need_no_quotes(tmp_path):
    """Hydra's grammar allows only ASCII letters without quotes."""
    own = tmp_path / "türkçe.yaml"
    own.write_text("defaults: [blank, _self_]\n", encoding="utf-8")
    words = ["tokenizer.text=[/a/ığü.txt,b.txt]", "data.target=[हिन्दी.txt]", "evaluate.texts.tr=/x/ş.txt"]
    config = recipes.of_words([f"recipe={own}", *NEEDED, *words, "data.sets.a.text=[é.txt]", "data.sets.a.share=0.1"])
    assert config.recipe == "türkçe" and config.tokenizer.text == ["/a/ığü.txt", "b.txt"]
    assert config.data.target == ["हिन्दी.txt"] and config.evaluate.texts["tr"] == "/x/ş.txt"
    assert config.data.sets["a"].text == ["é.txt"]
    own_folder = recipes.of_words(["recipe=demo", "data.folder=/x", "tokenizer.text=[${data.folder}/türkçe.txt]"])
    assert own_folder.tokenizer.text == ["/x/türkçe.txt"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"train: {seq_length: 5}\n", "has no defaults: .* defaults: "),
        (b"", "has no defaults"),
        (b"- a\n", "has no defaults"),
        (b"\xff\xfe\x00", "is not UTF-8 text"),
        (b"defaults: [blank, _self_]\nrun: {name: x\n", r"own\.yaml, line 3: expected"),
        (b"defaults: [blank, _self_]\nevaluate: {texts: {no: f.txt}}\n", 'put this name in quotes, as "no"'),
        (b"defaults: [blank, _self_]\nevaluate: {target: no}\n", "evaluate.target is read as false: put no, yes"),
        (b"defaults: [own, _self_]\n", "a recipe includes itself"),
        (b"defaults: blank\n", r"must be a list \(got str\): defaults is a list of names, as defaults: \[blank"),
        (b"defaults: [blank, _self_]\ntrain: 3\n", "train: expected keys and values below it, not 3"),
        (
            b"defaults: [blank, _self_]\ntrain: {phases: {train: all}}\n",
            r"train\.phases: expected a list: train\.phases=",
        ),
        (
            b"defaults: [blank, _self_]\nevaluate: {texts: [a]}\n",
            r"texts: expected names with values: evaluate\.texts\.NAME",
        ),
        (b"defaults: [blank, _self_]\ndata: {sets: {a: {text: {b: c}}}}\n", r"data\.sets\.a\.text: expected a list"),
        (b"defaults: [blank, _self_]\ndata: {target: [[a]]}\n", r"data\.target\.0: expected one value, not \['a'\]"),
        (b"defaults: [blank, _self_]\ndata: {sets: {a: [b]}}\n", r"data\.sets\.a: expected keys .* not \['b'\]"),
        (b"defaults: [blank, _self_]\ndata: {sets: {a: }}\n", r"data\.sets\.a: expected keys .* not None"),
        (b"defaults: [5]\n", "defaults is a list of names"),
        (b"defaults: [[blank]]\n", "defaults is a list of names"),
        (b"defaults: [blank, _self_]\nnull: 6\n", r"own\.yaml has a key .* 'NoneType'\): put it in quotes"),
        (b"defaults: [blank, _self_]\nrun: &a {name: *a}\n", r"own\.yaml: it is nested too deeply, or an alias"),
        (b"defaults: " + b"[" * 2000 + b"]" * 2000, r"own\.yaml: it is nested too deeply"),
        (b"defaults: [blank, _self_]\ntrain: {wandb: }\n", r"train\.wandb: it cannot be null: leave train\.wandb out"),
        (
            b"defaults: [blank, _self_]\ntrain: {wandb: off}\n",
            r"train\.wandb is read as false: name a project, or leave",
        ),
        (b"defaults: [blank, _self_]\nsite: {time: 24:00:00}\n", r"own\.yaml, line 2: YAML reads 24:00:00 as 86400"),
    ],
)
def test_mistakes_in_recipe_files(tmp_path, content, says):
    (tmp_path / "own.yaml").write_bytes(content)
    with pytest.raises(UserError, match=says):
        recipes.of_words([f"recipe={tmp_path / 'own.yaml'}", *NEEDED])


def test_a_set_may_be_another_one(tmp_path):
    """A reference in place of a set is resolved, not refused."""
    (tmp_path / "own.yaml").write_text(
        "defaults: [blank, _self_]\ndata: {sets: {a: {text: [x.txt], share: 0.1}, b: '${data.sets.a}'}}\n"
    )
    config = recipes.of_words([f"recipe={tmp_path / 'own.yaml'}", *NEEDED])
    assert config.data.sets["a"] == config.data.sets["b"]


def test_dashes_before_a_key_are_named():
    with pytest.raises(UserError, match=r"'--recipe=own' is not of the form key=value: write recipe=own, without"):
        recipes.of_words(["--recipe=own", *NEEDED])


def test_groups_are_chosen_by_name(monkeypatch):
    monkeypatch.delenv("NEMO_ADAPT_DATA", raising=False)
    config = recipes.load("blank", ["run.name=x", "model=gemma_2b", "language=ta", "train=paper", "cluster=a40_x4"])
    assert config.model.path == "data/weights/gemma-2b" and config.evaluate.target == "ta"
    assert (config.tokenizer.method, config.train.precision, config.cluster.devices) == ("union", "bf16", 4)
    other = recipes.load("stories260k_tr", ["model=qwen3_8b", "model.tokens=9", "data.folder=/corpora"])
    assert (other.model.path, other.model.tokens) == ("/corpora/weights/Qwen3-8B-Base", 9), "not the recipe's own model"
    own = recipes.load("llama2_7b_tr", ["data.folder=/corpora", "language=ta", "tokenizer.new_tokens=50000"])
    assert own.data.target == ["/corpora/text/ta.train*"] and own.run.name == "llama2_7b_ta"
    assert own.model.path == "/corpora/weights/Llama-2-7b-hf"


@pytest.mark.parametrize("group", recipe_files.GROUPS)
def test_mistakes_in_groups(group):
    near = recipe_files.names(group)[0]
    with pytest.raises(UserError, match=f"unknown {group} '{near}x'. Did you mean '{near}'"):
        recipes.load("blank", [*NEEDED, f"{group}={near}x"])


def test_mistakes_in_recipe_names(tmp_path):
    with pytest.raises(UserError, match="Did you mean 'stories260k_tr'"):
        recipes.load("stories260k", [])
    with pytest.raises(UserError, match="does not exist"):
        recipes.load(str(tmp_path / "none.yaml"), [])
    (tmp_path / "own.yml").write_text("defaults: [blank, _self_]\n")
    with pytest.raises(UserError, match=r"end in \.yaml: rename it to own\.yaml"):
        recipes.load(str(tmp_path / "own.yml"), NEEDED)
    with pytest.raises(UserError, match=r"no value for run\.name"):
        recipes.load("blank", ["model.path=y"])


def test_sections_are_plain_values():
    config = recipes.load("blank", NEEDED)
    found = recipes.section(config, "resize.input", "parallel")
    assert found["resize.input"] == "subword_mean" and found["parallel"]["tp"] == 1
    assert not OmegaConf.is_config(found["parallel"])
    sets = [f"data.sets.{name}.{key}" for name in ("web", "code") for key in ("text=[a.txt]", "share=0.1")]
    found = recipes.section(recipes.load("blank", [*NEEDED, *sets]), "data.sets.*.share")
    assert list(found.items()) == [("data.sets.code.share", 0.1), ("data.sets.web.share", 0.1)]


def test_values_set_in_a_composed_recipe_equal_command_line_overrides(tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text("defaults: [blank, _self_]\nexport: {dir: 'out/${run.name}'}\n", encoding="utf-8")
    tree = recipes.composed(str(own), NEEDED)
    values = {"run.name": "a/b c", "train.seed": 7}
    found = recipes.with_values(tree, values)
    assert found == recipes.load(str(own), [*NEEDED, 'run.name="a/b c"', "train.seed=7"])
    assert found.export.dir == "out/a/b c" and recipes.with_values(tree, {}) == recipes.load(str(own), NEEDED)
    with pytest.raises(UserError, match=r"train\.seed: Value 'x'"):
        recipes.with_values(tree, {"train.seed": "x"})


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"\xff\xfe", "is not UTF-8 text"),
        (b"partition: [\n", ", line 2: "),
        (b"- a\n", "does not consist of lines  key: value"),
        (b"42\n", "does not consist of lines  key: value"),
        (b"time: '24:00:00' # 24:00:00\ncpu: {time: 12:30:00}\n", ", line 2: YAML reads 12:30:00 as 45000: put it in"),
        (b"account: 0123\n", ", line 1: YAML reads 0123 as 83: put it in quotes"),
        (b"environment:\n  A: 1\n  B: on\n", ', line 3: YAML reads on as True: put it in quotes, as "on"'),
        (b"site: {environment: {B: 1e3}}\n", ', line 1: YAML reads 1e3 as 1000.0: put it in quotes, as "1e3"'),
        (b"run:\n  name: 2024_01_15\n", ", line 2: YAML reads 2024_01_15 as 20240115: put it in quotes"),
        (b"run: {name: true}\n", ", line 1: YAML reads true as True: put it in quotes"),
        (b"tokenizer:\n  text: [a.txt,\n    1.10]\n", ", line 3: YAML reads 1.10 as 1.1: put it in quotes"),
        (b"evaluate: {texts: {tr: 0x1F}}\n", ", line 1: YAML reads 0x1F as 31: put it in quotes"),
        (b"data: {sets: {a: {text: [1_0]}}}\n", ", line 1: YAML reads 1_0 as 10: put it in quotes"),
        (b"qos: high\naccount: 2024_05\n", ", line 2: YAML reads 2024_05 as 202405: put it in quotes"),
        (b"cpu: {partition: on}\n", ", line 1: YAML reads on as True: put it in quotes"),
    ],
)
def test_a_damaged_configuration_or_site_is_named(content, says, tmp_path):
    path = tmp_path / "own.yaml"
    path.write_bytes(content)
    for read in (recipes.read, lambda path: recipes.load("demo", [f"site={path}"])):
        with pytest.raises(UserError, match=re.escape(f"{path}{says if says[0] == ',' else ' ' + says}")):
            read(path)


@pytest.mark.parametrize("word", [*WORDS_LIKE_NUMBERS, "0x1F", "1:30", "on", "2024-01-15", "null"])
def test_a_saved_configuration_has_the_same_texts(tmp_path, word):
    words = [f'run.name="{word}"', "model.path=12", f'site.account="{word}"', f'tokenizer.text=["{word}"]']
    config = recipes.of_words(["recipe=blank", *words, "train.seed=1_0", "tokenizer.keep_marks=true"])
    (tmp_path / "config.yaml").write_text(recipes.to_yaml(config), encoding="utf-8")
    assert recipes.read(tmp_path / "config.yaml") == config and config.run.name == word


@pytest.mark.parametrize(
    ("file", "text"),
    [("base.yaml", "defaults: [blank, _self_]\nrun: {name: 1_0}\n"), ("model/mine.yaml", "path: a\ncheckpoint: 1_0\n")],
)
def test_the_files_that_a_recipe_is_composed_from_are_checked_too(tmp_path, file, text):
    (tmp_path / "model").mkdir()
    (tmp_path / "base.yaml").write_text("defaults: [blank, _self_, override /model: mine]\n")
    (tmp_path / "model/mine.yaml").write_text("path: a\n")
    (tmp_path / "own.yaml").write_text("defaults: [base, _self_, override /model: mine]\n")
    assert recipes.load(str(tmp_path / "own.yaml"), ["run.name=x"]).model.path == "a"
    (tmp_path / file).write_text(text)
    with pytest.raises(UserError, match=rf"{file}, line 2: YAML reads 1_0 as 10: put it in quotes"):
        recipes.load(str(tmp_path / "own.yaml"), ["run.name=x"])


def test_numbers_and_keep_marks_need_no_quotes_in_yaml(tmp_path):
    own = tmp_path / "own.yaml"
    text = "run: {name: 7}\ntokenizer: {keep_marks: true}\ntrain: {seed: 1_0, phases: [{steps: 1_0, lr: 1e-3}]}\n"
    own.write_text(f"defaults: [blank, _self_]\nmodel: {{path: a, config: {{b: 1_0, c: 1e3}}}}\n{text}")
    config = recipes.load(str(own), [])
    assert (config.run.name, config.tokenizer.keep_marks, config.train.seed) == ("7", "True", 10)
    assert config.model.config == {"b": 10, "c": 1000.0}


@pytest.mark.parametrize("name", ["kümeler.yaml", "a b/my site.yaml", "it's (1), x.yaml"])
def test_a_site_s_file_is_found_whatever_its_name(tmp_path, monkeypatch, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("account: ling\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    for word in (f"site={name}", f"site='{name}'", f'site="{tmp_path / name}"'):
        assert recipes.of_words(["recipe=blank", *NEEDED, word]).site.account == "ling"
    with pytest.raises(UserError, match=r"^unknown site 'gpu€'\. Did you mean 'gpus'"):
        recipes.of_words(["recipe=blank", *NEEDED, "site='gpu€'"])


def test_a_name_that_is_too_long_for_a_folder_is_one_line(tmp_path):
    with pytest.raises(UserError, match="aaa: File name too long; give another path"), cli.file_errors_explained():
        (tmp_path / ("a" * 300)).mkdir()


def test_a_configuration_cut_off_after_its_first_lines_is_named(tmp_path):
    (tmp_path / "config.yaml").write_text("run:\n  name: r\n")
    with pytest.raises(UserError, match=r"config\.yaml: no value for model\.path"):
        recipes.read(tmp_path / "config.yaml")


def test_a_recipe_given_without_its_key_is_suggested():
    for word in ("my_tr.yaml", "a/b.yml", "demo"):
        with pytest.raises(UserError, match=f"'{word}' is not of the form key=value: write recipe={word}$"):
            recipes.of_words([word])
    with pytest.raises(UserError, match=r"'dem' is not of the form key=value$"):
        recipes.of_words(["dem"])


def test_an_unknown_key_of_a_phase_is_named_with_its_place(tmp_path):
    says = r"unknown key 'train\.phases\[1\]\.stepz'\. Did you mean 'steps'\?"
    recipe = tmp_path / "r.yaml"
    recipe.write_text("defaults: [blank, _self_]\ntrain: {phases: [{steps: 3}, {train: all, stepz: 4}]}\n")
    with pytest.raises(UserError, match=says):
        recipes.load(str(recipe), ["run.name=x", "model.path=y"])
    for words in (["train.phases=[{steps: 3}, {train: all, stepz: 4}]"], ["train.phases.1.stepz=4"]):
        both = ["train.phases=[{steps: 3}, {steps: 3}]", *words] if len(words[0]) < 30 else words
        with pytest.raises(UserError, match=says):
            recipes.load("blank", ["run.name=x", "model.path=y", *both])


def test_the_axes_of_a_study_may_be_given_on_the_command_line():
    words = ["run.name=x", "model.path=y", "study.axes={seed: {a: ['train.seed=1'], b: ['train.seed=2']}}"]
    assert recipes.load("blank", words).study.axes["seed"]["b"] == ["train.seed=2"]
    assert recipes.load("blank", [*words, "study.axes.x.y=[a]"]).study.axes["x"] == {"y": ["a"]}
