"""``nemo-adapt verify``: equal models, each kind of difference, and what cannot be compared."""

import json
import shutil
from functools import partial

import pytest
import torch
from helpers import zoo
from helpers.tiny import TinyLlama, converted, make_llama
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers

from nemo_adapt import verify
from nemo_adapt.errors import UserError


@pytest.fixture
def model(tmp_path):
    return make_llama(tmp_path / "model", TinyLlama())


def changed(model, place, change):
    """A copy of the folder, its tensors changed by a function."""
    shutil.copytree(model, place)
    tensors = load_file(model / "model.safetensors")
    change(tensors)
    save_file(tensors, place / "model.safetensors", {"format": "pt"})
    return place


def nudge(tensors):
    tensors["model.layers.1.mlp.up_proj.weight"][3, 4] += 0.25


def test_a_model_equals_itself_in_both_formats(model, tmp_path):
    checkpoint = converted(model, tmp_path / "checkpoint")
    for pair in ((model, model), (checkpoint, checkpoint), (model, checkpoint), (checkpoint, model)):
        found = verify.compare(*pair)
        assert not found.wrong and found.same >= 9


def test_a_changed_weight_is_found(model, tmp_path):
    other = changed(model, tmp_path / "other", nudge)
    checkpoints = converted(model, tmp_path / "one"), converted(other, tmp_path / "two")
    said = "differs by up to 0.25"
    assert verify.compare(model, other).wrong == {"model.layers.1.mlp.up_proj.weight": said}
    assert verify.compare(*checkpoints).wrong == {"decoder.layers.mlp.linear_fc1.weight": said}
    assert verify.compare(model, checkpoints[1]).wrong == {"decoder.layers.mlp.linear_fc1.weight 1": said}
    assert not verify.compare(model, other, tolerance=0.3).wrong


def test_names_shapes_and_dtypes_are_compared(model, tmp_path):
    def change(tensors):
        tensors["extra"] = torch.zeros(2)
        del tensors["lm_head.weight"]
        tensors["model.norm.weight"] = tensors["model.norm.weight"].bfloat16()
        tensors["model.embed_tokens.weight"] = tensors["model.embed_tokens.weight"][:250].clone()

    wrong = verify.compare(model, changed(model, tmp_path / "other", change)).wrong
    assert wrong == {
        "extra": "is only in the second",
        "lm_head.weight": "is only in the first",
        "model.norm.weight": "is torch.float32 in the first and torch.bfloat16 in the second",
        "model.embed_tokens.weight": "is (256, 32) in the first and (250, 32) in the second",
    }


def test_names_without_a_prefix_are_the_same_tensors(tmp_path):
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(n_layer=1, n_embd=8, n_head=2, n_positions=16, vocab_size=32, bos_token_id=0, eos_token_id=0)
    GPT2LMHeadModel(config).save_pretrained(tmp_path / "model")

    def change(tensors):
        for name in list(tensors):
            tensors[name.removeprefix("transformer.")] = tensors.pop(name)

    found = verify.compare(tmp_path / "model", changed(tmp_path / "model", tmp_path / "other", change))
    assert not found.wrong and found.same > 9


def test_a_language_model_equals_the_one_nested_in_a_model_that_reads_images(tmp_path, capsys):
    alone = zoo.make(tmp_path / "alone", "gemma3")
    nested = changed(alone, tmp_path / "nested", nest)
    config = json.loads((alone / "config.json").read_text())
    inside = {"architectures": ["Gemma3ForConditionalGeneration"], "text_config": config, "dtype": config["dtype"]}
    (nested / "config.json").write_text(json.dumps(inside))
    found = verify.compare(nested, alone)
    assert not found.wrong and found.same > 9
    assert f"{nested}: 1 tensors that are not the language model's are not compared" in capsys.readouterr().out
    verify.compare(converted(alone, tmp_path / "checkpoint"), nested)
    assert f"{nested}: 1 tensors" in capsys.readouterr().out
    other = changed(nested, tmp_path / "other", lambda tensors: tensors["vision_tower.x"].add_(1.0))
    assert list(verify.compare(nested, other).wrong) == ["vision_tower.x"]


