"""The settings of a run: one dataclass per section (its schema), and recipes (YAML), which only choose values.

A key that is not a field here is an error. ``MISSING`` fields have no default: a recipe or the command line sets them.
"""

from dataclasses import dataclass, field

from omegaconf import MISSING

from nemo_adapt.config.cluster import ClusterConfig, PlanConfig
from nemo_adapt.config.evaluation import EvaluateConfig
from nemo_adapt.config.launch import LaunchConfig, SiteConfig
from nemo_adapt.config.model import ConvertConfig, ExportConfig, ModelConfig, ParallelConfig
from nemo_adapt.config.resize import ProbeConfig, ResizeConfig
from nemo_adapt.config.study import StudyConfig
from nemo_adapt.config.text import AuxiliaryConfig, DataConfig, SetConfig, TokenizerConfig
from nemo_adapt.config.training import PhaseConfig, TrainConfig

__all__ = [
    "AuxiliaryConfig",
    "ClusterConfig",
    "Config",
    "ConvertConfig",
    "DataConfig",
    "EvaluateConfig",
    "ExportConfig",
    "LaunchConfig",
    "ModelConfig",
    "ParallelConfig",
    "PhaseConfig",
    "PlanConfig",
    "ProbeConfig",
    "ResizeConfig",
    "RunConfig",
    "SetConfig",
    "SiteConfig",
    "StudyConfig",
    "TokenizerConfig",
    "TrainConfig",
]


@dataclass
class RunConfig:
    name: str = MISSING
    """Name of the run; its folder is ``dir/name``."""
    dir: str = "runs"
    """Folder that holds the runs."""
    shared: str = ""
    """A folder in which runs share the results of stages: a run links to a result that another run has made with the
    same inputs and settings. With others, also more phases, a training begins anew. Empty: nothing is shared."""


@dataclass
class Config:
    run: RunConfig = field(default_factory=RunConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    data: DataConfig = field(default_factory=DataConfig)
    auxiliary: AuxiliaryConfig = field(default_factory=AuxiliaryConfig)
    convert: ConvertConfig = field(default_factory=ConvertConfig)
    resize: ResizeConfig = field(default_factory=ResizeConfig)
    probe: ProbeConfig = field(default_factory=ProbeConfig)
    parallel: ParallelConfig = field(default_factory=ParallelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    export: ExportConfig = field(default_factory=ExportConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    plan: PlanConfig = field(default_factory=PlanConfig)
    site: SiteConfig = field(default_factory=SiteConfig)
    launch: LaunchConfig = field(default_factory=LaunchConfig)
    study: StudyConfig = field(default_factory=StudyConfig)
    recipe: str = ""
    """Name of the recipe that this configuration was composed from (set by the command line)."""
