"""One YAML file is one experiment (`model`) or one study (`space`, `search`): strict, with dotted overrides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from experiments.compare_config import CompareConfig
from experiments.data_config import DataConfig
from experiments.optimizer_config import Count, OptimizerConfig
from experiments.pretrain_config import PretrainConfig
from experiments.remote import Place, place
from experiments.scaling_config import ScalingConfig
from experiments.search_config import FinalistsConfig, SearchConfig
from experiments.strict import Strict, checked, parse_yaml, read_text
from fusion.component import Architecture, UsageError, unknown

LEAST_DIM = 4


class TrainingConfig(OptimizerConfig):
    """The training loop: AdamW with a linear warm-up, early stopping on the tuning split.

    `batch_order` is a seed: runs with the same one see the same batches whatever their own seeds, and can be trained
    together; without one the order hangs on a run's own seed. `interaction_target` is the share of interacting pairs
    that predicted sets of drugs may have (docs/medication.md). `compile` is for GPUs and
    long runs, for each run compiles anew: `torch.compile`, by `reduce-overhead` with CUDA graphs. With several
    `devices` a batch is dealt out to as many GPUs, or processes where there is none.
    """

    patience: Count = 5
    metric: str | None = None
    batch_order: int | None = None
    compile: Literal["none", "default", "reduce-overhead"] = "none"
    devices: Annotated[int, Field(ge=1)] = 1
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    modality_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    unimodal_loss: Annotated[float, Field(ge=0)] = 0.0
    alignment: Annotated[float, Field(ge=0)] = 0.0
    balance: Literal["none", "ogm_ge", "info_reg", "gradient_blend"] = "none"
    balance_strength: Annotated[float, Field(gt=0)] = 0.5
    class_weights: bool = False
    focal_gamma: Annotated[float, Field(ge=0)] = 0.0
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    interaction_target: Annotated[float, Field(ge=0, lt=1)] | None = None
    interaction_gain: Annotated[float, Field(gt=0, le=1)] = 0.05
    interaction_weight: Annotated[float, Field(gt=0)] = 3.0
    average: Literal["none", "ema", "swa"] = "none"
    average_decay: Annotated[float, Field(gt=0, lt=1)] = 0.99


class TrackingConfig(Strict):
    """Where MLflow is: None means MLFLOW_TRACKING_URI or else `sqlite:///` in the runs folder."""

    uri: str | None = None
    experiment: str | None = None
    enabled: bool = True


class CardConfig(Strict):
    """What a model card is written with: `glossary` is a CSV of codes and what they mean in plain words."""

    glossary: Path | None = None


class ModelConfig(Strict):
    """One architecture: an encoder a modality, a fusion, a width, and a head: linear, or `molecules` of drugs."""

    encoders: Annotated[dict[str, str | dict[str, Any]], Field(min_length=1)]
    fusion: str | dict[str, Any] = "cross_attention"
    dim: Annotated[int, Field(ge=LEAST_DIM)] = 64
    head: str | dict[str, Any] = "linear"

    def architecture(self) -> Architecture:
        """Return the architecture this describes."""
        return Architecture.from_dict(self.model_dump())


class SpaceConfig(Strict):
    """What is searched. A list is a choice, {low, high, log} a range, a single value is pinned, as the head always."""

    encoders: Annotated[dict[str, Any], Field(min_length=1)]
    fusion: Any = ["early", "late", "cross_attention"]
    dim: Any = [32, 64]
    head: str | dict[str, Any] = "linear"
    training: dict[str, Any] = {}


class _Common(Strict):
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]
    seed: int = 0
    runs: Path = Path("runs")
    data: DataConfig
    training: TrainingConfig = TrainingConfig()
    compare: CompareConfig = CompareConfig()
    tracking: TrackingConfig = TrackingConfig()
    card: CardConfig = CardConfig()
    pretrain: PretrainConfig | None = None
    scaling: ScalingConfig | None = None


class ExperimentConfig(_Common):
    """One run of one architecture."""

    model: ModelConfig


class StudyConfig(_Common):
    """One search; its best trials are trained anew before anything is claimed of them."""

    space: SpaceConfig
    search: SearchConfig
    finalists: FinalistsConfig = FinalistsConfig()

    @model_validator(mode="after")
    def _stacked_share_batches(self) -> StudyConfig:
        if self.search.stack > 1 and self.training.batch_order is None:
            raise ValueError("search.stack trains trials on the same batches; give training.batch_order a seed, like 0")
        return self

    @property
    def folder(self) -> Path:
        """Where the study keeps its storage, checkpoints and reports."""
        return self.runs / self.name

    def checkpoint(self, root: int) -> Place:
        """Return where the checkpoint of a trial is, by the number of its first attempt."""
        shared = self.search.checkpoints
        folder = ("checkpoints",) if shared is None else (self.name,)
        return place(shared or str(self.folder), *folder, f"{root}.safetensors")


Config = ExperimentConfig | StudyConfig


def load_config(source: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read an experiment or a study from a YAML file or the name of a built-in one.

    Args:
        source: a path, or the name of a file in `experiments/configs` without its ending.
        overrides: `a.b.c=value` texts, the value in YAML.

    Raises:
        UsageError: the file is missing, is not YAML, or has a wrong key or type; the message has its path.
    """
    text, where = _read(source)
    data = parse_yaml(text, where)
    if not isinstance(data, dict):
        raise UsageError(f"{where}: expected a mapping at the top; got {type(data).__name__}")
    for override in overrides:
        _override(data, override)
    return parse_config(data, where)


def parse_config(data: Mapping[str, Any], where: str = "config") -> Config:
    """Check plain data as an experiment (it has `model`) or a study (it has `space`)."""
    kind: type[Config] = ExperimentConfig if "model" in data else StudyConfig
    return checked(kind, data, where)


def config_names() -> list[str]:
    """Return the names of the built-in configurations."""
    folder = resources.files("experiments") / "configs"
    return sorted(each.name.removesuffix(".yaml") for each in folder.iterdir() if each.name.endswith(".yaml"))


def _read(source: str | Path) -> tuple[str, str]:
    path = Path(source)
    if path.is_file():
        return read_text(path), str(path)
    if path.suffix in ("", ".yaml") and len(path.parts) == 1 and path.stem in config_names():
        return (resources.files("experiments") / "configs" / f"{path.stem}.yaml").read_text(encoding="utf-8"), path.stem
    if path.suffix in (".yaml", ".yml") or len(path.parts) > 1:
        raise UsageError(f"no such file: {path}")
    raise unknown("configuration", str(source), config_names())


def _override(data: dict[str, Any], text: str) -> None:
    path, separator, value = text.partition("=")
    if not separator:
        raise UsageError(f"an override is written key.path=value; got '{text}'")
    *parents, last = path.strip().split(".")
    for name in parents:
        data = data.setdefault(name, {})
        if not isinstance(data, dict):
            raise UsageError(f"override '{path}': '{name}' holds a value, not a mapping")
    data[last] = parse_yaml(value, f"override '{path}'")
