"""One YAML file is one experiment (`model`) or one study (`space`, `search`): strict, with dotted overrides."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator

from experiments.compare_config import CompareConfig
from experiments.data_config import DataConfig
from experiments.pretrain_config import PretrainConfig
from experiments.remote import Place, place
from experiments.search_config import FinalistsConfig, SearchConfig
from experiments.strict import Strict
from fusion.component import Architecture, UsageError, masked, unknown

LEAST_DIM = 4
_MOST_VALUES = 100_000


class TrainingConfig(Strict):
    """The training loop: AdamW with a linear warm-up, early stopping on the tuning split.

    `batch_order` is a seed: runs with the same one see the same batches whatever their own seeds, and can be trained
    together; without one the order hangs on a run's own seed. `compile` is for GPUs and
    long runs, for each run compiles anew: `torch.compile`, by `reduce-overhead` with CUDA graphs. With several
    `devices` a batch is dealt out to as many GPUs, or processes where there is none.
    """

    epochs: Annotated[int, Field(ge=1)] = 27
    batch_size: Annotated[int, Field(ge=1)] = 64
    lr: Annotated[float, Field(gt=0)] = 1e-3
    warmup_steps: Annotated[int, Field(ge=0)] = 100
    weight_decay: Annotated[float, Field(ge=0)] = 1e-2
    clip: Annotated[float, Field(gt=0)] = 1.0
    patience: Annotated[int, Field(ge=1)] = 5
    metric: str | None = None
    deterministic: bool = True
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
    """One architecture: an encoder a modality, a fusion, a width."""

    encoders: Annotated[dict[str, str | dict[str, Any]], Field(min_length=1)]
    fusion: str | dict[str, Any] = "cross_attention"
    dim: Annotated[int, Field(ge=LEAST_DIM)] = 64

    def architecture(self) -> Architecture:
        """Return the architecture this describes."""
        return Architecture.from_dict(self.model_dump())


class SpaceConfig(Strict):
    """What is searched. A list is a choice, {low, high, log} a range, a single value is pinned."""

    encoders: Annotated[dict[str, Any], Field(min_length=1)]
    fusion: Any = ["early", "late", "cross_attention"]
    dim: Any = [32, 64]
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


class _Loader(yaml.SafeLoader):
    """YAML 1.1 reads 1e-3 as text; here it is a number, as people mean it."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:\d[\d_]*)(?:\.[\d_]*)?[eE][-+]?\d+$|^[-+]?\.\d[\d_]*[eE][-+]?\d+$"),
    list("-+0123456789."),
)


def load_config(source: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read an experiment or a study from a YAML file or the name of a built-in one.

    Args:
        source: a path, or the name of a file in `experiments/configs` without its ending.
        overrides: `a.b.c=value` texts, the value in YAML.

    Raises:
        UsageError: the file is missing, is not YAML, or has a wrong key or type; the message has its path.
    """
    text, where = _read(source)
    data = _parsed(text, where)
    if not isinstance(data, dict):
        raise UsageError(f"{where}: expected a mapping at the top; got {type(data).__name__}")
    for override in overrides:
        _override(data, override)
    return parse_config(data, where)


def parse_config(data: Mapping[str, Any], where: str = "config") -> Config:
    """Check plain data as an experiment (it has `model`) or a study (it has `space`)."""
    kind: type[Config] = ExperimentConfig if "model" in data else StudyConfig
    try:
        return kind.model_validate(dict(data))
    except ValidationError as error:
        raise UsageError(_one_line(error, kind, where)) from None


def config_names() -> list[str]:
    """Return the names of the built-in configurations."""
    folder = resources.files("experiments") / "configs"
    return sorted(each.name.removesuffix(".yaml") for each in folder.iterdir() if each.name.endswith(".yaml"))


def _read(source: str | Path) -> tuple[str, str]:
    path = Path(source)
    if path.is_file():
        try:
            return path.read_text(encoding="utf-8"), str(path)
        except ValueError:
            raise UsageError(f"{path}: not readable as YAML: it is no UTF-8 text") from None
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
    data[last] = _parsed(value, f"override '{path}'")


def _parsed(text: str, where: str) -> Any:
    """Read YAML that is as large as it looks.

    Raises:
        UsageError: it is no YAML, holds itself, or repeats a part so often that it would fill the memory.
    """
    try:
        data = yaml.load(text, _Loader)
        size = _size(data, {})
    except yaml.YAMLError as error:
        raise UsageError(f"{where}: not readable as YAML: {' '.join(str(error).split())[:300]}") from None
    except ValueError as error:  # of a date or number that is none
        raise UsageError(f"{where}: not readable as YAML: {error}") from None
    except RecursionError:
        raise UsageError(f"{where}: not readable as YAML: nested too deeply, or a part holds itself") from None
    if size > _MOST_VALUES:
        raise UsageError(f"{where}: holds {size:,} values where aliases are written out, at most {_MOST_VALUES:,} may")
    return data


def _size(data: Any, known: dict[int, int]) -> int:
    """Count the values of a tree; what is aliased counts each time."""
    if not isinstance(data, dict | list):
        return 1
    if id(data) not in known:
        parts = [*data.keys(), *data.values()] if isinstance(data, dict) else data
        known[id(data)] = 1 + sum(_size(each, known) for each in parts)
    return known[id(data)]


def _one_line(error: ValidationError, kind: type[BaseModel], where: str) -> str:
    first = error.errors()[0]
    path = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return str(unknown("key", path, _siblings(kind, first["loc"]), where))
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "missing":
        return f"{where}: missing key '{path}'"
    return f"{where}: {path + ': ' if path else ''}{message}; got {_short(first['input'])}"


def _short(value: Any) -> str:
    text = masked(repr(value))  # before it is cut
    return text if len(text) <= 80 else text[:77] + "..."


def _siblings(kind: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    """Return the full dotted paths of the keys that are allowed where an unknown one was found."""
    model: Any = kind
    for part in loc[:-1]:
        annotation = model.model_fields[str(part)].annotation
        options = [annotation, *getattr(annotation, "__args__", ())]
        model = next((each for each in options if isinstance(each, type) and issubclass(each, BaseModel)), None)
        if model is None:
            return []
    prefix = "".join(f"{part}." for part in loc[:-1])
    return [prefix + name for name in model.model_fields]
