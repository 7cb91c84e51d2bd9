"""What a comparison says before anything is trained: its primary metric, its design, and what it could show."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from experiments.config import Config
from experiments.contenders import Subject
from experiments.data.store import Store
from experiments.held_out import HeldOut
from experiments.metrics import Metric, metric_name
from experiments.reporting.cost import training_costs
from experiments.statistics.power import smallest_difference
from experiments.whole import whole_file
from experiments.workspace import git_commit
from fusion import Task

_POWER = 0.8
_FEW = 50  # events


def power_line(config: Config, task: Task, held_out: HeldOut, strategies: int) -> str:
    """Say what the smallest difference in AUROC is that the tested patients could show.

    Patients are counted, not rows: rows of one patient say less than as many patients. The second figure is the worst
    case: pairs of strategies are alike, so their correction costs less than one for as many unrelated tests.
    """
    if task.kind != "binary":
        return f"the smallest difference is planned for binary outcomes only; this one is {task.kind}"
    assumed = config.compare.power
    positives = len(np.unique(held_out.subject_ids[held_out.target > 0]))
    negatives = len(np.unique(held_out.subject_ids[held_out.target <= 0]))
    pairs = max(1, strategies * (strategies - 1) // 2)
    settings = {"auroc": assumed.auroc, "correlation": assumed.correlation, "power": _POWER}
    one, corrected = (
        smallest_difference(positives, negatives, **settings, level=level) for level in (0.05, 0.05 / pairs)
    )
    who = f"{positives} patients with the outcome and {negatives} without"
    given = f"power {_POWER:.0%}, AUROC {assumed.auroc:g}, correlation {assumed.correlation:g}"
    if math.isnan(one):
        return f"{who} could not show any difference in AUROC ({given})"
    after = f"perhaps no difference at all, corrected for all {pairs} pairs"
    if not math.isnan(corrected):
        after = f"at most {corrected:.3f} corrected for all {pairs} pairs"
    said = f", {after}" if pairs > 1 else ""
    return f"smallest difference in AUROC that {who} could show ({given}): {one:.3f}{said}"


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
    design = f"{seeds} seeds" if folds == 1 else f"{folds} folds x {seeds} seeds"
    return {
        "title": f"{config.name}: {rows} held-out predictions, {design}",
        "name": config.name,
        "rows": rows,
        "patients": len(np.unique(held_out.subject_ids)),
        **events,
        "seeds": seeds,
        **({"folds": folds} if folds > 1 else {}),
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
