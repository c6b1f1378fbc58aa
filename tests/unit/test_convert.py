"""Conversion and export: several processes, interruptions, damaged folders, full disks, padded tables."""

import errno
import json
import os
import pickle
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
import torch
from helpers.bytes_tokenizer import save_tokenizer
from helpers.tiny import TinyLlama, converted, make_llama, make_token_map
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from nemo_adapt import cli, convert, export, export_command, pipeline, verify
from nemo_adapt.checkpoint import writer
from nemo_adapt.checkpoint.box import Box
from nemo_adapt.checkpoint.reader import Checkpoint
from nemo_adapt.config import Config, ExportConfig
from nemo_adapt.errors import UserError
from nemo_adapt.families.family import hf_shapes
from nemo_adapt.families.llama import LLAMA
from nemo_adapt.hf_model import weights
from nemo_adapt.hf_model.weights import StoredTensor
from nemo_adapt.machine import locks
from nemo_adapt.resize import offline
from nemo_adapt.run import artifact, preflight
from nemo_adapt.run.manifest import read_manifest
from nemo_adapt.run.restart import Restart


@pytest.fixture
def model(tmp_path):
    make_token_map(tmp_path / "tokenizer", 256, 0)
    return make_llama(tmp_path / "model", TinyLlama())


@pytest.fixture
def resizable(tmp_path):
    """A model whose extended tokenizer can be read too."""
    save_tokenizer(tmp_path / "tokenizer")
    make_token_map(tmp_path / "tokenizer", 257, 0)
    return make_llama(tmp_path / "model", TinyLlama(vocab=257))


@pytest.fixture
def small_files(monkeypatch):
    """Make even a tiny model have many files and jobs."""
    monkeypatch.setattr(writer, "FILE_BYTES", 20_000)


def exported(model, checkpoint, out, **settings):
    out.mkdir(exist_ok=True)
    export.export_checkpoint(checkpoint, model, model.parent / "tokenizer", out, ExportConfig(**settings))
    return out


def test_two_processes_share_conversion_and_export(model, tmp_path, small_files):
    """Together they read every byte once, and the model is the same."""
    config, both = Config(), tmp_path / "both"
    config.convert.processes = 2
    both.mkdir()
    import_facts = convert.build(config, {"model": [model]}, both)
    out = tmp_path / "out"
    out.mkdir()
    places, settings = (both, model, model.parent / "tokenizer", out), ExportConfig(processes=2, shard_mib=1)
    export_facts = export.export_checkpoint(*places, settings)
    assert not verify.compare(model, out).wrong and not verify.compare(model, both).wrong
    size = sum(tensor.nbytes for tensor in load_file(model / "model.safetensors").values())
    for each in (import_facts, export_facts):
        assert size == each["bytes"] == sum(process["bytes_read"] for process in each["per_process"])
        assert len(each["per_process"]) == each["processes"] == 2
    assert not list(out.glob(".exp*")) and len(list(both.glob("*.distcp"))) > 2


def test_a_resumed_conversion_keeps_finished_files(model, tmp_path, small_files, monkeypatch):
    config = Config()
    stage = artifact.Stage(
        "convert", tmp_path / "checkpoint", {}, {"model": [model]}, restart=Restart(keeps_partial=True)
    )
    write_file, written = writer.write_file, []

    def fail_in_the_middle(folder, number, chunks, done):
        if number == 2 and not written:
            written.append(number)
            raise KeyboardInterrupt
        write_file(folder, number, chunks, done)

    monkeypatch.setattr(writer, "write_file", fail_in_the_middle)
    monkeypatch.setattr(convert, "cores", lambda: 1)
    with pytest.raises(KeyboardInterrupt):
        artifact.run(stage, lambda place: convert.build(config, {"model": [model]}, place))
    left = sorted(path.name for path in stage.workplace.glob("*.distcp"))
    assert left == ["__0_0.distcp", "__1_0.distcp"] and not stage.finished and not stage.out.exists()
    before = {name: (stage.workplace / name).stat().st_mtime_ns for name in left}
    artifact.run(stage, lambda place: convert.build(config, {"model": [model]}, place))
    assert before == {name: (stage.out / name).stat().st_mtime_ns for name in left}
    assert stage.finished and not verify.compare(model, stage.out).wrong
    assert read_manifest(stage.out)["processes"] == 1
    assert not [path.name for path in stage.out.iterdir() if "tmp" in path.name or path.name == "started.json"]


