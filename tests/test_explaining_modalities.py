"""The report's parts on what modalities are worth and on what is left without them."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from toy_comparison import BINARY
from toy_explaining import Array, Patients, findings

from experiments import scoring
from experiments.explaining.contributions import contributions, interactions_of, modality_values
from experiments.explaining.pictures import curves_png, values_png
from experiments.explaining.removal import SHARES, members_left, missing_modalities, removals
from experiments.explaining.sets import Sets
from experiments.metrics import METRICS
from fusion import Task

AUROC = METRICS["auroc"]


def unique(said: dict[str, Array]) -> Array:
    return 2 * said["codes"] + 1 * said["notes"]


def synergy(said: dict[str, Array]) -> Array:
    return 3 * said["codes"] * said["notes"]


def silent(said: dict[str, Array]) -> Array:
    return 0 * said["codes"]


def drawn(cohort: Patients, target: Array) -> scoring.Tested:
    return scoring.Tested.of(target, cohort.subject_ids, cohort.fold, resamples=200)


def test_values_add_up_and_the_planted_modality_decides() -> None:
    cohort = Patients()
    sets, tested = cohort.as_sets("late", unique, unique), drawn(cohort, cohort.target(unique))
    found = contributions(sets, tested, AUROC, BINARY)
    codes, notes, images = (each.value for each in found)
    assert sum(each.value.value for each in found) == pytest.approx(sets.value(tested, AUROC, 7) - 0.5, abs=1e-12)
    assert codes.low > notes.high > notes.low > 0
    assert (images.value, images.low, images.high) == pytest.approx((0, 0, 0), abs=1e-6)
    # codes move a prediction by 2; notes of the four in five who have them by 1: 2/3 and 1/3 of those predictions
    has = cohort.present[1].mean()
    shares = [each.share.value for each in found]
    assert shares == pytest.approx([1 - has / 3, has / 3, 0], abs=1e-3)
    assert [each.size for each in found] == pytest.approx([2, has, 0], abs=1e-3)
    assert found[0].share.low < shares[0] < found[0].share.high


def test_where_codes_and_notes_are_needed_together_the_value_lies_in_their_interaction() -> None:
    cohort = Patients()
    sets, tested = cohort.as_sets("early", synergy), drawn(cohort, cohort.target(synergy))
    pairs = {(row.first, row.second): row.together for row in interactions_of(sets, tested, AUROC)}
    assert pairs["codes", "notes"].low > 0.2
    assert pairs["codes", "notes"].value == pytest.approx(sets.value(tested, AUROC, 7) - 0.5)
    for pair in (("codes", "images"), ("notes", "images")):
        assert pairs[pair].value == pytest.approx(0, abs=1e-12)
    codes, notes, _ = contributions(sets, tested, AUROC, BINARY)
    assert codes.value.value == pytest.approx(notes.value.value)


def test_who_loses_a_modality_also_loses_it_at_every_larger_share() -> None:
    cohort = Patients(rows_each=2)
    sets = cohort.as_sets("late", unique)
    everything = 7
    lost = [members_left(sets, [1], cohort.subject_ids, share, 0) != everything for share in SHARES]
    for less, more in pairwise(lost):
        assert not (less & ~more).any()
    owners = np.unique(cohort.subject_ids[cohort.present[1]])
    losers = [np.unique(cohort.subject_ids[each]) for each in lost]
    assert [len(each) for each in losers] == [round(share * len(owners)) for share in SHARES]
    assert np.array_equal(losers[-1], owners)  # and nobody who never had it
    for each in lost:
        assert np.array_equal(each[::2], each[1::2])  # both rows of a patient
    assert not np.array_equal(lost[2], members_left(sets, [1], cohort.subject_ids, 0.5, 1) != everything)


def test_a_patient_without_the_modality_is_unaffected_by_its_removal() -> None:
    cohort = Patients()
    sets = cohort.as_sets("late", unique)
    members = members_left(sets, [1], cohort.subject_ids, 1.0, 0)
    moved = sets.by_seed[0][members, np.arange(400)] != sets.by_seed[0][-1]
    assert np.array_equal(moved, cohort.present[1])


def test_losses_are_those_of_the_sets_that_are_left() -> None:
    cohort = Patients()
    sets, target = cohort.as_sets("late", unique), cohort.target(unique)
    found = {row.removed: row for row in removals(sets, drawn(cohort, target), AUROC, 0)}
    assert list(found) == ["codes", "notes", "images", "codes and notes", "codes and images", "notes and images"]
    by_hand = np.mean(
        [AUROC(target[cohort.fold == f], sets.by_seed[0][6, cohort.fold == f]) for f in (0, 1)]
    )  # the set of notes and images
    assert found["codes"].values[-1] == pytest.approx(by_hand)
    assert found["codes"].loss.value == pytest.approx(by_hand - found["codes"].values[0])
    assert found["codes"].loss.high < found["notes"].loss.low < 0
    assert found["images"].values == pytest.approx([found["images"].values[0]] * 5)
    assert found["codes"].values[0] > found["codes"].values[2] > found["codes"].values[4]
    assert found["codes and notes"].values[-1] == pytest.approx(0.5)
    assert found["notes"].patients == cohort.present[1].sum()
    assert not found["codes and notes"].spans
    assert len(found["codes"].spans) == 5


def test_the_report_says_which_modality_decides_and_what_if_it_is_missing(tmp_path: Path) -> None:
    cohort = Patients()
    weak = {"late": [unique, unique], "gated": [silent]}
    made = findings(
        tmp_path, cohort, cohort.target(unique), weak, extra={"late": {"weights": np.array([0.75, 0.5, 0])}}
    )
    values, missing = modality_values(made), missing_modalities(made)
    assert values is not None
    assert missing is not None
    assert values.title == "Which modality decides?"
    assert "late reaches AUROC" in values.words[0]
    assert "the modalities bring: codes +0." in values.words[0]
    rows = values.tables["modality_values"].rows
    assert [row[:2] for row in rows[:3]] == [["late", "codes"], ["late", "notes"], ["late", "images"]]
    assert values.tables["modality_values"].note == (
        "Shares are not defined for gated: no modality moves any prediction."
    )
    assert all(math.isnan(row[5]) == (row[0] == "gated") for row in rows)
    assert [row[:3] for row in values.tables["fusion_weights"].rows] == [
        ["late", "codes", 0.75],
        ["late", "notes", 0.5],
        ["late", "images", 0.0],
    ]
    assert values.pictures["modality_values"].png.startswith(b"\x89PNG")
    assert missing.words[0].startswith("late bears the loss of codes worst: when all 400 patients who have it lose it")
    assert len(missing.tables["missing_modalities"].rows) == 12
    assert missing.pictures["missing_modalities"].png.startswith(b"\x89PNG")


def test_metrics_of_which_less_is_better_are_read_the_other_way(tmp_path: Path) -> None:
    cohort = Patients(200)
    made = findings(tmp_path, cohort, cohort.target(synergy), {"early": [synergy]}, metric="brier")
    values, missing = modality_values(made), missing_modalities(made)
    assert values is not None
    assert missing is not None
    assert "the modalities bring: notes -0." in values.words[0] or "bring: codes -0." in values.words[0]
    assert "that of codes and notes" in values.words[1]
    assert values.words[1].endswith("they bring more together than alone.")
    assert "below zero they need each other" in values.words[2]
    assert "Lower is better." in missing.words[1]


def test_a_strategy_may_read_some_of_the_modalities_only() -> None:
    cohort = Patients()
    whole, target = cohort.as_sets("late", unique), cohort.target(unique)
    some = Sets("late of two", cohort.names[:2], tuple(each[:4] for each in whole.by_seed), cohort.present[:2])
    tested = drawn(cohort, target)
    rows = [row for each in (some, whole) for row in removals(each, tested, AUROC, 0)]
    singles = [row for row in rows if row.spans]
    assert [row.removed for row in singles] == ["codes", "notes", "codes", "notes", "images"]
    assert curves_png(singles, SHARES, "auroc").startswith(b"\x89PNG")
    worth = [row for each in (some, whole) for row in contributions(each, tested, AUROC, BINARY)]
    assert values_png(worth, "auroc").startswith(b"\x89PNG")


def test_predictions_of_a_regression_are_shared_in_its_own_unit() -> None:
    cohort = Patients()
    task = Task("regression", ("value",), 0.0, 1.0)
    sets = cohort.as_sets("late", unique)
    sets = type(sets)(
        sets.strategy, sets.modalities, tuple(np.log(each / (1 - each)) for each in sets.by_seed), sets.present
    )
    tested = drawn(cohort, sets.by_seed[0][-1])
    found = contributions(sets, tested, METRICS["rmse"], task)
    assert found[0].size == pytest.approx(2, abs=1e-3)
    assert sum(each.value.value for each in found) < 0


def test_comparisons_of_single_modalities_have_no_such_parts(tmp_path: Path) -> None:
    cohort = Patients(60)
    made = findings(tmp_path, cohort, cohort.target(unique), {"late": [unique]})
    made.held_out.files["late"][0].clear()
    for path in tmp_path.glob("late-*.npz"):
        np.savez(path, predictions=np.zeros(1))
    made.held_out.files["late"][0].extend(sorted(tmp_path.glob("late-*.npz")))
    assert modality_values(made) is None
    assert missing_modalities(made) is None
