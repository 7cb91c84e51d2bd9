"""What a configuration says about its study: space, storage, what is recorded about it, and its best trials."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any, Literal

import optuna
import yaml
from optuna.trial import FrozenTrial
from pydantic import ValidationError

from encoders import ENCODERS
from encoders.heads import HEADS
from encoders.preprocessor import Preparation, preparation
from experiments.config import LEAST_DIM, Config, StudyConfig, TrainingConfig, parse_config
from experiments.costs import check_objectives, higher_is_better
from experiments.data.shares import Shares
from experiments.data.store import Store
from experiments.metrics import METRICS
from experiments.pretraining.use import contents
from experiments.tasks.interactions import interactions_fingerprint
from experiments.whole import whole_file
from experiments.workspace import git_commit
from fusion import FUSIONS, UsageError
from fusion.component import find, masked
from search.objectives import candidates, picked
from search.samplers import check_sampler
from search.settings import ends
from search.space import Candidate, Space
from search.storage import open_storage, sqlite_url, without_password
from search.study import StudySpec

_NUMBERS = "lr weight_decay clip layer_decay modality_dropout unimodal_loss alignment balance_strength focal_gamma "
_NUMBERS += "interaction_target interaction_gain interaction_weight"
SEARCHED: dict[str, type] = dict.fromkeys([*_NUMBERS.split(), "label_smoothing", "average_decay"], float)
SEARCHED |= {"batch_size": int, "patience": int, "warmup_steps": int, "class_weights": bool, "decay": bool}
SEARCHED |= {"balance": str, "average": str}
NEEDS = {"balance_strength": ("balance", ("ogm_ge", "info_reg")), "average_decay": ("average", ("ema",))}


def study_space(config: StudyConfig) -> Space:
    """Read the space of a study.

    Raises:
        UsageError: an unknown name, a range that does not fit its type, or a training setting that no run may have.
    """
    space = Space.from_dict(config.space.model_dump(), ENCODERS, FUSIONS, SEARCHED, NEEDS)
    find(HEADS, space.head, "space.head")
    for dim in ends(space.dim):
        if dim < LEAST_DIM:
            raise UsageError(f"space.dim must be at least {LEAST_DIM}; got {dim}")
    for name, setting in space.training.items():
        for value in ends(setting):
            _check_training(config.training, name, value)
    check_sampler(config.search.sampler, space)
    study_shares(config)
    check_objectives(config.search.objectives, config.search.limits, list(METRICS), list(space.encoders))
    return space


def study_shares(config: StudyConfig) -> Shares | None:
    """Return from which share of the patients the first epochs of each trial learn, None where it is all.

    Raises:
        UsageError: no epoch is left that learns from all.
    """
    search = config.search
    rungs = [search.first_rung * search.reduction**place for place in range(len(search.fractions))]
    if not rungs:
        return None
    if rungs[-1] >= config.training.epochs:
        raise UsageError(
            f"search.fractions: the last of {len(rungs)} ends with epoch {rungs[-1]}, and training.epochs "
            f"({config.training.epochs}) leaves none with all patients"
        )
    return Shares(tuple(zip(rungs, search.fractions, strict=True)), config.seed)


def _check_training(base: TrainingConfig, name: str, value: Any) -> None:
    try:
        TrainingConfig.model_validate({**base.model_dump(), name: value})
    except ValidationError as error:
        raise UsageError(f"space.training.{name}: {error.errors()[0]['msg']}; got {value}") from None


def worker_space(settings: Mapping[str, Any]) -> Space:
    """Read the space in a worker process."""
    config = parse_config(settings)
    assert isinstance(config, StudyConfig)
    return study_space(config)


def study_spec(config: StudyConfig) -> StudySpec:
    """Return what workers need to take part."""
    search = config.search
    url = search.storage or sqlite_url(config.folder / "study.db")
    metric = config.training.metric or _default_metric(config)
    return StudySpec(
        name=config.name,
        storage=url,
        direction=_direction(metric, metric),
        seed=config.seed,
        more=tuple(_direction(name, metric) for name in search.objectives),
        sampler=search.sampler,
        group=search.group,
        startup_trials=search.startup_trials,
        pruner=search.pruner,
        first_rung=search.first_rung,
        reduction=search.reduction,
        epochs=config.training.epochs,
        trials=search.trials,
        stack=search.stack,
    )


def _direction(objective: str, metric: str) -> Literal["maximize", "minimize"]:
    return "maximize" if higher_is_better(objective, metric) else "minimize"


def _default_metric(config: StudyConfig) -> str:
    from experiments.data.cohort import label_kind
    from experiments.data.folder import open_dataset
    from experiments.metrics import default_metric

    kind = config.data.task or label_kind(open_dataset(config.data.folder), config.data.labels)
    return default_metric(kind).name


def load_study(config: StudyConfig) -> optuna.Study:
    """Open the study of a configuration for reading.

    Raises:
        UsageError: it was never started.
    """
    url = config.search.storage
    if url is None:
        path = config.folder / "study.db"
        if not path.is_file():
            raise UsageError(f"study '{config.name}' was not started yet; run: ehrfusion search {config.name}")
        url = sqlite_url(path)
    try:
        return optuna.load_study(study_name=config.name, storage=open_storage(url))
    except KeyError:
        raise UsageError(f"study '{config.name}' was not started yet; run: ehrfusion search {config.name}") from None


def preparations_of(space: Space, config: StudyConfig) -> list[Preparation]:
    """Return every way in which the space may want its records prepared."""
    return [
        preparation(ENCODERS[modality], modality, spec, config.data.preprocess.get(modality))
        for modality in space.encoders
        for spec in space.specs(modality)
    ]


def finalists(
    study: optuna.Study, top: int | None = None, *, rule: str = "best"
) -> list[tuple[FrozenTrial, Candidate]]:
    """Return complete trials within the limits with different candidates, the best first; all of them without `top`.

    Args:
        rule: how to order them, see `search.objectives.picked`.

    Raises:
        UsageError: no such rule, or it leaves none.
    """
    names = study.user_attrs.get("objectives", ())
    trials = candidates(study) if rule == "best" else picked(study, names, rule)
    found: dict[str, tuple[FrozenTrial, Candidate]] = {}
    for trial in trials:
        candidate = Candidate.from_dict(trial.user_attrs)
        found.setdefault(candidate.key, (trial, candidate))
    return list(found.values())[:top]


def study_attributes(config: StudyConfig, space: Space, store: Store, metric: str) -> dict[str, Any]:
    """Return what is recorded about a study when it is created; no password is among it."""
    return {
        "study_key": f"{config.name}/{os.urandom(6).hex()}",
        "space": json.dumps(space.to_dict(), sort_keys=True),
        "space_fingerprint": space.fingerprint,
        "data_fingerprint": store.data_fingerprint,
        "split_fingerprint": store.cohort.split_fingerprint,
        "git_commit": git_commit(),
        "cohort": store.cohort.counts(),
        "flow": store.dataset.flow().get(config.data.labels, []),
        "metric": metric,
        "objectives": [metric, *config.search.objectives],
        "config": public_settings(config),
        "settings": json.dumps(_decisive(config, space, store), sort_keys=True),
        "spent_seconds": 0.0,
    }


def public_settings(config: Config) -> dict[str, Any]:
    """Return the settings as plain data without the passwords that addresses hold."""
    settings = config.model_dump(mode="json")
    if isinstance(config, StudyConfig) and config.search.storage is not None:
        settings["search"]["storage"] = without_password(config.search.storage)
    if config.tracking.uri is not None:
        settings["tracking"]["uri"] = masked(config.tracking.uri)
    return settings


def _decisive(config: StudyConfig, space: Space, store: Store) -> dict[str, Any]:
    """Return the settings under which all trials of one study must have run to be comparable."""
    data = config.model_dump(mode="json", include={"training", "data", "seed"}, exclude={"training": {"devices"}})
    data["data"] = {name: data["data"][name] for name in ("labels", "window_days", "bad_images", "preprocess")}
    shares = study_shares(config)
    artefacts = contents(spec for modality in space.encoders for spec in space.specs(modality))
    data |= {"artefacts": artefacts} if artefacts else {}
    if config.training.interaction_target is not None or "interaction_target" in space.training:
        data["interactions"] = interactions_fingerprint(store.dataset, config.data.labels)
    return data | ({"shares": shares.steps} if shares is not None else {})


def save_config(config: StudyConfig) -> None:
    """Keep the settings the study runs with, so that other commands need only its name."""
    text = yaml.safe_dump(config.model_dump(mode="json", exclude_none=True), sort_keys=False)
    with whole_file(config.folder / "study.yaml") as temporary:
        temporary.touch(mode=0o600)  # an address may hold a password
        temporary.write_text(text, encoding="utf-8")
