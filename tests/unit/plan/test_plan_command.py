"""``nemo-adapt plan``: its tables, its JSON, and one-line errors."""

import json
import re
import shlex
import subprocess
import sys
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest
from helpers.plans_of_models import settings

from nemo_adapt.config import Config, recipe_files, recipes
from nemo_adapt.errors import UserError
from nemo_adapt.plan import command
from nemo_adapt.plan.memory import PARTS
from nemo_adapt.plan.report import SECONDS
from nemo_adapt.run.checks import check

CLUSTER_OF = {
    "llama2_7b": "a40_x4",
    "llama2_7b_hi": "a40_x4",
    "llama2_7b_tr": "a40_x4",
    "llama2_7b_ar": "a40_x4",
    "llama2_7b_ta": "a40_x4",
    "mistral_7b": "a40_x4",
    "gemma_7b": "a40_x4",
    "gemma_2b": "a40_x4",
    "bloom_7b": "a40_x4",
    "xglm_7_5b": "a40_x4",
    "phi_2": "a40_x4",
    "llama3_8b": "h100_x8",
    "qwen2_5_7b": "h100_x8",
    "qwen3_8b": "h200_x8",
    "gemma3_4b": "h100_x8",
    "llama3_70b": "h100_x64",
    "llama3_70b_hi": "h100_x64",
    "demo": "laptop",
    "demo_base": "laptop",
    "stories260k_tr": "laptop",
}


def asked(capsys, *words):
    """What the command reports as JSON."""
    command.main([*words, "json=-"])
    return json.loads(capsys.readouterr().out)


def shown(capsys, *words):
    command.main(list(words))
    return capsys.readouterr().out


def test_every_recipe_has_a_cluster_here():
    assert set(CLUSTER_OF) == set(recipe_files.names()) - {"blank"}


@pytest.mark.parametrize("recipe", sorted(CLUSTER_OF))
def test_recipe_fits_its_cluster(capsys, tmp_path, recipe):
    cluster, words = CLUSTER_OF[recipe], []
    if cluster == "laptop":  # models of these recipes are trained or downloaded first
        (tmp_path / "config.json").write_text(json.dumps(settings()), encoding="utf-8")
        words = [f"model.path={tmp_path}"]
    report = asked(capsys, f"recipe={recipe}", f"cluster={cluster}", *words)
    assert report["fits"] and report["wrong"] == [] and report["hours"] > 0
    assert report["recipe"] == recipe and report["cluster"] == cluster
    assert (report["gpu_hours"] is None) == (cluster == "laptop")


@pytest.mark.parametrize("language", ["hi", "tr", "ar", "ta"])
@pytest.mark.parametrize("tokens", [10_000, 50_000])
def test_llama2_recipes_have_the_settings_of_the_paper(capsys, monkeypatch, language, tokens):
    """arXiv 2406.14670: 200K documents of 1,024 tokens, 8 per step on each of four A40, learning rate 6e-5."""
    monkeypatch.delenv("NEMO_ADAPT_DATA", raising=False)
    words = [f"recipe=llama2_7b_{language}", "cluster=a40_x4", f"tokenizer.new_tokens={tokens}"]
    config = recipes.of_words(words)
    assert config.run.name == f"llama2_7b_{language}" and config.evaluate.target == language
    assert config.tokenizer.text == config.data.target == [f"data/text/{language}.train*"]
    assert (config.train.global_batch, config.train.phases[0].lr, config.tokenizer.method) == (32, 6e-5, "union")
    report = asked(capsys, *words)
    assert report["fits"] and report["model"]["vocabulary_after"] == 32_000 + tokens
    assert report["budget"]["steps"] == 200_000 / 32


@pytest.mark.parametrize("cluster", recipe_files.names("cluster"))
def test_cluster_files_are_complete(cluster):
    found = recipes.load("blank", ["run.name=x", "model.path=y", f"cluster={cluster}"]).cluster
    assert found.name == cluster and found.devices >= 1
    command.is_chosen(found)


def test_checkpoints_of_a_phase_that_the_strategy_adds_are_counted(capsys):
    words = ["recipe=llama2_7b_hi", "cluster=a40_x4", "train.phases=[{train: new_rows, steps: 100, lr: 1e-3}]"]
    alone, warm = (asked(capsys, *words, *more)["disk"] for more in ([], ["resize.input=warm_start"]))
    assert warm["checkpoint"] > 1.02 * alone["checkpoint"], "the whole tables' optimizer state"