def nest(tensors):
    for name in list(tensors):
        tensors[f"language_model.{name}"] = tensors.pop(name)
    tensors["vision_tower.x"] = torch.zeros(3)


def test_a_stored_output_table_of_a_tied_model_is_no_difference(tmp_path):
    tied = make_llama(tmp_path / "tied", TinyLlama(tied=True))

    def store(tensors):
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()

    stored = changed(tied, tmp_path / "stored", store)
    assert not verify.compare(tied, stored).wrong and not verify.compare(stored, tied).wrong


def test_another_vocabulary_is_a_difference(model, tmp_path):
    checkpoint = converted(model, tmp_path / "checkpoint")
    vocab = json.loads((model / "config.json").read_text())["vocab_size"]

    def grow(tensors):
        for name in ("model.embed_tokens.weight", "lm_head.weight"):
            tensors[name] = torch.cat([tensors[name], torch.ones(50, tensors[name].shape[1])])

    larger = changed(model, tmp_path / "larger", grow)
    config = json.loads((model / "config.json").read_text())
    (larger / "config.json").write_text(json.dumps({**config, "vocab_size": vocab + 50}))
    found = verify.compare(checkpoint, larger)
    assert set(found.wrong) == {"embedding.word_embeddings.weight", "output_layer.weight"} and found.same > 5
    assert all(f"in the checkpoint and ({vocab + 50}, " in said for said in found.wrong.values())


def test_a_checkpoint_of_another_size_is_a_difference(model, tmp_path):
    """More layers had been equal, as only those of the folder were compared; other widths had been an error."""
    checkpoint = converted(model, tmp_path / "checkpoint")
    config = json.loads((model / "config.json").read_text())
    layers = config["num_hidden_layers"]
    fewer = shutil.copytree(model, tmp_path / "fewer")
    (fewer / "config.json").write_text(json.dumps({**config, "num_hidden_layers": layers - 1}))
    wrong = verify.compare(checkpoint, fewer).wrong
    assert wrong["decoder.layers.mlp.linear_fc1.weight"].startswith(f"is ({layers}, ")
    (fewer / "config.json").write_text(json.dumps({**config, "intermediate_size": config["intermediate_size"] * 2}))
    assert "in the checkpoint and" in verify.compare(checkpoint, fewer).wrong["decoder.layers.mlp.linear_fc2.weight"]


