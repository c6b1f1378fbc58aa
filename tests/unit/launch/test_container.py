"""Container options for pyxis, as its source (0.24) reads them."""

from pathlib import Path

import pytest
from helpers.launches import WORKDIR, config_of, jobs_of, script_of

from nemo_adapt.errors import UserError
from nemo_adapt.launch import container, sbatch, submit
from nemo_adapt.launch.chain import size_of
from nemo_adapt.launch.paths import LaunchPaths


def options_of(job, *words, run=WORKDIR / "runs/turkish", workdir=WORKDIR):
    """Options of srun, by name."""
    config = config_of("site=container", *words)
    given = sbatch.srun_options(config, jobs_of(config)[job], size_of(config), LaunchPaths(run), workdir)
    return dict(word.removeprefix("--").split("=", 1) for word in given)


@pytest.mark.parametrize(
    ("image", "told"),
    [
        ("nemo.sqsh", "/home/user/adapt/nemo.sqsh"),  # pyxis would take the relative name for one in a registry
        ("./images/nemo", "/home/user/adapt/images/nemo"),
        ("/images/nemo.sqsh", "/images/nemo.sqsh"),
        ("nvcr.io#nvidia/nemo:26.02", "nvcr.io#nvidia/nemo:26.02"),
        ("docker://nvidia/nemo", "docker://nvidia/nemo"),
    ],
)
def test_image_paths_become_absolute_and_registry_names_stay(image, told):
    assert options_of("train", f"site.container.image='{image}'")["container-image"] == told


def test_folders_are_mounted_under_the_same_paths():
    given = options_of("train", "site.container.mounts=['/models:/models:ro']", run=Path("/scratch/runs/x"))
    mounts = "/home/user/adapt:/home/user/adapt,/scratch/runs:/scratch/runs,/models:/models:ro"
    assert given["container-mounts"] == mounts and given["container-workdir"] == "/home/user/adapt"


def test_variables_of_the_job_override_those_of_the_image():
    assert options_of("train")["container-env"] == "NCCL_DEBUG,OMP_NUM_THREADS,MASTER_ADDR,MASTER_PORT"
    assert (
        options_of("prepare", "++site.environment.OMP_NUM_THREADS='4'")["container-env"] == "NCCL_DEBUG,OMP_NUM_THREADS"
    )
    assert "container-env" not in options_of("prepare", "~site.environment.NCCL_DEBUG")


def test_venv_inside_a_container_is_called_by_path_and_not_activated():
    config = config_of("site=container", "site.venv=/envs/my env")
    assert submit.python_of(config) == "/envs/my env/bin/python"
    assert "activate" not in script_of(config, "train")
    outside = config_of("site=gpus", "site.venv=/envs/my env")
    assert submit.python_of(outside) == "python" and ". '/envs/my env'/bin/activate" in script_of(outside, "train")


@pytest.mark.parametrize(
    ("name", "says"),
    [("a:b", "colon"), ("a,b", "','"), ('a"b', "'\"'"), ("$(touch pwned)", r"'\$'"), ("`touch pwned`", "'`'")],
)
def test_folder_names_unsafe_for_pyxis_or_a_shell_are_refused(name, says):
    for given in ({"workdir": Path("/home") / name}, {"run": Path("/home") / name / "runs/x"}):
        with pytest.raises(UserError, match=f"cannot be mounted in a container: its name has .*{says}"):
            options_of("train", **given)


def test_folder_names_with_spaces_and_quotes_can_be_mounted():
    folder = Path("/home/it's a b;&é\\n*")
    assert (
        options_of("train", workdir=folder)["container-mounts"]
        == f"{folder}:{folder},/home/user/adapt/runs:/home/user/adapt/runs"
    )


@pytest.mark.parametrize(
    "mount", ["models:/models", "~/models:/models", ":/models", "/models:", "/a:/b,/c:/d", "/$x:/x"]
)
def test_invalid_mounts_are_refused(mount):
    with pytest.raises(UserError, match=r"is not /host:/inside or /host:/inside:ro|cannot be mounted"):
        options_of("train", f"site.container.mounts=['{mount}']")


