"""The resize of the road: new rows are bit-identical in every layout and offline; kept rows do not change."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.bytes_tokenizer import save_tokenizer
from helpers.folders import Folders, folders_of
from helpers.tiny import TinyLlama, converted, make_llama, make_token_map, tiny_config
from ranks import resize_bodies
from safetensors.torch import load_file, save_file

from nemo_adapt import families
from nemo_adapt.checkpoint.reader import Checkpoint
from nemo_adapt.config import ExportConfig, ResizeConfig
from nemo_adapt.errors import UserError
from nemo_adapt.export import export_checkpoint
from nemo_adapt.families.entries import one
from nemo_adapt.families.family import OUTPUT_BIAS, Family
from nemo_adapt.families.llama import LLAMA
from nemo_adapt.resize import offline
from nemo_adapt.resize.plan import strategies
from nemo_adapt.resize.strategy_inputs import StrategyInputs
from nemo_adapt.tokens.token_map import TokenMap

NEW = 45
MODELS = {"tied": TinyLlama(tied=True, vocab=250), "untied": TinyLlama(vocab=256), "padded": TinyLlama(vocab=256)}
TOKENS = {"tied": 250, "untied": 256, "padded": 251}
"""Tokens of the base tokenizer; the padded model has five more rows."""
NAMES = [name for name in strategies.names() if not strategies.get(name).needs]
HF = {"input": "model.embed_tokens.weight", "output": "lm_head.weight", "bias": "lm_head.bias"}


def make_folders(place, kind, new=NEW, dtype=torch.float32) -> Folders:
    """Make a model, its checkpoint and a token map; spare rows of a padded model are huge, to show in any statistic."""
    model = make_llama(place / "model", MODELS[kind], dtype)
    if kind == "padded":
        tensors = load_file(model / "model.safetensors")
        for name in ("model.embed_tokens.weight", "lm_head.weight"):
            tensors[name][TOKENS[kind] :] = 1e6
        save_file(tensors, model / "model.safetensors", {"format": "pt"})
    make_token_map(place / "tokenizer", TOKENS[kind], new)
    return Folders(model, converted(model, place / "convert"), place / "tokenizer")


def gathered_tables(ranks, folders, names=NAMES, with_bias=False, precision="fp32", **layout):
    """Return strategy -> table -> rows, concatenated from the shards of all ranks."""
    config = tiny_config(**layout)
    config.train.precision = precision
    pool = ranks(config.parallel.tp * config.parallel.pp)
    shards = pool.run(resize_bodies.tables_by_strategy, config, folders, names, with_bias)
    return {
        name: {
            table: torch.cat([shard[name][table] for shard in shards if table in shard[name]])
            for table in ("input", "output", *(["bias"] if with_bias else []))
        }
        for name in names
    }


def resized_offline(folders, out, **settings):
    out.mkdir()
    offline.resize_folder(StrategyInputs(folders.model), folders.tokenizer, out, ResizeConfig(**settings), shard_mib=1)
    return load_file(out / "model.safetensors")


@pytest.mark.parametrize("kind", MODELS)
def test_rows_are_bit_identical_in_every_layout_and_offline(tmp_path, ranks, kind):
    folders, tiny, rows = make_folders(tmp_path, kind), MODELS[kind], TOKENS[kind] + NEW
    reference = gathered_tables(ranks, folders)
    source = load_file(folders.model / "model.safetensors")
    for name, tables in reference.items():
        for which, table in tables.items():
            base = source[HF["input" if tiny.tied else which]]
            assert torch.equal(table[: TOKENS[kind]], base[: TOKENS[kind]])
            assert torch.isfinite(table).all() and table[:rows].abs().max() < 1e3
            assert table.shape[0] % 16 == 0 and not table[rows:].any()
        stored = resized_offline(folders, tmp_path / name, input=name, output=name)
        assert set(stored) == set(source)
        for which in ("input", "output") if not tiny.tied else ("input",):
            assert torch.equal(stored[HF[which]], tables[which][:rows]), (name, which)
    for layout in ({"tp": 2}, {"pp": 2}):
        for name, tables in gathered_tables(ranks, folders, **layout).items():
            for which, table in tables.items():
                assert torch.equal(table[:rows], reference[name][which][:rows]), (layout, name, which)
                assert not table[rows:].any()


def test_rows_are_bit_identical_at_tp4(tmp_path, ranks):
    tiny = TinyLlama(tied=True, vocab=250, kv_heads=4)
    folders = folders_of(tmp_path, tiny, NEW)
    rows = tiny.vocab + NEW
    four, one = gathered_tables(ranks, folders, tp=4), gathered_tables(ranks, folders)
    for name in NAMES:
        assert torch.equal(four[name]["input"][:rows], one[name]["input"][:rows]), name


def test_offline_resize_writes_the_dtype_of_the_file(tmp_path, ranks):
    """In bf16 the rows equal those of bf16 ranks, and those of fp32 ranks rounded once."""
    folders = make_folders(tmp_path, "untied", dtype=torch.bfloat16)
    stored = resized_offline(folders, tmp_path / "out", input="normal", output="subword_mean")
    in_fp32 = gathered_tables(ranks, folders, ["normal", "subword_mean"])
    in_bf16 = gathered_tables(ranks, folders, ["normal", "subword_mean"], precision="bf16", tp=2)
    for which, name in (("input", "normal"), ("output", "subword_mean")):
        table = stored[HF[which]]
        assert table.dtype == torch.bfloat16 and table.shape[0] == 256 + NEW
        assert torch.equal(table, in_bf16[name][which][: len(table)])
        assert torch.equal(table, in_fp32[name][which][: len(table)].bfloat16())


def test_rows_equal_a_direct_computation(tmp_path, ranks):
    folders = make_folders(tmp_path, "untied")
    token_map = TokenMap.load(folders.tokenizer)
    made = gathered_tables(ranks, folders, ["subword_mean", "mean", "normal"])
    source = made["mean"]["input"][:256].double()
    new = {name: tables["input"][256 : 256 + NEW].double() for name, tables in made.items()}
    expected = torch.stack([source[token.source_ids].mean(0) for token in token_map.tokens])
    torch.testing.assert_close(new["subword_mean"], expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(new["mean"], source.mean(0).expand(NEW, -1), rtol=0, atol=1e-6)
    # 45 x 32 draws: the sampling error of their standardized mean and deviation is a few hundredths.
    standard = (new["normal"] - source.mean(0)) / source.std(0, correction=0)
    assert abs(float(standard.mean())) < 0.1 and abs(float(standard.std()) - 1) < 0.1


def test_noise_differs_between_tables_and_between_seeds(tmp_path, ranks):
    """Noise of a token's input and output rows is independent, and so is that of two seeds; kept rows are the same."""
    folders = make_folders(tmp_path, "untied")
    config = tiny_config()
    first = ranks(1).run(resize_bodies.tables_by_strategy, config, folders, ["normal"])[0]["normal"]
    config.resize.seed += 1
    second = ranks(1).run(resize_bodies.tables_by_strategy, config, folders, ["normal"])[0]["normal"]
    assert torch.equal(first["input"][:256], second["input"][:256])
    assert not torch.equal(first["input"], second["input"])

    def standard(table):
        return (table[256 : 256 + NEW] - table[:256].mean(0)) / table[:256].std(0)

    pairs = [(first["input"], first["output"]), (first["output"], second["input"])]
    assert all(abs(float((standard(a) * standard(b)).mean())) < 0.1 for a, b in pairs)


