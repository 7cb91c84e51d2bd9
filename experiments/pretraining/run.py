"""One pre-training run: the train split's records in, encoders as artefacts out; resumable at every epoch."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np
import torch

from encoders.artefact import ABOUT
from encoders.preprocessor import Preparation
from experiments.aim import Aim
from experiments.checkpoint import remove_checkpoint
from experiments.config import Config, TrainingConfig
from experiments.data.store import Store
from experiments.device import move, pick_device, seed_everything
from experiments.evaluate import precision
from experiments.feeding import build_model, check_architecture, preparations, sources
from experiments.loop import NotFinite, Rows, Run
from experiments.metrics import Metric
from experiments.optimizer import layer_depth
from experiments.pretrain_config import PretrainConfig
from experiments.pretraining.artefact import write_artefacts
from experiments.pretraining.objectives import Objectives
from experiments.pretraining.retrieval import Recall, recalls
from experiments.strategies import Strategies
from fusion import Architecture, FusionModel, Spec, UsageError

LOSS = Metric("pretraining_loss", lambda _target, prediction, _weight: float(np.mean(prediction)), False, ())
_FEW = 10  # patients below which all learn and all judge
_MASKS = 70_101  # seeds what is hidden when an epoch is judged: the same every time


@dataclass(frozen=True)
class Pretrained:
    """What a run came to; `recalls` are those of contrastive pairs among the patients that judged."""

    folder: Path
    fingerprints: Mapping[str, str]
    loss: float
    best_epoch: int
    epochs: int
    patients: int
    history: list[dict[str, float]]
    seconds: float
    recalls: Mapping[str, Recall] = field(default_factory=dict)


def pretrain(
    config: Config,
    store: Store,
    *,
    on_epoch: Callable[[int, dict[str, float]], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Pretrained:
    """Pre-train the encoders of a configuration on the patients of its train split and write them.

    A share of these patients judges the epochs; no label is read, and neither are the tuning and held-out splits. After
    an interruption the same call goes on after the last whole epoch.

    Raises:
        UsageError: there is no section `pretrain`, it asks for what cannot be, or no patient has what it learns from.
        NotFinite: the loss became NaN or infinite.
        Stopped: `should_stop` said so.
    """
    settings = check_pretrain(config)
    architecture = architecture_of(settings)
    plans = preparations(architecture, config.data.preprocess)
    store.prepare(list(plans.values()))
    _check_something(store, plans)
    key = run_key(config, store, plans)
    checkpoint = config.runs / config.name / "pretraining" / f"{key}.safetensors"
    run, objectives = begin(config, settings, store, plans, architecture)
    run.resume(checkpoint)
    run.loop(on_epoch, should_stop, checkpoint)
    state, folder = run.state, config.runs / config.name / settings.folder
    run.model.load_state_dict(state.best, strict=False)
    best = state.history[state.best_epoch - 1]
    found = {pair: Recall(best[name], int(best[f"{name}_patients"])) for pair, name in objectives.retrieved().items()}
    learned = {
        "key": key,
        "objectives": list(settings.objectives),
        "settings": settings.model_dump(mode="json"),
        "seed": config.seed,
        "epochs": state.epoch,
        "best_epoch": state.best_epoch,
        "loss": -state.best_score,
    }
    prints = write_artefacts(folder, run.model, architecture, plans, store, learned)
    remove_checkpoint(checkpoint)
    patients = len(np.unique(store.cohort.subject_ids[store.cohort.rows("train")]))
    figures = (-state.best_score, state.best_epoch, state.epoch, patients, state.history, state.seconds)
    return Pretrained(folder, prints, *figures, found)


def check_pretrain(config: Config) -> PretrainConfig:
    """Return the section `pretrain` of a configuration.

    Raises:
        UsageError: there is none, or what it asks for cannot be.
    """
    settings = config.pretrain
    if settings is None:
        raise UsageError(f"'{config.name}' has no section 'pretrain'; write pretrain: {{encoders: {{codes: ...}}}}")
    if (config.compare.folds or 1) > 1:
        raise UsageError(
            f"compare.folds is {config.compare.folds}: every patient is held out once, so that no patient may be "
            "pre-trained on; write compare: {folds: 1}"
        )
    architecture = architecture_of(settings)
    for modality, spec in architecture.encoders.items():
        if spec.name == "artefact":
            raise UsageError(f"pretrain.encoders.{modality}: an artefact is pre-trained already; list all objectives")
    check_architecture(architecture)
    return settings


def architecture_of(settings: PretrainConfig) -> Architecture:
    """Return the encoders that are pre-trained; the fusion is there for the network to be whole, and learns nothing."""
    return Architecture({name: Spec.parse(each) for name, each in settings.encoders.items()}, Spec("sum"), settings.dim)


def run_key(config: Config, store: Store, plans: Mapping[str, Preparation]) -> str:
    """Name all that a run depends on, so that a checkpoint or an artefact of another is not taken for its own."""
    settings = check_pretrain(config).model_dump(mode="json", exclude={"folder"})
    parts = [settings, config.seed, {name: store.fingerprint(plan) for name, plan in sorted(plans.items())}]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def finished(config: Config, store: Store) -> Path | None:
    """Return the folder of the artefacts where this very run has been done before."""
    settings = check_pretrain(config)
    plans = preparations(architecture_of(settings), config.data.preprocess)
    folder = config.runs / config.name / settings.folder
    files = [folder / modality / ABOUT for modality in settings.encoders]
    if not all(each.is_file() for each in files):
        return None
    try:
        keys = {json.loads(each.read_text(encoding="utf-8"))["key"] for each in files}
    except (ValueError, KeyError, TypeError):
        return None
    return folder if keys == {run_key(config, store, plans)} else None


def begin(
    config: Config, settings: PretrainConfig, store: Store, plans: Mapping[str, Preparation], architecture: Architecture
) -> tuple[Run, Objectives]:
    """Return a run in which nothing was learned yet, and what it is asked."""
    device = pick_device()
    seed_everything(config.seed, settings.deterministic)
    fitted = {modality: store.preprocessor(plan) for modality, plan in plans.items()}
    model = build_model(architecture, fitted, 1).to(device)
    _freeze(model, settings.frozen_layers)
    objectives = Objectives(settings, model, fitted)
    learned, judging = deal(store, settings.validation, config.seed)
    blank = np.zeros(len(store.cohort.subject_ids), np.float32)  # no label takes part
    # it stands where a supervised run has its strategies, and has all of them that the loop asks for
    aim = Aim(LOSS, cast(Strategies, objectives), blank, learned, judging, _judge)
    feeds = sources(model, plans, store, ("train",), device)
    return Run(model, store, training_of(settings), config.seed, feeds, device, aim), objectives


def training_of(settings: PretrainConfig) -> TrainingConfig:
    """Return the settings of the training loop."""
    names = TrainingConfig.model_fields.keys() & PretrainConfig.model_fields.keys()
    return TrainingConfig(**{name: getattr(settings, name) for name in names})


def deal(store: Store, share: float, seed: int) -> tuple[Rows, Rows]:
    """Split the rows of the train split by patient into those that are learned from and those that judge epochs.

    With fewer than ten patients all do both.
    """
    rows = store.cohort.rows("train")
    subjects = store.cohort.subject_ids[rows]
    distinct = np.unique(subjects)
    if len(distinct) < _FEW:
        return rows, rows
    mixed = np.random.default_rng([_MASKS, seed % 2**63]).permutation(distinct)
    judges = min(max(1, round(len(distinct) * share)), len(distinct) - 1)
    kept = np.isin(subjects, mixed[:judges])
    return rows[~kept], rows[kept]


def _check_something(store: Store, plans: Mapping[str, Preparation]) -> None:
    """Refuse to learn from nothing: the loss would be 0, and the artefact what chance made of it."""
    rows = torch.as_tensor(store.cohort.rows("train"))
    if not any(int(store.source(plan).lengths(rows).sum()) for plan in plans.values()):
        raise UsageError(
            f"empty timelines: none of {len(rows):,} training patients has a {' or '.join(plans)} token before the "
            "prediction; look at the folder with: ehrfusion data check"
        )


@torch.no_grad()
def _judge(run: Run) -> dict[str, float]:
    """Return the mean losses of the patients that judge, in evaluation mode, with the same things hidden each time.

    Where modalities are aligned, the loss is of finding the right one among all these patients, each of whom is there
    once, and it is also said how often the nearest vector is the right patient's.

    Raises:
        NotFinite: the loss is NaN or infinite.
    """
    torch.manual_seed(_MASKS)
    objectives = cast(Objectives, run.strategies)
    run.model.eval()
    objectives.eval()
    sums: dict[str, float] = {}
    vectors = []
    once = torch.as_tensor(first_rows(run.store, run.tuning))
    for batch in run.batches(run.tuning, shuffle=False):
        inputs = move(batch.inputs, run.device)
        with precision(run.device):
            losses = objectives(run.model, inputs, batch.target).losses
        for name, loss in losses.items():
            sums[name] = sums.get(name, 0.0) + float(loss) * len(batch.rows) / len(run.tuning)
        mine = torch.isin(batch.rows, once).to(run.device)
        found = objectives.vectors(run.model, inputs)
        vectors.append({name: (values, has & mine) for name, (values, has) in found.items()})
    found_again = recalls(vectors, objectives.pairs)
    if found_again:
        sums["contrastive"] = sum(each.loss for each in found_again.values()) / len(found_again)
    total = sum(sums.values())
    if not math.isfinite(total):
        raise NotFinite(f"the loss of the patients that judge is {total} in epoch {run.state.epoch + 1}")
    entry = {"score": total, **{f"validation_{name}": value for name, value in sums.items()}}
    for pair, recall in found_again.items():
        name = objectives.retrieved()[pair]
        entry |= {name: recall.value, f"{name}_patients": float(recall.patients)}
    return entry


def first_rows(store: Store, rows: Rows) -> Rows:
    """Return the first row of each patient."""
    return rows[np.unique(store.cohort.subject_ids[rows], return_index=True)[1]]


def _freeze(model: FusionModel, layers: Mapping[str, int]) -> None:
    for modality, count in layers.items():
        for name, parameter in model.encoders[modality].named_parameters():
            depth = layer_depth(name)
            if depth is not None and depth <= count:
                parameter.requires_grad_(False)
