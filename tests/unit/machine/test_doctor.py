"""The doctor's report of a machine without GPU and Slurm, of one with everything, and of a broken one."""

import json
import sys

import pytest
import torch

from nemo_adapt import devices
from nemo_adapt.errors import UserError
from nemo_adapt.machine import doctor


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """``programs(sbatch="echo slurm 23")`` puts programs on the path, and nothing else is on it."""

    def put(**scripts):
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        for name, script in scripts.items():
            (folder / name.replace("_", "-")).write_text(f"#!/bin/sh\n{script}\n")
            (folder / name.replace("_", "-")).chmod(0o755)
        monkeypatch.setenv("PATH", str(folder))

    return put


def table(found):
    return {name: "\n".join(lines) for name, lines in doctor.report_lines(found)}


def test_report_of_a_machine_without_gpu_and_slurm(programs, monkeypatch):
    programs()
    monkeypatch.setattr(devices, "on_gpu", lambda: False)
    found = doctor.report()
    # Builds for GPUs call themselves "2.13.0+cu130", and their package "2.13.0".
    assert found["packages"]["needed"]["torch"] in (torch.__version__, torch.__version__.partition("+cu")[0])
    assert set(found["slurm"].values()) == {None}
    said = table(found)
    assert said["Slurm"] == "not found (no sbatch)" and "no GPU" in said["devices"]
    assert "layers: megatron-core's with torch's attention" in said["uses"] and "process groups: gloo" in said["uses"]
    assert " GiB free in this folder" in said["disk"] and "/dev/shm" in said["disk"]


def test_report_of_a_slurm_node_with_gpus_and_transformer_engine(programs, monkeypatch):
    programs(
        sbatch="echo slurm 22.05.8", sinfo="echo 'gpu* up 2 nodes idle gpu:8'; echo 'cpu up 1 nodes idle (null)'",
        nvidia_smi="echo 570.1; echo 570.1", enroot="echo 3.4.1",
    )  # fmt: skip
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    facts = {
        "gpus": [{"name": "A GPU", "memory_mib": 81920}] * 2,
        "versions": {"cuda": "13.0", "cudnn": 91900, "nccl": "2.28.9"},
        "backends": ["gloo", "nccl"], "backend": "nccl",
    }  # fmt: skip
    monkeypatch.setattr(devices, "facts", lambda: facts)
    monkeypatch.setattr(devices, "has_transformer_engine", lambda: True)
    monkeypatch.setattr(devices, "on_gpu", lambda: True)
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: name)
    said = table(doctor.report())
    assert said["Slurm"].splitlines() == [
        *("slurm 22.05.8", "gpu* up 2 nodes idle gpu:8", "cpu up 1 nodes idle (null)", "in job 7", "enroot 3.4.1")
    ]
    assert said["devices"].count("A GPU, 80 GiB") == 2 and "driver 570.1, cuda 13.0" in said["devices"]
    assert (
        "layers: Transformer Engine's" in said["uses"] and "process groups: nccl (also available: gloo)" in said["uses"]
    )
    assert "optimizer: Transformer Engine's fused Adam" in said["uses"]


def test_apex_counts_as_installed_only_with_its_kernels(monkeypatch):
    there = {"apex", "amp_C"}
    monkeypatch.setattr(devices.importlib.util, "find_spec", lambda name: name if name in there else None)
    for on_gpu, said in (True, "apex's fused Adam"), (False, "torch's fused AdamW (there is no GPU for apex's)"):
        monkeypatch.setattr(devices, "on_gpu", lambda on_gpu=on_gpu: on_gpu)
        assert devices.has_apex() and f"optimizer: {said}" in table(doctor.report())["uses"]
    there.remove("amp_C")
    assert not devices.has_apex() and "no apex" in table(doctor.report())["uses"]


def test_a_broken_torch_or_slurm_is_reported(programs, monkeypatch, capsys):
    programs(sinfo="sleep 60", sbatch="exit 1")
    monkeypatch.setattr(doctor, "PATIENCE", 0.1)
    monkeypatch.setitem(sys.modules, "nemo_adapt.devices", None)
    monkeypatch.delattr("nemo_adapt.devices")
    doctor.main([])
    said = capsys.readouterr().out
    assert "torch cannot be used: " in said and "sbatch does not work: no slurm.conf?" in said


def test_report_as_json(tmp_path, capsys):
    doctor.main([f"json={tmp_path / 'doctor.json'}"])
    written = json.loads((tmp_path / "doctor.json").read_text())
    capsys.readouterr()
    doctor.main(["json=-"])
    assert json.loads(capsys.readouterr().out).keys() == written.keys()
    with pytest.raises(UserError, match="does not exist"):
        doctor.main(["json=nowhere/doctor.json"])
    with pytest.raises(UserError, match="Did you mean 'json'"):
        doctor.main(["jsn=x"])


def test_a_folder_in_place_of_the_json_file_is_named(programs, tmp_path):
    with pytest.raises(UserError, match=f"json={tmp_path} cannot be written: Is a directory"):
        doctor.main([f"json={tmp_path}"])