def test_plan_is_of_the_nodes_that_launch_takes(capsys):
    words = ["recipe=llama3_70b_hi", "cluster=h100_x64"]
    few, all_of_them = asked(capsys, *words, "launch.nodes=4"), asked(capsys, *words)
    assert (few["parallel"]["dp"], all_of_them["parallel"]["dp"]) == (1, 2)


def test_plan_shows_cluster_model_layout_steps_and_stages(capsys):
    words = ["recipe=llama3_70b_hi", "cluster=h100_x64"]
    report, text = asked(capsys, *words), shown(capsys, *words)
    for said in (
        "h100_x64: 8 nodes of 8 x NVIDIA H100 SXM 80 GB",
        "70.554 billion -> 70.718 billion",
        "128,256 -> 138,256 (tokenizer.new_tokens=10000), padded to 138,752 (128 x TP)",
        "TP 4 x PP 4 x CP 2 x DP 2 = 64 ranks, sequence, CP by Transformer Engine",
        "1,048,576 tokens",
        "room (79.1 GiB less 3)",
        "GPU-hours",
        "2,008 steps",
        "stage 4 of 4, GiB",
    ):
        assert said in text
    assert "CP by" not in shown(capsys, *words, "train.reset_attention=true")  # the layers are our own then
    assert report["gpu_hours"] == pytest.approx(64 * report["hours"])
    for step in report["steps"]:
        assert step["seconds"] == pytest.approx(sum(step[name] for name in SECONDS))
    assert [each["stage"] for each in report["memory"]] == [0, 1, 2, 3]
    assert all(each["total"] == sum(each[part] for part in PARTS) for each in report["memory"])


def test_plan_without_a_cluster_has_no_times_and_no_fit(capsys):
    report, text = asked(capsys, "recipe=gemma_2b"), shown(capsys, "recipe=gemma_2b")
    assert report["fits"] is None and report["steps"] == [] and report["hours"] is None
    assert "none chosen: cluster=NAME" in text and "room" not in text and "max_position_embeddings" not in text
    text = shown(capsys, "recipe=gemma_2b", "train.seq_length=16384")
    assert "16,384 tokens, more than the 8,192 of the model's max_position_embeddings" in text


