"""Sets of drugs: what a report says of them, the interactions that are known, and the recipe that plants some."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from toy_findings import findings

from experiments import scoring
from experiments.clinical.drug_sets import drug_sets, drug_sets_section
from experiments.data.cohort import read_targets
from experiments.data.folder import open_dataset
from experiments.sources.synthetic import write_synthetic
from experiments.sources.synthetic.drugs import GIVEN_FOR, INTERACTIONS, matrix, names
from experiments.statistics.sets import jaccard
from experiments.tasks.interactions import (
    interaction_rate,
    known_interactions,
    label_interactions,
    read_interactions,
    write_interactions,
)
from fusion import Task, UsageError

PAIR = np.array([[0, 1, 0], [1, 0, 0], [0, 0, 0]], bool)
TARGET = np.array([[1, 1, 0], [0, 0, 1], [0, 0, 0], [1, 1, 1]], np.float32)
PREDICTED = np.array([[0.9, 0.8, 0.1], [0.2, 0.6, 0.7], [0.1, 0.1, 0.2], [0.6, 0.6, 0.6]])


def test_sets_by_hand() -> None:
    found = scoring.Tested.of(TARGET, np.arange(4), resamples=100).quantities(drug_sets(PAIR), PREDICTED)
    value = {name: float(each.value) for name, each in found.items()}
    assert value == {
        "interaction_rate": pytest.approx(2 / 5),  # pairs 1, 1, 0 and 3, of which the first two drugs' are two
        "jaccard": pytest.approx((1 + 1 / 2 + 1 + 1) / 4),
        "f1": pytest.approx((1 + 2 / 3 + 1 + 1) / 4),
        "auprc": pytest.approx(1.0),
        "drugs": pytest.approx(7 / 4),
    }
    assert found["interaction_rate"].interval.low < 0.4 < found["interaction_rate"].interval.high


def toy(folder: Path, predicted: np.ndarray[Any, Any], monkeypatch: pytest.MonkeyPatch, known: Any) -> Any:
    """Findings of thirty times the four patients above."""
    target, wide = (np.repeat(np.tile(each, (30, 1)), 2, axis=0) for each in (TARGET, predicted))
    found = findings(folder, Task("multilabel", ("a", "b", "c")), target, {"early": [wide]}, {"early": "fusion"})
    store: Any = found.stores[0]
    store.dataset, store.config = None, SimpleNamespace(labels="drugs")
    monkeypatch.setattr("experiments.clinical.drug_sets.label_interactions", lambda *_: known)
    return found


def test_a_report_says_how_often_predicted_and_given_drugs_interact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    section = drug_sets_section(toy(tmp_path, PREDICTED, monkeypatch, PAIR))
    assert section is not None
    (early, given) = section.tables["drug_sets"].rows
    assert early[0] == "early"
    assert early[1].value == pytest.approx(2 / 5)
    assert given[1].value == pytest.approx(2 / 4)
    assert section.words[0].startswith("Of the pairs of drugs, so many interact: early 40.0% (")
    assert "what was given 50.0% (" in section.words[0]


def test_what_is_not_defined_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    section = drug_sets_section(toy(tmp_path, PREDICTED * 0.1, monkeypatch, PAIR))
    assert section is not None
    assert "early not defined (no pair)" in section.words[0]
    assert "Where it is not defined, no two drugs were predicted together." in section.tables["drug_sets"].note


def test_without_known_interactions_there_is_no_section(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert drug_sets_section(toy(tmp_path, PREDICTED, monkeypatch, None)) is None


# --- what interacts ---


def test_the_packages_own_pairs_among_some_classes() -> None:
    found = known_interactions(["A02B", "B01A", "M01A", "C09A"])
    assert {(int(a), int(b)) for a, b in np.argwhere(np.triu(found))} == {(1, 2), (2, 3)}
    assert (found == found.T).all()
    assert (read_interactions(Path("drug_classes"), ["B01A", "M01A"]) == [[0, 1], [1, 0]]).all()
    with pytest.raises(
        UsageError, match="drug_classes: none of its pairs is among the labels; they must be ATC classes"
    ):
        known_interactions(["heparin", "aspirin"])


def test_all_pairs_of_the_package_are_of_two_classes_it_knows_and_there_once() -> None:
    from experiments.tasks.groups import load_groups

    classes = sorted(load_groups("drug_classes").names)
    path = Path(__file__).resolve().parents[1] / "experiments" / "tasks" / "known_interactions.csv"
    pairs = [tuple(sorted(line.split(",")[:2])) for line in path.read_text(encoding="utf-8").splitlines()[1:]]
    assert len(set(pairs)) == len(pairs)
    assert {each for pair in pairs for each in pair} <= set(classes)
    assert known_interactions(classes).sum() == 2 * len(pairs)


def test_pairs_are_written_and_read_back(tmp_path: Path) -> None:
    write_interactions(tmp_path / "i.csv", PAIR, ["a", "b", "c"])
    assert (tmp_path / "i.csv").read_text(encoding="utf-8") == "first,second\na,b\n"
    assert (read_interactions(tmp_path / "i.csv", ["a", "b", "c"]) == PAIR).all()


# --- the planted recipe ---


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drugs") / "data"
    write_synthetic(folder, patients=1500, seed=5, recipe="drugs", image_missing=1.0)
    return folder


def test_what_is_planted_is_in_the_labels(planted: Path) -> None:
    dataset = open_dataset(planted)
    _, target, kind, labels = read_targets(dataset, "drugs")
    assert (kind, list(labels), len(target)) == ("multilabel", names(), 1500)
    assert len(INTERACTIONS) == 15
    found = label_interactions(dataset, "drugs", Task(kind, labels))
    assert found is not None
    assert (found == matrix()).all()
    true = json.loads((planted / "truth.json").read_text(encoding="utf-8"))["drugs"]
    rates = [each["interaction_rate"] for each in true.values()]
    assert min(rates) < interaction_rate(target, matrix()) < max(rates)
    assert 0.07 < min(rates) < max(rates) < 0.12, "interacting pairs are given moderately often"


def test_who_knows_every_chance_does_better_than_the_most_frequent_drugs(planted: Path) -> None:
    _, target, *_ = read_targets(open_dataset(planted), "drugs")
    frequent = np.tile(target.mean(0), (len(target), 1))
    best = json.loads((planted / "truth.json").read_text(encoding="utf-8"))["drugs"]["train"]["best_jaccard"]
    assert best > float(jaccard(target, frequent).mean()) + 0.2
    assert best < 0.7, "chance remains"


def test_other_recipes_are_as_they_were(small_folder: Path) -> None:
    assert [path.name for path in (small_folder / "labels").iterdir()] == ["outcome.parquet"]
    assert "drugs" not in json.loads((small_folder / "truth.json").read_text(encoding="utf-8"))
    assert all(
        weights and set(weights) <= {"disease", "laboratory", "note", "family"} for _, weights in GIVEN_FOR.values()
    )