def test_partial_results_are_deleted_when_the_settings_have_changed(model, tmp_path):
    stage = artifact.Stage(
        "convert", tmp_path / "checkpoint", {}, {"model": [model]}, restart=Restart(keeps_partial=True)
    )
    (stage.prepare() / "left").touch()
    assert (stage.prepare() / "left").exists()
    other = artifact.Stage(
        "convert",
        tmp_path / "checkpoint",
        {"chunk_mib": 1},
        {"model": [model]},
        restart=Restart(keeps_partial=True),
    )
    assert not (other.prepare() / "left").exists()


def test_a_resumed_export_copies_only_the_missing_layer(model, tmp_path, monkeypatch):
    checkpoint, out = converted(model, tmp_path / "checkpoint"), tmp_path / "out"
    copy, copied = export._copy, []

    def fail_in_the_last_layer(work, entry, layer, seen):
        if layer == 1 and len(copied) < 100:
            copied.extend(["failed"] * 100)
            raise KeyboardInterrupt
        copied.append(entry.key)
        copy(work, entry, layer, seen)

    monkeypatch.setattr(export, "_copy", fail_in_the_last_layer)
    with pytest.raises(KeyboardInterrupt):
        exported(model, checkpoint, out)
    copied[:] = ["failed"] * 100
    exported(model, checkpoint, out)
    assert len(copied) - 100 == 6  # the tensors of the last layer
    assert not verify.compare(model, out).wrong


def test_a_folder_is_built_by_one_process_at_a_time(tmp_path):
    again = locks.folder_lock(tmp_path / "out")
    with locks.folder_lock(tmp_path / "out"), pytest.raises(UserError, match="is being made by another process"), again:
        pass
    with locks.folder_lock(tmp_path / "out"):
        pass
    assert not list(tmp_path.iterdir())


def test_export_detects_a_tensor_whose_writes_were_lost(model, tmp_path, monkeypatch):
    """Tested for each Hugging Face tensor, as several of them come from one Megatron tensor."""
    checkpoint, write = converted(model, tmp_path / "checkpoint"), export.HfWriter.write
    for name in load_file(model / "model.safetensors"):

        def lossy(target, tensor, *arguments, lost=name):
            return None if tensor == lost else write(target, tensor, *arguments)

        monkeypatch.setattr(export.HfWriter, "write", lossy)
        with pytest.raises(UserError, match=f"tensor {name} is not what was written"):
            exported(model, checkpoint, tmp_path / f"without {name}")


def test_padded_rows_are_zero_and_never_generated(model, tmp_path):
    """All real logits are made negative, so that those of the padded rows, 0, would be the highest."""
    tensors = load_file(model / "model.safetensors")
    tensors["lm_head.weight"] = -tensors["lm_head.weight"].abs()
    tensors["model.norm.weight"] = tensors["model.norm.weight"].abs()
    save_file(tensors, model / "model.safetensors", {"format": "pt"})
    checkpoint = converted(model, tmp_path / "checkpoint")
    plain = exported(model, checkpoint, tmp_path / "plain")
    assert json.loads((plain / "config.json").read_text())["vocab_size"] == 256
    out = exported(model, checkpoint, tmp_path / "out", pad_vocab_to=100)
    padded = AutoModelForCausalLM.from_pretrained(out)
    assert padded.config.vocab_size == 300 == len(padded.lm_head.weight) == len(padded.get_input_embeddings().weight)
    assert not padded.lm_head.weight[256:].any() and torch.equal(padded.lm_head.weight[:256], tensors["lm_head.weight"])
    answer = padded.generate(torch.tensor([[5, 6, 7]]), max_new_tokens=20, do_sample=False)
    assert (answer < 256).all() and padded.generation_config.suppress_tokens == list(range(256, 300))