def test_budgets_in_bytes_use_bytes_per_token(capsys):
    report = asked(capsys, "recipe=gemma_2b", "plan.bytes_per_token=2.5")
    assert report["budget"]["bytes"] == report["budget"]["tokens"] * 2.5 >= 512_000_000 * 2.5
    phases = "train.phases=[{train: new_rows, bytes: 1_000_000_000, lr: 1e-3}]"
    report = asked(capsys, "recipe=gemma_2b", "plan.bytes_per_token=2.5", phases)
    assert report["budget"]["phases"] == [["new_rows", -(-400_000_000 // (64 * 1024))]]


def test_bytes_per_token_come_from_the_counts_of_the_data_stage(tmp_path, capsys):
    folder = tmp_path / "counted" / "data" / "target"
    folder.mkdir(parents=True)
    (folder / "counts.json").write_text('{"documents": 3, "tokens": 1000, "bytes": 3100}', encoding="utf-8")
    report = asked(capsys, "recipe=gemma_2b", f"run.dir={tmp_path}", "run.name=counted")
    assert report["budget"]["bytes_per_token"] == 3.1 and report["budget"]["counted"] == "counted by data"


def test_checkpoint_sizes_and_save_times(capsys):
    report = asked(capsys, "recipe=llama2_7b", "cluster=a40_x4", "tokenizer.new_tokens=0")
    disk = report["disk"]
    assert disk["base"] == 2 * 6_738_415_616 and disk["checkpoint"] == pytest.approx(14 * 6_738_415_616, rel=0.01)
    assert disk["save_seconds"] == pytest.approx(disk["checkpoint"] / 1e9) and disk["saves"] == 13
    waiting = asked(capsys, "recipe=llama2_7b", "cluster=a40_x4", "tokenizer.new_tokens=0", "train.async_save=false")
    assert waiting["hours"] - report["hours"] == pytest.approx(13 * disk["save_seconds"] / 3600)


@pytest.mark.parametrize(("steps", "saves"), [([200, 1000], 4), ([500, 1000], 3), ([3, 4, 5], 3), ([499], 1)])
def test_the_end_of_each_phase_is_saved_too(capsys, steps, saves):
    phases = ",".join(f"{{train: all, steps: {count}}}" for count in steps)
    report = asked(capsys, "recipe=gemma_2b", f"train.phases=[{phases}]", "train.save_every=500")
    assert report["disk"]["saves"] == saves


def test_checkpoints_of_every_so_many_steps_are_saved_and_kept(capsys):
    words = ["recipe=gemma_2b", "train.phases=[{train: all, steps: 1000}]", "train.save_every=300"]
    disk, kept = (asked(capsys, *words, f"train.keep_every={every}")["disk"] for every in (0, 200))
    assert (disk["saves"], kept["saves"]) == (4, 7)  # 300, 600, 900, 1000; and 200, 400, 800
    assert kept["checkpoints"] == disk["checkpoints"] + 5


def test_json_file_equals_the_printed_json(tmp_path, capsys):
    words = ["recipe=gemma_2b", "cluster=a40_x4"]
    report = asked(capsys, *words)
    command.main([*words, f"json={tmp_path / 'plan.json'}"])
    assert json.loads((tmp_path / "plan.json").read_text()) == report


def test_search_is_suggested_only_if_another_layout_can_help():
    with pytest.raises(
        UserError, match=r"has 64 GiB \(cluster\.node_memory_gib\): take more nodes \(cluster\.nodes\)$"
    ):
        command.main(["recipe=llama3_8b", "cluster=h100_x8", "cluster.node_memory_gib=64"])
    with pytest.raises(
        UserError, match=r"a rank needs .*; nemo-adapt plan \.\.\. plan\.search=true proposes layouts that fit$"
    ):
        command.main(["recipe=llama3_8b", "cluster=h100_x8", "parallel.tp=1", "parallel.sequence=false"])


def test_layout_that_does_not_fit_is_shown_and_refused(capsys):
    words = ["recipe=llama3_8b", "cluster=h100_x8", "parallel.tp=1", "parallel.sequence=false"]
    with pytest.raises(UserError, match=r"does not fit: a rank needs 9\d\.\d GiB, most of it for activations"):
        command.main(words)
    assert "activations" in capsys.readouterr().out
    command.main([*words, "plan.search=true"])
    text = capsys.readouterr().out
    assert "this layout does not fit" in text and "layouts that fit" in text and "the first: parallel.tp=" in text


def test_search_proposes_layouts_if_the_given_one_is_invalid(capsys):
    command.main(
        ["recipe=llama3_8b", "cluster=h100_x8", "parallel.tp=3", "parallel.sequence=false", "plan.search=true"]
    )
    text = capsys.readouterr().out
    assert "this layout cannot work: parallel: a model of tp=3" in text and "the first:" in text


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["cluster=h100_64"], "unknown cluster 'h100_64'. Did you mean 'h100_x64'?"),
        (["language=tt"], "unknown language 'tt'. Did you mean 'tr'?"),
        (["model=llama3_7b"], "unknown model 'llama3_7b'. Did you mean 'llama3_70b'?"),
        (["cluster=h100_x8"], "are 32 ranks, and the cluster h100_x8 has 8 GPUs"),
        (["cluster=laptop"], "are 32 ranks, and the cluster laptop has 8 cores"),
        (["cluster=h100_x64", "parallel.tp=3"], "a model of tp=3 x pp=4 x cp=2 = 24 ranks does not divide the 64 GPUs"),
        (["cluster=h100_x64", "cluster.nodes=0"], "cluster.nodes=0 x 8 devices must be above 0"),
        (["cluster=h100_x64", "cluster.memory_gib=0"], "cluster.memory_gib=0.0 must be above 0"),
        (["cluster=a40_x4", "launch.nodes=8"], "cluster.between_nodes_gb_per_s=0.0 must be above 0"),
        (["parallel.tp=5"], "parallel.tp=5 does not divide the model's 64 attention heads"),
        (["parallel.tp=0"], "parallel.tp=0 must be at least 1"),
        (["parallel.stage_layers=[20,60]"], "stage_layers=[20, 60]: parallel.pp=4 needs 4 numbers above 0"),
        (["train.global_batch=127", "parallel.dp=2"], "train.global_batch=127 is not a multiple"),
        (["train.seq_length=8190"], "is not a multiple of 2 x parallel.cp=2"),
        (["train.seq_length=8188"], "is not a multiple of parallel.cp=2 x parallel.tp=4"),
        (["train.seq_length=0"], "train.seq_length=0 must be at least 1"),
        (["train.precision=fp8"], "train.precision='fp8' is not one of fp32, bf16"),
        (["train.phases=[{train: 'layers:0-99', steps: 1}]"], "the model has layers 0 to 79"),
        (["plan.mfu=0"], "plan.mfu=0.0 must be above 0"),
        (["plan.search=true", "plan.proposals=0"], "plan.proposals=0 must be at least 1"),
        (["plan.reserve_gib=-1"], "plan.reserve_gib=-1.0 must be at least 0"),
        (["tokenizer.new_tokens=-1"], "tokenizer.new_tokens=-1 must be at least 0"),
        (["resize.padded_vocab_multiple=0"], "resize.padded_vocab_multiple=0 must be at least 1"),
        (["model.config.architectures=[Unknown]"], "architecture Unknown is not supported"),
        (["plan.search=true"], "plan.search=true needs a cluster: cluster=a40_x4|"),
        (["json=/absent/plan.json"], "the folder /absent does not exist"),
        (["plan.sarch=true"], "unknown key 'plan.sarch'. Did you mean 'plan.search'?"),
        (["nonsense"], "'nonsense' is not of the form key=value"),
    ],
)
def test_invalid_settings_raise_one_line_errors(words, says):
    with pytest.raises(UserError) as error:
        command.main(["recipe=llama3_70b_hi", *words])
    assert says in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("key", ["train.seq_length", "evaluate.context"])