@pytest.mark.parametrize(("new", "said"), [(NEW, "5 spare rows are reused for new tokens, 0 trimmed"),
                                           (2, "2 spare rows are reused for new tokens, 3 trimmed")])  # fmt: skip
def test_spare_rows_of_the_base_are_reused_or_trimmed(tmp_path, ranks, capsys, new, said):
    """The folders of export and of the offline command have as many rows as the tokenizer."""
    folders, rows = make_folders(tmp_path, "padded", new), TOKENS["padded"] + new
    (tmp_path / "saved").mkdir()
    printed = ranks(2).run(resize_bodies.save_and_capture, tiny_config(tp=2), folders, tmp_path / "saved")
    assert f"the base model has 256 rows for 251 tokens: {said}" in printed[0] and not printed[1]
    (tmp_path / "export").mkdir()
    export_checkpoint(tmp_path / "saved", folders.model, folders.tokenizer, tmp_path / "export", ExportConfig())
    exported = load_file(tmp_path / "export" / "model.safetensors")
    stored = resized_offline(folders, tmp_path / "offline")
    assert said in capsys.readouterr().out
    assert exported.keys() == stored.keys()
    for name, tensor in stored.items():
        assert torch.equal(tensor, exported[name]), name
    assert exported["lm_head.weight"].shape[0] == rows
    for place in ("export", "offline"):
        assert json.loads((tmp_path / place / "config.json").read_text())["vocab_size"] == rows