def test_damaged_checkpoints_and_unsupported_models_are_refused(model, tmp_path):
    checkpoint = converted(model, tmp_path / "checkpoint")
    file = checkpoint / "__0_0.distcp"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"__0_0\.distcp is cut short"):
        exported(model, checkpoint, tmp_path / "out")
    file.unlink()
    with pytest.raises(UserError, match=r"__0_0\.distcp is missing; the checkpoint is not complete"):
        exported(model, checkpoint, tmp_path / "out")
    with pytest.raises(UserError, match=r"export\.pad_vocab_to=0 must be at least 1"):
        exported(model, checkpoint, tmp_path / "out", pad_vocab_to=0)
    stranger = tmp_path / "stranger"
    shutil.copytree(model, stranger)
    tensors = load_file(model / "model.safetensors")
    save_file({**tensors, "model.extra.weight": torch.zeros(3)}, stranger / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=r"1 tensors have no place in the model: model\.extra\.weight"):
        converted(stranger, tmp_path / "other")
    whole_numbers = {name: tensor.to(torch.int32) for name, tensor in tensors.items()}
    save_file(whole_numbers, stranger / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match="is I32; only F32, BF16, F16 can be converted"):
        converted(stranger, tmp_path / "another")
    mixed = {**tensors, "model.layers.1.self_attn.k_proj.weight": tensors["lm_head.weight"][:16].bfloat16()}
    save_file(mixed, stranger / "model.safetensors", {"format": "pt"})
    with pytest.raises(
        UserError, match=r"layers\.1\.self_attn\.k_proj\.weight is torch\.bfloat16, but .* is torch\.float32"
    ):
        converted(stranger, tmp_path / "one_more")


def test_any_box_of_a_tensor_is_read_across_stored_chunks(tmp_path):
    """Boxes that begin and end anywhere, also across the border between two stored chunks."""
    table = torch.arange(7 * 5 * 3, dtype=torch.float32).view(7, 5, 3)

    def chunk(start, stop):
        box = Box.of_rows(start, stop, (5, 3))
        return writer.NewChunk("t", (7, 5, 3), box, torch.float32, lambda: table[start:stop].clone())

    files = writer.files([chunk(0, 3), chunk(3, 7)])
    writer.write_file(tmp_path, 0, files[0], lambda amount: None)
    writer.finish(tmp_path, files)
    opened = Checkpoint(tmp_path)
    for offset, shape in (
        ((2, 1, 0), (3, 2, 3)),
        ((0, 0, 1), (7, 5, 2)),
        ((4, 2, 1), (1, 3, 1)),
        ((0, 0, 0), (7, 5, 3)),
    ):
        slices = tuple(slice(begin, begin + length) for begin, length in zip(offset, shape, strict=True))
        assert torch.equal(opened.read("t", Box(offset, shape)), table[slices])
    assert opened.bytes_read == 4 * (18 + 70 + 3 + 105)
    with pytest.raises(UserError, match="has no box"):
        opened.read("t", Box((5, 0, 0), (3, 5, 3)))


