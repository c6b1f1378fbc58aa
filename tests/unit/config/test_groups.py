"""Files chosen on the command line (``model=NAME``) win over the recipe, and words over both; ``cluster=null``."""

import pytest
from omegaconf import OmegaConf

from nemo_adapt.config import ClusterConfig, recipe_files, recipes
from nemo_adapt.errors import UserError

NEEDED = ["run.name=x", "model.path=y"]


def own_choices(name):
    """Groups that a shipped recipe chooses itself, as words of the command line."""
    defaults = OmegaConf.load(recipe_files.recipes_folder() / f"{name}.yaml").defaults
    pairs = [pair for each in defaults if not isinstance(each, str) for pair in each.items()]
    return [f"{key.removeprefix('override ')}={value}" for key, value in pairs]


CHOOSING = [name for name in recipe_files.names() if own_choices(name)]


@pytest.mark.parametrize("name", CHOOSING)
def test_a_recipe_s_own_choices_may_be_repeated(name):
    assert len(CHOOSING) > 10
    assert recipes.load(name, own_choices(name)) == recipes.load(name, [])


def test_a_language_wins_over_the_recipe_s_own_keys():
    found = recipes.load("stories260k_tr", ["language=hi", "data.folder=/d"])
    assert found.data.target == found.tokenizer.text == ["/d/text/hi.train*"]
    assert found.evaluate.target == "hi" and set(found.evaluate.texts) == set(found.tokenizer.parallel) == {"hi", "en"}
    assert found.tokenizer.guard == ["/d/text/en.train.txt"] and found.model.path == "/d/weights/stories260K"


def test_a_training_wins_over_the_recipe_s_own_keys_and_leaves_the_data_s_folder(monkeypatch):
    monkeypatch.delenv("NEMO_ADAPT_DATA", raising=False)
    found = recipes.load("stories260k_tr", ["train=paper"])
    assert (found.train.seq_length, found.tokenizer.new_tokens, found.tokenizer.method) == (1024, 10000, "union")
    assert (found.data.folder, found.train.global_batch) == ("../shared/data", 16), "what the file does not say"


def test_words_win_over_chosen_files():
    words = ["evaluate.texts.fr=f", "tokenizer.text=[z]", "train={seq_length: 64}", "cluster.nodes=3"]
    found = recipes.load("stories260k_tr", [*words, "language=hi", "train=paper", "cluster=a40_x4"])
    assert set(found.evaluate.texts) == {"hi", "en", "fr"} and found.tokenizer.text == ["z"]
    assert (found.train.seq_length, found.train.precision, found.cluster.nodes) == (64, "bf16", 3)
    both = recipes.load("blank", [*NEEDED, "cluster=a40_x4", "cluster={nodes: 2}"]).cluster
    assert (both.name, both.nodes) == ("a40_x4", 2)


@pytest.fixture
def own(tmp_path):
    """A user's recipe with a cluster, and values of its own for it, and a language file beside it."""
    (tmp_path / "language").mkdir()
    (tmp_path / "language/mine.yaml").write_text("# @package _global_\nevaluate: {target: xx, texts: {xx: f}}\n")
    chosen = "defaults: [stories260k_tr, _self_, override /cluster: h100_x8]\n"
    (tmp_path / "own.yaml").write_text(f"{chosen}cluster: {{nodes: 4}}\n")
    return str(tmp_path / "own.yaml")


def test_null_takes_back_the_recipe_s_choice(own):
    assert (recipes.load(own, []).cluster.name, recipes.load(own, []).cluster.nodes) == ("h100_x8", 4)
    assert recipes.load(own, ["cluster=null"]).cluster == ClusterConfig()
    assert recipes.load(own, ["cluster=a40_x4", "cluster=null"]).cluster == ClusterConfig(), "the last word counts"
    assert recipes.load(own, ["cluster=null", "cluster=a40_x4"]).cluster.nodes == 1
    assert recipes.load("llama2_7b_tr", ["train=null"]).train.precision == "fp32"
    assert recipes.load("llama2_7b_tr", ["language=null"]).evaluate.target == ""
    with pytest.raises(UserError, match=r"no value for model\.path"):
        recipes.load("llama2_7b_tr", ["model=null"])


def test_a_language_file_may_lie_beside_the_recipe(own):
    found = recipes.load(own, ["language=mine"]).evaluate
    assert (found.target, found.texts) == ("xx", {"xx": "f"})


@pytest.mark.parametrize("group", recipe_files.GROUPS)
@pytest.mark.parametrize("name", ["8", "8.5", "true", ""])
def test_a_number_is_an_unknown_name(group, name):
    with pytest.raises(UserError, match=f"^unknown {group} '{name}'.* Known: "):
        recipes.load("blank", [*NEEDED, f"{group}={name}"])


def test_a_list_of_files_is_read_in_order():
    found = recipes.load("stories260k_tr", ["train=[paper,replay]"])
    assert (found.tokenizer.method, found.resize.input, found.train.seq_length) == ("union", "calibrated", 1024)


def test_a_site_wins_over_the_recipe_s_own_keys_and_words_over_both(tmp_path):
    own, chosen = tmp_path / "own.yaml", "site=container"
    asked = "site: {partition: old, time: '4:00:00', environment: {A: x}, container: {mounts: ['/a:/a']}}\n"
    own.write_text(f"defaults: [stories260k_tr, _self_]\n{asked}")
    assert recipes.load(str(own), []).site.partition == "old"
    assert recipes.load(str(own), [chosen]).site == recipes.load("stories260k_tr", [chosen]).site
    words = ["site.time=1:00:00", "site.environment.B=1.10", "~site.environment.NCCL_DEBUG", "site.cpu.cpus=3"]
    found = recipes.load(str(own), [*words, chosen]).site
    assert (found.partition, found.time, found.cpu.cpus, found.environment) == ("gpu", "1:00:00", 3, {"B": "1.10"})
    saved = recipes.to_yaml(recipes.load("stories260k_tr", []))
    own.write_text(f"defaults: [blank, _self_]\n{saved}")
    assert recipes.load(str(own), [chosen]).site.container.image