def llama_with_bias() -> Family:
    """Return the Llama family with a bias in the output layer."""
    bias = lambda shape: one(OUTPUT_BIAS, HF["bias"], shape.vocab, stacked=False)  # noqa: E731
    return replace(LLAMA, entries=lambda shape: [*LLAMA.entries(shape), bias(shape)])


def test_output_bias_is_resized_with_its_table(tmp_path, ranks, monkeypatch):
    monkeypatch.setattr(families, "FAMILIES", (llama_with_bias(),))
    model = make_llama(tmp_path / "model", MODELS["untied"])
    biases = torch.randn(256, generator=torch.Generator().manual_seed(5))
    tensors = {**load_file(model / "model.safetensors"), HF["bias"]: biases}
    save_file(tensors, model / "model.safetensors", {"format": "pt"})
    token_map = make_token_map(tmp_path / "tokenizer", 256, NEW)
    folders = Folders(model, converted(model, tmp_path / "convert"), tmp_path / "tokenizer")
    assert Checkpoint(folders.checkpoint).shapes[OUTPUT_BIAS] == (256,)
    names = ["subword_mean", "normal"]
    gathered = gathered_tables(ranks, folders, names, with_bias=True, tp=2)
    expected = {
        "subword_mean": [float(biases[token.source_ids].double().mean()) for token in token_map.tokens],
        "normal": [float(biases.double().mean())] * NEW,
    }
    for name in names:
        made = gathered[name]["bias"]
        assert torch.equal(made[:256], biases) and not made[256 + NEW :].any()
        np.testing.assert_allclose(made[256 : 256 + NEW], expected[name], rtol=0, atol=1e-6)
        stored = resized_offline(folders, tmp_path / name, input=name, output=name)
        assert torch.equal(stored[HF["bias"]], made[: 256 + NEW])


def test_offline_resize_reads_a_model_of_several_files(tmp_path):
    """Also of a tied model whose files contain an output layer: the result has one table."""
    folders = make_folders(tmp_path, "tied")
    whole = load_file(folders.model / "model.safetensors")
    parts = {f"model-0000{i}-of-00002.safetensors": dict(list(whole.items())[i::2]) for i in (0, 1)}
    parts["model-00000-of-00002.safetensors"][HF["output"]] = whole[HF["input"]].clone()
    (folders.model / "model.safetensors").unlink()
    for file, tensors in parts.items():
        save_file(tensors, folders.model / file, {"format": "pt"})
    index = {"weight_map": {name: file for file, tensors in parts.items() for name in tensors}}
    (folders.model / "model.safetensors.index.json").write_text(json.dumps(index))
    stored = resized_offline(folders, tmp_path / "out")
    assert set(stored) == set(whole) and stored[HF["input"]].shape[0] == 250 + NEW
    assert all(torch.equal(stored[name], whole[name]) for name in whole if name != HF["input"])
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["tie_word_embeddings"] and config["vocab_size"] == 250 + NEW