class Malicious:
    """Unpickling it runs code: it makes a folder."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def test_metadata_is_read_without_running_code_and_damage_is_reported(model, tmp_path):
    checkpoint = converted(model, tmp_path / "checkpoint")
    path = checkpoint / ".metadata"
    whole = path.read_bytes()
    metadata = pickle.loads(whole)
    metadata.planner_data = Malicious(tmp_path / "made")
    path.write_bytes(pickle.dumps(metadata))
    assert Checkpoint(checkpoint).shapes and not (tmp_path / "made").exists()
    pickle.loads(path.read_bytes())
    assert (tmp_path / "made").exists()
    for damaged in (whole[: len(whole) // 2], b"", b"no pickle", pickle.dumps([1])):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match="is damaged or not a checkpoint's metadata"):
            Checkpoint(checkpoint)


def test_a_full_disk_is_reported_in_one_line_and_leaves_no_result(resizable, tmp_path):
    """On a file system of 64 KiB."""
    small = tmp_path / "small"
    small.mkdir()
    folders = [f"model={resizable}", f"tokenizer={resizable.parent}/tokenizer"]
    command = [sys.executable, "-m", "nemo_adapt", "resize-hf", *folders]
    mounted = (
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(small)], check=False).returncode == 0
    )
    if not mounted:
        pytest.skip("a small file system cannot be mounted here")
    try:
        done = subprocess.run([*command, f"out={small}/out"], capture_output=True, text=True, check=False)
        assert done.returncode == 2 and "the disk is full" in done.stderr and "Traceback" not in done.stderr
        assert not (small / "out").exists()
    finally:
        subprocess.run(["umount", str(small)], check=True)


@pytest.mark.parametrize("place", ["/proc/nowhere/out", "{folder}/file/out"])
@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no /proc, where nothing can be made")
def test_an_output_path_that_cannot_be_created_is_reported_in_one_line(resizable, tmp_path, monkeypatch, capsys, place):
    """A folder that cannot be written, and a file where a folder should be."""
    (tmp_path / "file").touch()
    out = place.format(folder=tmp_path)
    monkeypatch.setattr(
        sys, "argv", ["nemo-adapt", "resize-hf", f"model={resizable}", f"tokenizer={tmp_path}/tokenizer", f"out={out}"]
    )
    with pytest.raises(SystemExit, match="2"):
        cli.main()
    said = capsys.readouterr().err
    assert said.startswith(f"nemo-adapt: error: {Path(out).parent}") and said.count("\n") == 1
    assert said.endswith("; give another path, or fix this one\n")


def test_enospc_while_writing_weights_is_reported_in_one_line(resizable, tmp_path, monkeypatch, capsys):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(weights, "_write_at", full)
    words = ["resize-hf", f"model={resizable}", f"tokenizer={tmp_path}/tokenizer", f"out={tmp_path}/out"]
    monkeypatch.setattr(sys, "argv", ["nemo-adapt", *words])
    with pytest.raises(SystemExit, match="2"):
        cli.main()
    said = capsys.readouterr().err
    assert (
        said.startswith(f"nemo-adapt: error: the disk is full (at {tmp_path}/out.partial); free some")
        and said.count("\n") == 1
    )
    assert not (tmp_path / "out").exists()


def test_a_tokenizer_with_more_tokens_than_its_map_is_refused(resizable, tmp_path):
    """The model would have no rows for them."""
    save_tokenizer(tmp_path / "tokenizer", ["one"])
    with pytest.raises(UserError, match="has ids up to 258, but with its token map the model gets 257 rows"):
        offline.main([f"model={resizable}", f"tokenizer={tmp_path}/tokenizer", f"out={tmp_path}/out"])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("out", [".", ".."])
def test_a_result_needs_a_folder_with_a_name(resizable, tmp_path, monkeypatch, out):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(UserError, match="needs a folder of its own"):
        offline.main([f"model={resizable}", f"tokenizer={tmp_path}/tokenizer", f"out={out}"])


class LazyWeights:
    """Weights of a model that is not stored: each value is computed from its tensor's name, row and column."""

    def __init__(self, shapes):
        self.tensors = {name: StoredTensor(Path(name), torch.bfloat16, shape, 0) for name, shape in shapes.items()}

    def read(self, name, start, stop, out, transposed):
        out.copy_(values_of(name, torch.arange(start, stop), self.tensors[name].shape))


def values_of(name, rows, shape):
    columns = torch.arange(shape[1]) if len(shape) > 1 else torch.zeros(1)
    values = (zlib.crc32(name.encode()) % 251 + rows[:, None] * 3 + columns) % 256
    return values.to(torch.bfloat16).view(len(rows), *shape[1:])


def test_llama3_70b_rows_are_converted_to_their_places():
    """80 layers of 8,192 columns, 64 heads, 8 key-value heads: which rows are read, and where they go."""
    config = {
        "architectures": ["LlamaForCausalLM"], "num_hidden_layers": 80, "hidden_size": 8192, "num_attention_heads": 64,
        "num_key_value_heads": 8, "intermediate_size": 28672, "vocab_size": 128256, "rms_norm_eps": 1e-5,
    }  # fmt: skip
    shape = LLAMA.shape(config)
    table = LLAMA.entries(shape)
    weights = LazyWeights(hf_shapes(table, shape.layers))
    chunks = list(convert._chunks(weights, table, shape.layers, 64 << 20))
    files = writer.files(chunks)  # covers every tensor exactly once, or it raises
    assert sum(chunk.bytes for chunk in chunks) == 2 * 70_553_706_496  # the parameters of Llama-3 70B
    assert max(chunk.bytes for chunk in chunks) <= 64 << 20 and len(files) > 100
    attention = "model.layers.41.self_attn.{}_proj.weight"
    for chunk in chunks:
        if chunk.key.endswith("linear_qkv.weight") and chunk.box.offset[0] == 41:
            made, first = chunk.make()[0], chunk.box.offset[1]
            for at in range(0, len(made), 509):
                group, row = divmod(first + at, 10 * 128)  # eight query heads, a key, a value
                if row < 1024:
                    name, source = attention.format("q"), group * 1024 + row
                else:
                    name, source = attention.format("kv"[row >= 1152]), group * 128 + row % 128
                assert torch.equal(made[at], values_of(name, torch.tensor([source]), weights.tensors[name].shape)[0])


