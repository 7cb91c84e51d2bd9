"""The front of a study with several objectives, in its page, as a table and as a picture."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState, create_trial

from experiments.front import front_files, front_parts
from experiments.study_report import study_report
from search.objectives import LIMITS

NAMES = ["auroc", "latency_ms"]
ARCHITECTURE = {"encoders": {"codes": {"name": "bag"}}, "fusion": {"name": "late"}, "dim": 8}


@pytest.fixture
def study() -> optuna.Study:
    """Four trials: the best, the fastest, one that is beaten and one that is over a limit."""
    found = optuna.create_study(directions=["maximize", "minimize"])
    found.set_user_attr("objectives", NAMES)
    found.set_user_attr("metric", "auroc")
    for values, parameters, over in (
        ((0.80, 9.0), 900, 0.0),
        ((0.70, 1.0), 10, 0.0),
        ((0.69, 1.5), 20, 0.0),
        ((0.90, 0.5), 5, 0.1),
    ):
        about = {"architecture": ARCHITECTURE, "parameters": parameters, "training": {}, LIMITS: [over]}
        found.add_trial(create_trial(state=TrialState.COMPLETE, values=values, user_attrs=about))
    return found


def test_the_table_is_what_the_front_is(study: optuna.Study) -> None:
    rows = list(csv.DictReader(io.StringIO(front_files(study)["front.csv"].decode())))
    assert [(row["trial"], row["auroc"], row["latency_ms"], row["parameters"]) for row in rows] == [
        ("0", "0.8", "9.0", "900"),
        ("1", "0.7", "1.0", "10"),
    ]
    assert rows[0]["architecture"] == "late of codes bag, width 8"


def test_page_table_and_picture_lie_together(study: optuna.Study, tmp_path: Path) -> None:
    page = study_report(study, tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Pareto front: 2 trials that no other beats in everything" in page
    assert sorted(each.name for each in tmp_path.iterdir()) == ["front.csv", "front.png", "report.html"]
    assert (tmp_path / "front.png").read_bytes().startswith(b"\x89PNG")


def test_the_page_says_what_each_rule_would_take(study: optuna.Study) -> None:
    page = "".join(front_parts(study)[-1].body)
    best, fastest = (row for row in page.split("<tr>") if "late of codes" in row)
    assert "best, knee, smallest" in best, "both ends are as far from the best of each; the better score goes first"
    assert "knee" not in fastest


def test_one_objective_has_no_front(tmp_path: Path) -> None:
    study = optuna.create_study(direction="maximize")
    study.set_user_attr("objectives", ["auroc"])
    assert front_files(study) == {}
    assert front_parts(study) == []


def test_nothing_finished_is_no_picture() -> None:
    study = optuna.create_study(directions=["maximize", "minimize"])
    study.set_user_attr("objectives", NAMES)
    assert front_files(study) == {}
    assert "Pareto front: 0 trials" in front_parts(study)[0].title