def test_an_output_table_that_the_folder_lacks_is_a_difference(model, tmp_path):
    checkpoint = converted(model, tmp_path / "checkpoint")
    tied = changed(model, tmp_path / "tied", lambda tensors: tensors.pop("lm_head.weight"))
    config = json.loads((model / "config.json").read_text())
    (tied / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": True}))
    assert verify.compare(checkpoint, tied).wrong == {"output_layer.weight": "is not in the folder"}


def test_a_tensor_that_the_folder_lacks_is_a_difference(model, tmp_path):
    checkpoint = converted(model, tmp_path / "checkpoint")
    other = changed(model, tmp_path / "other", lambda tensors: tensors.pop("model.norm.weight"))
    wrong = verify.compare(checkpoint, other).wrong
    assert wrong == {"decoder.final_layernorm.weight": "is not in the folder (model.norm.weight)"}


@pytest.mark.parametrize(
    ("tensor", "key", "change"),
    [
        ("model.norm.weight", "decoder.final_layernorm.weight", lambda rows: rows[:-2]),
        ("model.layers.0.mlp.up_proj.weight", "decoder.layers.mlp.linear_fc1.weight 0", lambda rows: rows[:, :-1]),
        ("model.layers.0.mlp.up_proj.weight", "decoder.layers.mlp.linear_fc1.weight 0", lambda rows: rows.T),
        ("model.embed_tokens.weight", "embedding.word_embeddings.weight", lambda rows: torch.cat([rows, rows])),
        ("model.embed_tokens.weight", "embedding.word_embeddings.weight", lambda rows: rows[:-2]),
    ],
)
def test_a_tensor_with_another_shape_than_config_json_says_is_a_difference(model, tmp_path, tensor, key, change):
    """Some had been an error, of others the first rows had been compared."""
    checkpoint = converted(model, tmp_path / "checkpoint")

    def reshape(tensors):
        tensors[tensor] = change(tensors[tensor]).contiguous()

    wrong = verify.compare(checkpoint, changed(model, tmp_path / "other", reshape)).wrong
    assert list(wrong) == [key]
    assert wrong[key].startswith(f"cannot be compared: {tensor} is (") and "whose config.json says (" in wrong[key]


def test_a_tensor_that_only_the_folder_has_is_a_difference(model, tmp_path):
    checkpoint = converted(model, tmp_path / "checkpoint")
    other = changed(model, tmp_path / "other", lambda tensors: tensors.update(extra=torch.zeros(2)))
    assert verify.compare(checkpoint, other).wrong == {"extra": "is only in the folder"}


def test_a_path_may_have_an_equals_sign(model, tmp_path, monkeypatch):
    shutil.copytree(model, tmp_path / "lr=1e-4")
    monkeypatch.chdir(tmp_path)
    verify.main(["lr=1e-4", "model", "tolerance=0.1"])
    with pytest.raises(UserError, match=r"unknown key 'tolerence'\. Did you mean 'tolerance'"):
        verify.main(["lr=1e-4", "model", "tolerence=0.1"])


def test_nan_is_a_difference(model, tmp_path):
    def change(tensors):
        tensors["model.norm.weight"][0] = float("nan")

    other = changed(model, tmp_path / "other", change)
    assert verify.compare(model, other).wrong == {"model.norm.weight": "differs by up to inf"}
    assert not verify.compare(other, other).wrong


def test_an_infinity_in_both_is_no_difference(model, tmp_path):
    """Its difference is NaN, which counted as soon as any other number differs."""

    def change(tensors, by=0.0):
        tensors["model.norm.weight"][:2] = torch.tensor([float("inf"), 1.0 + by])

    one = changed(model, tmp_path / "one", change)
    other = changed(model, tmp_path / "other", partial(change, by=0.25))
    assert verify.compare(one, other).wrong == {"model.norm.weight": "differs by up to 0.25"}


def test_the_command_prints_differences_and_exits_with_1(model, tmp_path, capsys):
    verify.main([str(model), str(model)])
    assert "21 tensors are equal, 0 are not" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="1"):
        verify.main([str(model), str(changed(model, tmp_path / "other", nudge))])
    assert "model.layers.1.mlp.up_proj.weight differs by up to 0.25" in capsys.readouterr().out


def test_folders_that_cannot_be_compared_are_refused(model, tmp_path):
    with pytest.raises(UserError, match="takes two folders, not 1"):
        verify.main([str(model)])
    with pytest.raises(UserError, match="is neither a Hugging Face folder"):
        verify.main([str(model), str(tmp_path)])
    with pytest.raises(UserError, match="export the checkpoint first"):
        verify.main([str(model), str(converted(model, tmp_path / "checkpoint")), "text=x"])


@pytest.mark.parametrize("tolerance", ["-1", "nan", "inf"])
def test_a_negative_or_non_finite_tolerance_is_refused(model, tolerance):
    with pytest.raises(UserError, match=rf"tolerance={tolerance}.* must be a number of at least 0"):
        verify.main([str(model), str(model), f"tolerance={tolerance}"])


