"""From a study to a registered model: retrain the best with fresh seeds, pick on tuning, evaluate once, register."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from experiments.audit.gate import NOT_RUN, gate
from experiments.bundle import load_bundle, save_bundle
from experiments.comparison import evaluate_predictions
from experiments.config import StudyConfig
from experiments.data.store import Store
from experiments.evaluate import predict_rows, squeeze_outputs
from experiments.feeding import preparations
from experiments.frequent import codes_in_words
from experiments.glossary import read_glossary
from experiments.metrics import metric_name
from experiments.retraining import Retrained, best_finalist
from experiments.slots import default_workers
from experiments.statistics.intervals import Interval
from experiments.studies import finalists, load_study
from experiments.train import selection_metric
from experiments.workspace import open_store
from fusion import Architecture


@dataclass(frozen=True)
class Registration:
    """What was registered, how it was chosen and what it scored, once, on the held-out split."""

    name: str
    version: int
    aliases: tuple[str, ...]
    metric: str
    candidates: Sequence[Retrained]
    winner: Retrained
    held_out: Mapping[str, Interval]
    bundle: Path

    def render(self) -> Any:
        """Return rich tables: what was retrained, and the held-out metrics with their intervals."""
        from rich.console import Group
        from rich.table import Table

        metric = metric_name(self.metric)
        choice = Table("trial", "architecture", f"tuning {metric}, fresh seeds", "second fold", "", title="retrained")
        for each in self.candidates:
            folds = [_written(scores) for scores in (each.scores, each.second)]
            chosen = "chosen" if each is self.winner else ""
            choice.add_row(str(each.trial), short(each.candidate.architecture), *folds, chosen)
        title = f"{self.name} version {self.version} ({', '.join(self.aliases)}): held out, evaluated once"
        table = Table("metric", "value", "95% interval", title=title)
        for metric, found in self.held_out.items():
            table.add_row(metric_name(metric), f"{found.value:.3f}", f"{found.low:.3f} to {found.high:.3f}")
        return Group(choice, table, f"bundle: {self.bundle}")


def register_study(
    config: StudyConfig,
    name: str,
    *,
    top: int | None = None,
    seeds: int | None = None,
    pick: str = "best",
    promote: bool = False,
    workers: int | None = None,
    progress: bool = True,
    audit: bool = True,
) -> Registration:
    """Register the best model of a study.

    The best `top` architectures are trained anew with `seeds` fresh seeds (see `retraining.best_finalist`); the best
    mean on the tuning split wins, with its best seed. Only the winner sees the held-out split, once, and the look is
    written down in `held_out.jsonl`.

    Another rule than `best` names one trial (see `search.objectives.picked`), and that one is registered. A leakage
    audit must pass first, unless `audit` is off, which the card says.

    Raises:
        UsageError: the study has no finished trial, the rule leaves none, the audit fails, every run failed, or the
            registry does not answer.
    """
    from experiments.tracking import registry
    from experiments.tracking.runs import connect, study_run

    registry.check_name(name)
    read_glossary(config.card.glossary)  # what is wrong with it is said before anything is trained
    study = load_study(config)
    connection = connect(config.tracking.uri, config.runs, config.tracking.experiment or "ehrfusion")
    store = open_store(config, progress=progress)
    finalists(study, rule=pick)  # a rule that leaves nothing is refused before the audit
    audited = gate(config, store, progress=progress) if audit else NOT_RUN
    workers = workers or default_workers(config.training.devices)
    found = best_finalist(config, store, top=top, seeds=seeds, pick=pick, workers=workers, progress=progress)
    winner, metric = found.winner, selection_metric(store.task, config.training)
    chosen = int((np.argmax if metric.higher_is_better else np.argmin)(winner.scores))
    bundle, held_out = _evaluate_once(config, store, winner, winner.bundles[chosen], {"name": name, "audit": audited})
    values = {key: found.value for key, found in held_out.items()}
    parent = study_run(connection, study.user_attrs["study_key"])
    registered = registry.register(bundle, name, connection, metrics=values, parent=parent, tags={"study": config.name})
    if promote:
        registry.promote(connection, name)
    aliases = ("candidate", "champion") if promote else ("candidate",)
    return Registration(name, registered.version, aliases, metric.name, found.candidates, winner, held_out, bundle)


def _written(scores: Sequence[float]) -> str:
    return f"{np.mean(scores):.4f} (" + ", ".join(f"{score:.4f}" for score in scores) + ")" if scores else ""


def _evaluate_once(
    config: StudyConfig, store: Store, winner: Retrained, bundle: Path, about: Mapping[str, str]
) -> tuple[Path, dict[str, Interval]]:
    """Evaluate the chosen model on the held-out split, write the look down, and bundle it with what it scored."""
    predictor = load_bundle(bundle)
    plans = preparations(predictor.architecture, config.data.preprocess)
    rows = store.cohort.rows("held_out")
    found = squeeze_outputs(store.task, predict_rows(predictor.model, plans, store, rows))
    targets, whose = store.cohort.targets[rows], store.cohort.subject_ids[rows]
    held_out = evaluate_predictions(store.task, targets, whose, found, resamples=config.compare.resamples)
    _write_look(config.folder / "held_out.jsonl", about["name"], winner, held_out)
    metrics = {key: {"value": each.value, "low": each.low, "high": each.high} for key, each in held_out.items()}
    target = config.folder / "register" / about["name"]
    save_bundle(
        target,
        predictor.model.cpu(),
        predictor.architecture,
        store.task,
        predictor.preprocessors,
        plans,
        {**predictor.contract, **about, "codes_in_words": codes_in_words(config, store, plans)},
        metrics,
        overwrite=True,
    )
    return target, held_out


def _write_look(path: Path, name: str, winner: Retrained, held_out: Mapping[str, Interval]) -> None:
    """Append to the record of every look at the held-out split."""
    look = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "model": name,
        "candidate": winner.candidate.key,
        "metrics": {key: each.value for key, each in held_out.items()},
    }
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(look) + "\n")
        file.flush()
        os.fsync(file.fileno())


def short(architecture: Architecture) -> str:
    """Name an architecture in a line."""
    encoders = " + ".join(f"{modality} {spec.name}" for modality, spec in architecture.encoders.items())
    return f"{architecture.fusion.name} of {encoders}, width {architecture.dim}"
