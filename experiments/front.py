"""The Pareto front of a study with several objectives: part of its page, a table and a picture."""

from __future__ import annotations

import csv
import io

import optuna

from experiments.live import describe
from experiments.plots import front_png
from experiments.reporting.page import Part, image
from experiments.reporting.table import table
from search.objectives import RULES, candidates, measured, pareto, picked


def front_parts(study: optuna.Study) -> list[Part]:
    """Show the trials that no other beats in everything, and which of them each rule would take."""
    names = study.user_attrs.get("objectives", ())
    if len(names) < 2:
        return []
    front = pareto(study)
    takes = {rule: picked(study, names, rule)[0].number for rule in RULES} if front else {}
    rows = [
        [
            str(trial.number),
            *(f"{value:.4g}" for value in trial.values),
            describe(trial),
            ", ".join(rule for rule, number in takes.items() if number == trial.number),
        ]
        for trial in front
    ]
    body = [
        *([image(_picture(study), "objectives against each other")] if front else []),
        table(["trial", *names, "architecture", "register --pick"], rows),
    ]
    return [Part(f"Pareto front: {len(front)} trials that no other beats in everything", body)]


def front_files(study: optuna.Study) -> dict[str, bytes]:
    """Return the front as a table and a picture by their file names; nothing where there are no several objectives."""
    names = study.user_attrs.get("objectives", ())
    front = pareto(study) if len(names) > 1 else []
    if not front:
        return {}
    every = list(dict.fromkeys([*names, *(name for trial in front for name in measured(trial, names))]))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["trial", *every, "architecture"])
    for trial in front:
        values = measured(trial, names)
        writer.writerow([trial.number, *(values.get(name, "") for name in every), describe(trial)])
    return {"front.csv": text.getvalue().encode(), "front.png": _picture(study)}


def _picture(study: optuna.Study) -> bytes:
    on_front = {trial.number for trial in pareto(study)}
    points = [(trial.values, trial.number in on_front) for trial in candidates(study)]
    return front_png(points, study.user_attrs["objectives"])