@pytest.mark.parametrize("key", ["export.dir", "run.shared", "evaluate.cache"])
@pytest.mark.parametrize(
    ("place", "words", "is_kept"),
    [
        ("/out/x", [], False),
        ("../x", [], False),
        ("/home/user/adapt2", [], False),
        ("results/x", [], True),
        ("/home/user/adapt/x", [], True),
        ("/out/x", ["site.container.mounts=['/data/out:/out']"], True),
        ("/out/x", ["site.container.mounts=['/data/out:/out:rw','/out/x:/out/x']"], True),
        ("/out/x", ["site.srun=['--container-mounts=/a:/b,/data/out:/out']"], True),
        ("/data/out/x", ["site.container.mounts=['/data/out:/out']"], False),
        ("/out/x", ["site.container.mounts=['/data/out:/out:ro']"], False),
        ("/out/x", ["site.container.mounts=['/data/out:/out:ro+nosuid']"], False),
        ("/out/x", ["site.container.mounts=['tmpfs:/out']"], False),
        ("/out/x", ["site.container.image=''"], True),  # no container
    ],
)
def test_results_outside_the_mounts_are_refused(key, place, words, is_kept):
    """They would be lost with the container, after the whole training."""
    if is_kept:
        options_of("train", f"{key}={place}", *words)
        return
    says = rf"{key}={place}: /.* is in no folder that the jobs' container may write to"
    with pytest.raises(UserError, match=says):
        options_of("train", f"{key}={place}", *words)


def test_the_folder_above_an_exported_model_must_be_mounted():
    """The model is made beside its place; a mount point could not be replaced by it."""
    mount = "site.container.mounts=['/out/x:/out/x']"
    options_of("train", "evaluate.cache=/out/x", mount)
    with pytest.raises(
        UserError, match=r"export\.dir=/out/x: /out is in no folder .*: add it to site\.container\.mounts"
    ):
        options_of("train", "export.dir=/out/x", mount)
    options_of("train", "export.dir=/out/x", "site.container.mounts=['/out:/out']")


@pytest.mark.parametrize("name", ["runs", "runs/turkish"])
def test_where_a_link_to_a_run_leads_is_mounted(tmp_path, name):
    """As ``runs`` on a large disk: the link was mounted, and not its folder."""
    home, disk = tmp_path / "home", tmp_path / "disk"
    (disk / "turkish").mkdir(parents=True)
    (home / name).parent.mkdir(parents=True)
    (home / name).symlink_to(disk if name == "runs" else disk / "turkish")
    given = options_of("train", run=home / "runs/turkish", workdir=home)
    assert given["container-mounts"] == f"{home}:{home},{disk}:{disk}"
    outside = options_of("train", run=home / "runs/turkish", workdir=tmp_path / "work")["container-mounts"].split(",")
    assert outside[1] == f"{home}/runs:{home}/runs", "if this is a link, its folder is mounted in its place"
    assert outside[2:] == ([] if name == "runs" else [f"{disk}:{disk}"])


def test_results_behind_a_link_to_what_is_not_mounted_are_refused(tmp_path):
    home, disk = tmp_path / "home", tmp_path / "disk"
    home.mkdir()
    disk.mkdir()
    (home / "models").symlink_to(disk)
    (home / "here").symlink_to(home)
    for key, place in (("export.dir", "models/x"), ("run.shared", "models"), ("evaluate.cache", "models/cache")):
        with pytest.raises(UserError, match=rf"{key}={place}: {disk}\S* is in no folder that the jobs' container may"):
            options_of("train", f"{key}={place}", workdir=home, run=home / "runs/x")
        options_of(
            "train",
            f"{key}={place}",
            f"site.container.mounts=['{disk}:{disk}']",
            workdir=home,
            run=home / "runs/x",
        )
        options_of("train", f"{key}={place.replace('models', 'here')}", workdir=home, run=home / "runs/x")


def test_an_export_over_other_files_is_refused_where_its_folder_is_mounted_from(tmp_path):
    (tmp_path / "x").mkdir()
    words = ("export.dir=/out/x", f"site.container.mounts=['{tmp_path}:/out']")
    options_of("train", *words)
    (tmp_path / "x/thesis.tex").touch()
    with pytest.raises(UserError, match=f"{tmp_path}/x exists and is not a result of nemo-adapt export"):
        options_of("train", *words)


def test_required_paths_are_the_image_and_the_sources_of_mounts():
    words = "site.container.mounts=['/models:/models:ro','tmpfs:/scratch','/text']"
    config = config_of("site=container", "site.container.image=./nemo.sqsh", words)
    assert container.required_paths(config, WORKDIR) == ["/home/user/adapt/nemo.sqsh", "/models", "/text"]
    assert container.required_paths(config_of("site=gpus", words), WORKDIR) == []
