"""The jobs of a run, their sizes, and layouts that do not fit the site."""

import pytest
from helpers.launches import SETTINGS, config_of, jobs_of

from nemo_adapt.config import recipes
from nemo_adapt.errors import UserError
from nemo_adapt.launch.chain import Kind, Size, divided_groups, size_of, with_dp_of_jobs


def test_run_becomes_prepare_train_export_and_evaluate_jobs():
    jobs = jobs_of(config_of("site=gpus"))
    assert list(jobs) == ["prepare", "train", "export", "evaluate"]
    assert jobs["prepare"].stages == ("tokenizer", "data", "convert")
    assert [job.kind for job in jobs.values()] == [Kind.CPU, Kind.RANKS, Kind.CPU, Kind.GPU]
    assert jobs["train"].result == "train"


def test_probe_is_a_separate_job_on_ranks():
    probed = config_of("site=gpus", "resize.input=probed", "evaluate.target=tr", "probe.strategies=[mean,focus]")
    jobs = jobs_of(probed)
    assert list(jobs) == ["prepare", "probe", "train", "export", "evaluate"]
    assert jobs["prepare"].stages == ("tokenizer", "data", "auxiliary", "convert")
    assert jobs["probe"].kind is Kind.RANKS and jobs["probe"].result == "probe"


@pytest.mark.parametrize(
    ("words", "size", "copies"),
    [
        (["site=gpus"], Size(2, 8, 8), 2),  # tp=8 x dp=2
        (["site=gpus", "launch.nodes=4"], Size(4, 8, 8), 4),
        (["cluster=h100_x64"], Size(8, 8, 8), 8),
        (["cluster=h100_x64", "launch.nodes=3", "train.global_batch=36"], Size(3, 8, 8), 3),
        (["site=gpus", "parallel.tp=2", "parallel.dp=1"], Size(1, 2, 2, is_whole=False), 1),
        (["site=cpu", "parallel.tp=2", "parallel.dp=2"], Size(2, 2, 0), 2),
        (["site=gpus", "site.ranks_per_node=4", "parallel.dp=4"], Size(8, 4, 4, is_whole=False), 4),
        (["site=gpus", "parallel.tp=4", "parallel.dp=3"], Size(3, 4, 4, is_whole=False), 3),  # not 2 x 6
        (["site=gpus", "parallel.tp=2", "parallel.cp=2", "parallel.dp=3"], Size(3, 4, 4, is_whole=False), 3),
        (["site=gpus", "parallel.tp=4", "parallel.pp=3", "parallel.dp=2"], Size(3, 8, 8), 2),
        (["site=gpus", "parallel.tp=4", "parallel.dp=3", "site.nodes=2"], Size(2, 6, 6, is_whole=False), 3),
        (["site=gpus", "parallel.tp=16", "parallel.dp=3"], Size(6, 8, 8), 3),  # does not fit a node
    ],
)
def test_job_size_and_dp_follow_from_layout_and_site(words, size, copies):
    config = config_of(*words)
    assert size_of(config) == size and config.parallel.dp == copies


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "how many ranks share a node?"),
        (["site=gpus", "site.nodes=1"], "is 16 ranks, 2 nodes, but the site has 1 nodes of 8"),
        (["site=gpus", "site.nodes=2", "launch.nodes=3"], "launch.nodes=3, but the site has 2 nodes"),
        (["cluster=h100_x8", "launch.nodes=2"], "launch.nodes=2, but the site has 1 nodes"),
        (["site=gpus", "parallel.tp=3", "parallel.dp=3"], "is 9 ranks, which do not divide evenly over 2 nodes"),
        (["site=gpus", "site.ranks_per_node=9"], "site.ranks_per_node=9, but a node has 8 GPUs"),
        (["cluster=h100_x64", "site.ranks_per_node=9"], "site.ranks_per_node=9, but a node has 8 GPUs"),
        (["site=gpus", "parallel.tp=6", "launch.nodes=1"], "no multiple of parallel.tp x pp x cp = 6"),
    ],
)
def test_layouts_that_do_not_fit_raise_user_errors(words, says):
    config = recipes.load("blank", ["run.name=x", *SETTINGS, *words])
    with pytest.raises(UserError, match=says) as error:
        with_dp_of_jobs(config)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("words", "note"),
    [
        (["parallel.tp=4", "parallel.dp=3"], ""),
        (
            ["parallel.tp=4", "parallel.dp=3", "site.nodes=2"],
            "2 nodes of 6 ranks divide groups of parallel.tp x cp = 4",
        ),
        (["parallel.tp=4", "site.ranks_per_node=6", "launch.nodes=2"], "2 nodes of 6 ranks divide groups"),
        (["parallel.tp=2", "site.ranks_per_node=6", "launch.nodes=2"], ""),
        (["parallel.tp=4", "parallel.dp=1"], ""),
        (["parallel.tp=16"], ""),  # it fits no node
    ],
)
def test_groups_that_are_divided_between_nodes_are_noted(words, note):
    config = config_of("site=gpus", *words)
    said = divided_groups(config, size_of(config))
    assert note in said and bool(note) == bool(said)