def test_a_tokenizer_larger_than_the_tables_is_refused(model, tmp_path):
    """Its last ids would have no row."""
    checkpoint = converted(model, tmp_path / "checkpoint")
    save_tokenizer(tmp_path / "other", ["one", "two"])
    words = [f"model={model}", f"tokenizer={tmp_path}/other", f"checkpoint={checkpoint}", f"out={tmp_path / 'out'}"]
    with pytest.raises(UserError, match=r"other has 26\d tokens, but only 256 rows of .*checkpoint \(which has 256\)"):
        export_command.main(words)
    assert not (tmp_path / "out").exists()


def test_the_command_exports_any_checkpoint(model, tmp_path, capsys):
    checkpoint, out = converted(model, tmp_path / "checkpoint"), tmp_path / "out"
    words = [f"model={model}", f"tokenizer={tmp_path}/tokenizer", f"out={out}"]
    export_command.main([f"checkpoint={checkpoint}", *words])
    assert not verify.compare(model, out).wrong and (out / "manifest.json").is_file()
    export_command.main([f"checkpoint={checkpoint}", *words])
    assert "was finished before" in capsys.readouterr().out
    with pytest.raises(UserError, match="no value for checkpoint: give"):
        export_command.main(words)
    with pytest.raises(UserError, match="is not a complete Megatron checkpoint"):
        export_command.main([f"checkpoint={tmp_path}/tokenizer", *words])


def test_a_checkpoint_with_more_rows_than_the_model_is_said(model, tmp_path, capsys):
    """As of an adapted model that is given with the folder of its base: new rows would be lost silently."""
    adapted = converted(make_llama(tmp_path / "adapted", TinyLlama(vocab=300)), tmp_path / "checkpoint")
    for name, folder in (("base", model), ("export", tmp_path / "adapted")):
        (tmp_path / name).mkdir()
        convert.build(Config(), {"model": [folder], "weights": [adapted]}, tmp_path / name)
        said = f"its tables have 300 rows, but {folder}/config.json says 256: the others are left out"
        assert (said in capsys.readouterr().out) is (name == "base")


def test_weights_that_cannot_be_converted_are_refused_before_the_first_stage(model, tmp_path):
    """The stages before it tokenize all text, which can take hours."""
    text = tmp_path / "text.txt"
    text.write_text("bir iki\n")
    config = Config()
    config.run.name, config.run.dir = "r", str(tmp_path / "runs")
    config.model.path = config.tokenizer.base = str(model)
    config.tokenizer.text = config.data.target = [str(text)]
    config.evaluate.texts, config.evaluate.target, config.train.seq_length = {"tr": str(text)}, "tr", 32
    steps = pipeline.run_steps(config)
    preflight.check_steps(config, steps)
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(UserError, match="is cut short"):
        preflight.check_steps(config, steps)


@pytest.mark.parametrize(
    "word",
    ["export.pad_vocab_to=64", "export.dir=elsewhere", "resize.padded_vocab_multiple=1", "resize.learned_lr=0.1"],
)
def test_resize_hf_refuses_settings_without_effect(resizable, tmp_path, word):
    """They are listed with those of the same section that it uses."""
    words = [f"model={resizable}", f"tokenizer={tmp_path}/tokenizer", f"out={tmp_path}/out"]
    with pytest.raises(UserError, match=rf"resize-hf: {word.partition('=')[0]} has no effect here: leave it out"):
        offline.main([*words, word])
