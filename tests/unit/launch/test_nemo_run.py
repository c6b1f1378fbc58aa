"""The job chain through NeMo-Run: its dry run. `make test-nemo-run` installs it separately and runs this."""

import io

import pytest
from helpers.launches import WORKDIR, config_of, jobs_of

from nemo_adapt.errors import UserError
from nemo_adapt.launch import nemo_run
from nemo_adapt.launch.chain import size_of
from nemo_adapt.launch.paths import LaunchPaths

WORDS = ["site=gpus", "site.account=ling", "launch.executor=nemo_run", "site.qos=high"]


@pytest.fixture(autouse=True)
def installed(monkeypatch):
    pytest.importorskip("nemo_run")
    monkeypatch.setattr("sys.stdin", io.StringIO())  # NeMo-Run's commands read it


def test_dry_run_has_the_options_of_slurm(tmp_path, capsys):
    config = config_of(*WORDS)
    jobs = list(jobs_of(config).values())
    with nemo_run.experiment(config, jobs, LaunchPaths(tmp_path / "x"), tmp_path / "kept", WORKDIR, "python") as made:
        made.dryrun()
    shown = capsys.readouterr().out
    for said in ("--account=ling", "--nodes=2", "--ntasks-per-node=8", "--gpus-per-node=8", "--qos=high"):
        assert said in shown
    assert "--signal=USR1@600" in shown and "--kill-on-invalid-dep=yes" in shown and "--requeue" in shown
    assert shown.count("TORCHX_MAX_RETRIES=1000") == 1 and shown.count("TORCHX_MAX_RETRIES=0") == 3
    assert shown.count("MASTER_ADDR=$head_node") == 1
    assert size_of(config).ranks == 16


def test_missing_account_is_a_user_error(tmp_path):
    config = config_of("site=gpus", "launch.executor=nemo_run")
    with pytest.raises(UserError, match=r"needs site\.account"):
        nemo_run.experiment(config, [], LaunchPaths(tmp_path), tmp_path, WORKDIR, "python").__enter__()


def test_folder_with_shell_metacharacters_is_refused(tmp_path):
    odd = tmp_path / "$(touch pwned)"
    with pytest.raises(UserError, match="does not quote folders for the shell"):
        nemo_run.experiment(config_of(*WORDS), [], LaunchPaths(odd), odd, WORKDIR, "python").__enter__()