def test_samples_and_windows_longer_than_the_learned_positions_are_refused(tmp_path, key):
    (tmp_path / "config.json").write_text(json.dumps(settings("gpt2")), encoding="utf-8")
    words = ["run.name=x", f"model.path={tmp_path}", "data.target=[x]", "train.seq_length=512", f"{key}=513"]
    with pytest.raises(UserError, match=f"{key}=513: the model has learned 512 positions"):
        command.main(["recipe=blank", *words])
    with pytest.raises(UserError, match=f"{key}=513: the model has learned 512 positions"):
        check(recipes.load("blank", words))


def test_incomplete_model_config_is_refused():
    words = ["recipe=blank", "run.name=x", "model.path=/y", "model.config.architectures=[LlamaForCausalLM]"]
    with pytest.raises(UserError, match=r"config.json has no \w+, which a llama model needs"):
        command.main(words)


PAGE = (Path(__file__).parents[3] / "docs" / "plan.md").read_text(encoding="utf-8")
BLOCKS = [block.strip("\n") for block in PAGE.split("```")[1::2]]
COMMANDS = [line for block in BLOCKS for line in block.splitlines() if line.startswith("nemo-adapt plan ")]


def test_docs_have_plan_commands():
    assert len(COMMANDS) >= 4


@pytest.mark.parametrize("line", COMMANDS)
def test_docs_commands_print_the_output_shown_in_docs(capsys, monkeypatch, line):
    monkeypatch.delenv("NEMO_ADAPT_DATA", raising=False)
    text = "\n".join(row.rstrip() for row in shown(capsys, *shlex.split(line)[2:]).splitlines())
    following = BLOCKS[BLOCKS.index(line) + 1] if line in BLOCKS else ""
    if not following.startswith(("yaml", "nemo-adapt")):
        assert following in text


def test_docs_recipe_is_valid(tmp_path):
    (recipe,) = [block.removeprefix("yaml") for block in BLOCKS if block.startswith("yaml")]
    (tmp_path / "my_qwen.yaml").write_text(recipe, encoding="utf-8")
    config = recipes.load(str(tmp_path / "my_qwen.yaml"), [])
    assert config.run.name == "my_qwen" and config.model.config["hidden_size"] == 4096
    assert config.data.replay and config.train.phases[0].tokens == 500_000_000


def test_docs_name_only_existing_keys():
    keys = set(re.findall(r"`((?:plan|cluster|tokenizer|parallel|train)\.\w+)", PAGE))
    known = {
        f"{part.name}.{each.name}" for part in fields(Config) if is_dataclass(part.type) for each in fields(part.type)
    }
    assert len(keys) > 5 and keys <= known


def test_plan_does_not_import_torch_transformers_or_scipy():
    code = (
        "import sys; from nemo_adapt import cli; cli.command('plan', sys.argv[1:]); "
        "sys.exit(bool({'torch', 'transformers', 'scipy'} & set(sys.modules)))"
    )
    words = ["recipe=llama3_70b_hi", "cluster=h100_x64"]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    assert done.returncode == 0 and re.search(r"MFU \d\d%", done.stdout), done.stderr
