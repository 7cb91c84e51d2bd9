"""What a comparison says before anything is trained: its primary metric, its design, and what it could show."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from experiments.compare_config import PowerConfig
from experiments.config import Config
from experiments.contenders import Subject
from experiments.data.store import Store
from experiments.held_out import HeldOut
from experiments.metrics import Metric, default_metric, metric_name
from experiments.reporting.cost import training_costs
from experiments.statistics.power import smallest_difference
from experiments.statistics.simulated_power import Assumed, simulate
from experiments.whole import whole_file
from experiments.workspace import git_commit
from fusion import Task

_POWER = 0.8
_FEW = 50  # events


def power_line(config: Config, task: Task, held_out: HeldOut, strategies: int, metric: Metric | None = None) -> str:
    """Say what the smallest difference in a metric is that the tested patients could show.

    Patients are counted, not rows: rows of one patient say less than as many patients. The second figure is the worst
    case: pairs of strategies are alike, so their correction costs less than one for as many unrelated tests.

    Args:
        metric: the primary one.
    """
    chosen = metric or default_metric(task.kind)
    assumed = config.compare.power
    pairs = max(1, strategies * (strategies - 1) // 2)
    levels = (0.05, 0.05 / pairs)
    if chosen.name == "auroc":
        positives = len(np.unique(held_out.subject_ids[held_out.target > 0]))
        negatives = len(np.unique(held_out.subject_ids[held_out.target <= 0]))
        who = f"{positives} patients with the outcome and {negatives} without"
        given = f"power {_POWER:.0%}, AUROC {assumed.auroc:g}, correlation {assumed.correlation:g}"
        settings = {"auroc": assumed.auroc, "correlation": assumed.correlation, "power": _POWER}
        shown = positives and negatives
        gaps = [smallest_difference(positives, negatives, **settings, level=e) if shown else math.nan for e in levels]
    else:
        who, given, gaps = _simulated(assumed, task, held_out, chosen, levels)
        if not given:
            return f"the smallest difference is not known for {metric_name(chosen.name)}, because {who}"
    return _said(metric_name(chosen.name), who, given, gaps, pairs)


def _simulated(
    assumed: PowerConfig, task: Task, held_out: HeldOut, metric: Metric, levels: Sequence[float]
) -> tuple[str, str, list[float]]:
    """Return who is tested, what is assumed and the smallest differences; or why there are none, and no assumption."""
    plan = Assumed(assumed.auroc, assumed.explained, assumed.correlation)
    found = simulate(metric, task.kind, held_out.target, held_out.subject_ids, plan)
    if not math.isfinite(found.error):
        return "it is not defined on most samples of these patients", "", []
    good = f"{assumed.explained:.0%} of the variance explained"
    if task.kind != "regression":
        several = {"multiclass": " of each class", "multilabel": " of each label"}.get(task.kind, "")
        good = f"AUROC {assumed.auroc:g}{several}"
    given = f"power {_POWER:.0%}, {good}, correlation {assumed.correlation:g}; simulated"
    room = 1 - found.value if metric.higher_is_better else found.value
    gaps = [found.smallest_difference(power=_POWER, level=each) for each in levels]
    who = f"{len(np.unique(held_out.subject_ids))} patients"
    return who, f"{given}, at {metric_name(metric.name)} {found.value:.3g}", [g if g < room else math.nan for g in gaps]


def _said(name: str, who: str, given: str, gaps: Sequence[float], pairs: int) -> str:
    """Say the smallest difference of one pair, and after the correction for all pairs."""
    one, corrected = gaps
    if math.isnan(one):
        return f"{who} could not show any difference in {name} ({given})"
    after = f"perhaps no difference at all, corrected for all {pairs} pairs"
    if not math.isnan(corrected):
        after = f"at most {corrected:.3f} corrected for all {pairs} pairs"
    more = f", {after}" if pairs > 1 else ""
    return f"smallest difference in {name} that {who} could show ({given}): {one:.3f}{more}"


def registered_primary(folder: Path, metric: Metric, *, stated: bool) -> tuple[str, list[str]]:
    """Write down the primary metric of a comparison when it is first run, and say if it has changed since.

    Returns:
        what the report says about it, and warnings.
    """
    path = folder / "plan.json"
    source = "stated in compare.primary" if stated else "the metric that picks epochs; compare.primary states another"
    if not path.is_file():
        plan = {"primary": metric.name, "since": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")}
        with whole_file(path) as temporary:
            temporary.write_text(json.dumps(plan), encoding="utf-8")
    plan = json.loads(path.read_text(encoding="utf-8"))
    said = f"{metric_name(metric.name)}, {source}"
    if plan["primary"] == metric.name:
        return f"{said}; the same since {plan['since']}, before anything was trained", []
    was = f"it was {metric_name(plan['primary'])} when this comparison was first run ({plan['since']})"
    return f"{said}; {was}", [f"the primary metric is {metric_name(metric.name)}, but {was}: results were seen since"]


def about_comparison(
    config: Config, store: Store, subject: Subject, held_out: HeldOut, seeds: int, remarks: list[str]
) -> dict[str, Any]:
    """Return what the report says about how the comparison was done, with remarks and warnings."""
    training, folds = subject.training, config.compare.folds or 1
    warnings = [*subject.remarks, *held_out.warnings, *remarks]
    rows, events = len(held_out.rows), _events(store.task, held_out)
    if events and min(events["events"], rows - events["events"]) < _FEW:
        warnings.append(f"only {events['events']} events among {rows} held-out rows: the intervals are wide")
    elif rows < 100:
        warnings.append(f"only {rows} held-out rows: the intervals are wide")
    if folds > 1 and subject.preferred is not None:
        warnings.append(
            "the search saw outcomes of patients whom the folds hold out: scores are somewhat flattered, most of all "
            "those of the fusion that was found"
        )
    of_sites = " of whole sites" if config.compare.folds_by == "site" else ""
    design = f"{seeds} seeds" if folds == 1 else f"{folds} folds{of_sites} x {seeds} seeds"
    return {
        "title": f"{config.name}: {rows} held-out predictions, {design}",
        "name": config.name,
        "rows": rows,
        "patients": len(np.unique(held_out.subject_ids)),
        **events,
        "seeds": seeds,
        **({"folds": folds, "folds_by": config.compare.folds_by} if folds > 1 else {}),
        "resamples": config.compare.resamples,
        "interval": config.compare.interval,
        "budget": f"at most {training.epochs} epochs, patience {training.patience}, batches of {training.batch_size}",
        "architecture": subject.architecture.to_dict(),
        **({"chosen": subject.how} if subject.how else {}),
        "data_fingerprint": store.data_fingerprint,
        "split_fingerprint": store.cohort.split_fingerprint,
        "git_commit": git_commit(),
        **({"cohort": store.cohort.counts()} if folds == 1 else {}),
        "flow": store.dataset.flow().get(config.data.labels, []),
        "costs": training_costs(held_out),
        "warnings": warnings,
    }


def _events(task: Task, held_out: HeldOut) -> Mapping[str, int]:
    return {"events": int(held_out.target.sum())} if task.kind == "binary" else {}