def words_of(folders, out, *more):
    return [f"model={folders.model}", f"tokenizer={folders.tokenizer}", f"out={out}", *more]


def test_offline_command_writes_a_loadable_folder_and_runs_once(tmp_path, capsys):
    from transformers import LlamaForCausalLM

    folders = make_folders(tmp_path, "untied")
    save_tokenizer(folders.tokenizer)
    words = words_of(folders, tmp_path / "out", "resize.input=mean", "export.shard_mib=1")
    offline.main(words)
    model, loaded = LlamaForCausalLM.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not loaded["missing_keys"] and not loaded["unexpected_keys"]
    new = model.get_input_embeddings().weight[256:]
    assert new.shape[0] == NEW and len(new.unique(dim=0)) == 1
    assert all((tmp_path / "out" / name).is_file() for name in ("generation_config.json", "tokenizer.json"))
    offline.main(words)
    assert "finished before" in capsys.readouterr().out


def with_nan(folders):
    tensors = load_file(folders.model / "model.safetensors")
    tensors[HF["output"]][[2, 200]] = torch.nan
    save_file(tensors, folders.model / "model.safetensors", {"format": "pt"})


def with_token_map_of(source_vocab, new=NEW):
    return lambda folders: make_token_map(folders.tokenizer, source_vocab, new)


def with_bad_source_row(folders):
    token_map = TokenMap.load(folders.tokenizer)
    token_map.tokens[4].source_ids.append(256)
    token_map.save(folders.tokenizer)


MISTAKES = {
    "no out": (None, ["out="], "no value for out: give out=FOLDER"),
    "no token map": (lambda folders: shutil.rmtree(folders.tokenizer), [], "token_map.json does not exist"),
    "no model": (lambda folders: shutil.rmtree(folders.model), [], "does not exist"),
    "unknown strategy": (None, ["resize.input=subword_men"], "Did you mean 'subword_mean'?"),
    "misspelt key": (None, ["resize.inptu=mean"], "Did you mean 'resize.input'?"),
    "NaN in a table": (with_nan, [], "lm_head.weight: 2 rows hold NaN or infinity: 2, 200; repair the model"),
    "token map of a larger tokenizer": (with_token_map_of(300), [], "has 300 tokens, but the model has only 256 rows"),
    "source row out of range": (with_bad_source_row, [],
                                "makes new row 4 from source row 256, but there are only rows 0 to 255"),
}  # fmt: skip


@pytest.mark.parametrize(("damage", "words", "says"), MISTAKES.values(), ids=list(MISTAKES))
def test_failed_offline_resize_leaves_no_output_folder(tmp_path, damage, words, says):
    folders = make_folders(tmp_path, "untied")
    if damage:
        damage(folders)
    with pytest.raises(UserError, match=says.replace("?", r"\?")):
        offline.main([*words_of(folders, tmp_path / "out"), *words])
    assert not (tmp_path / "out").exists()


def test_a_tokenizer_that_does_not_fit_the_table_is_rejected():
    """Up to 8,192 rows, or a tenth of the tokens, may be padding; more are real rows, which would be lost."""
    from nemo_adapt.tokens.vocab import check_fit

    for tokens, rows in ((50_295, 51_200), (128_815, 129_280), (32_000, 32_000), (200_000, 220_000)):
        check_fit(tokens, rows)
    with pytest.raises(UserError, match="96,256 more than tokens, which is too many for padding"):
        check_fit(32_000, 128_256)
    with pytest.raises(UserError, match="has only 32,000 rows"):
        check_fit(32_001, 32_000)


def test_strategies_are_registered_by_name():
    assert {"subword_mean", "mean", "normal"} <= set(NAMES)