def test_a_folder_of_checkpoints_stands_for_its_newest_one(model, tmp_path, capsys):
    older = changed(model, tmp_path / "older", nudge)
    converted(older, tmp_path / "checkpoints" / "iter_0000001")
    converted(model, tmp_path / "checkpoints" / "iter_0000002")
    for pair in ((model, tmp_path / "checkpoints"), (tmp_path / "checkpoints", tmp_path / "checkpoints")):
        verify.main([str(place) for place in pair])
        said = capsys.readouterr().out
        assert "iter_0000002 is compared" in said and ", 0 are not" in said
    with pytest.raises(UserError, match="export the checkpoint first"):
        verify.main([str(model), str(tmp_path / "checkpoints"), "text=x"])


def with_tokenizer(model):
    tokenizer = Tokenizer(
        models.BPE({sign: i for i, sign in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, [])
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.save(str(model / "tokenizer.json"))
    return model


def test_logits_are_compared_on_any_text(model, tmp_path, capsys):
    with_tokenizer(model)
    other = changed(model, tmp_path / "other", nudge)
    (tmp_path / "a.txt").write_text("the old house\n")
    (tmp_path / "a.jsonl").write_text(json.dumps({"content": "the old house"}))
    given = ([f"text={tmp_path / 'a.txt'}"], [f"text={tmp_path / 'a.jsonl'}", "text_field=content"])
    found = []
    for words in given:
        verify.main([str(model), str(model), *words])
        assert "logits differ by up to 0\n" in capsys.readouterr().out
        with pytest.raises(SystemExit, match="1"):
            verify.main([str(model), str(other), *words])
        found.append(capsys.readouterr().out.partition("logits differ by up to ")[2])
    assert found[0] == found[1] and float(found[0]) > 0


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.txt", b"", "the file is empty"),
        ("a.txt", b" \n", "holds no document"),
        ("a.txt", b"caf\xe9\n", "line 1 is not UTF-8"),
        ("a.jsonl", b"plain\n", "line 1 is not a JSON object"),
        ("a.pdf", b"plain\n", "is not one of .txt"),
    ],
)
def test_unreadable_text_is_refused_before_tensors_are_read(model, tmp_path, capsys, name, content, says):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as error:
        verify.main([str(model), str(model), f"text={tmp_path / name}"])
    assert says in str(error.value) and str(tmp_path / name) in str(error.value)
    assert not capsys.readouterr().out  # before the tensors are read


def test_nan_logits_are_a_difference(model, tmp_path, capsys):
    def change(tensors):
        tensors["model.norm.weight"][0] = float("nan")

    other = changed(with_tokenizer(model), tmp_path / "other", change)
    (tmp_path / "a.txt").write_text("the old house\n")
    with pytest.raises(SystemExit, match="1"):
        verify.main([str(model), str(other), f"text={tmp_path / 'a.txt'}"])
    assert "logits differ by up to inf" in capsys.readouterr().out


FOREIGN = {"model_type": "foreign", "auto_map": {"AutoConfig": "code.C", "AutoModelForCausalLM": "code.M"}}


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (FOREIGN, "contains custom code"),
        ({"hidden_size": 128, "head_dim": 32}, "the model cannot be loaded"),
        ({"num_hidden_layers": 3}, "has no weights for model.layers.2"),
    ],
)
def test_logits_of_a_model_that_cannot_be_loaded_are_an_error(model, tmp_path, monkeypatch, settings, says):
    """Code in the folder is not run, even where the user would be asked."""
    monkeypatch.setattr("builtins.input", lambda *asked: "y")
    other = changed(with_tokenizer(model), tmp_path / "other", lambda tensors: None)
    written = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(written | settings))
    (other / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    with pytest.raises(UserError, match=says):
        verify.logits_difference(model, other, [1, 2])
    assert not (tmp_path / "ran").exists()


def test_logits_of_damaged_weights_are_an_error(model, tmp_path):
    (weights,) = model.glob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:-8])
    with pytest.raises(UserError, match="the model cannot be loaded"):
        verify.logits_difference(model, model, [1, 2])
