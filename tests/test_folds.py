"""Folds of all patients: everybody held out once, patients whole, outcomes even, and refusals with the reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from experiments.compare_config import CompareConfig
from experiments.data.cohort import Cohort
from experiments.data.folder import Dataset
from experiments.data.folds import check_folds, fold_cohort, usual_folds
from experiments.data.splits import subject_sites
from experiments.data_config import SplitConfig
from fusion import Task, UsageError

NAMES = ("train", "tuning", "held_out")


def cohort(targets: Any, subject_ids: Any = None, kind: Any = "binary") -> Cohort:
    count = len(targets)
    subjects = np.arange(count) if subject_ids is None else subject_ids
    split = np.array(NAMES)[np.random.default_rng(0).choice(3, count, p=[0.7, 0.15, 0.15])]
    names = tuple("abc") if kind in ("multiclass", "multilabel") else ("value",)
    times = np.zeros(count, "datetime64[us]")
    return Cohort(subjects, times, targets, split, Task(kind, names), "data", "splits")


def binary(patients: int = 100, positives: int = 20) -> Cohort:
    targets = np.zeros(patients, np.float32)
    targets[:positives] = 1
    return cohort(targets)


def test_everybody_is_held_out_once_and_outcomes_are_even() -> None:
    whole = binary()
    dealt = [fold_cohort(whole, 5, fold, 0) for fold in range(5)]
    held_out = np.concatenate([each.rows("held_out") for each in dealt])
    assert sorted(held_out) == list(range(100))
    for each in dealt:
        assert each.targets[each.rows("held_out")].sum() == 4
        assert each.targets[each.rows("tuning")].sum() in (2, 3)
        assert set(each.split) == set(NAMES)
    assert len({each.split_fingerprint for each in dealt}) == 5


def test_train_and_tuning_keep_their_proportion() -> None:
    whole = binary()
    before = len(whole.rows("tuning")) / (len(whole.rows("tuning")) + len(whole.rows("train")))
    after = fold_cohort(whole, 5, 0, 0)
    assert len(after.rows("tuning")) == round(80 * before)


def test_rows_of_a_patient_stay_together() -> None:
    rng = np.random.default_rng(0)
    subject_ids = rng.integers(0, 60, 300) * 7
    whole = cohort((rng.random(300) < 0.2).astype(np.float32), subject_ids)
    for fold in range(3):
        found = fold_cohort(whole, 3, fold, 0)
        for subject in np.unique(subject_ids):
            assert len(set(found.split[subject_ids == subject])) == 1


def test_the_seed_deals_the_folds() -> None:
    first, again, other = (fold_cohort(binary(), 4, 1, seed).split for seed in (0, 0, 1))
    assert (first == again).all()
    assert (first != other).any()


@pytest.mark.parametrize("kind", ["multiclass", "multilabel", "regression"])
def test_other_kinds_of_tasks(kind: Any) -> None:
    rng = np.random.default_rng(0)
    targets: Any = {
        "multiclass": np.repeat([0, 1, 2], [60, 30, 10]),
        "multilabel": (rng.random((100, 3)) < 0.2).astype(np.float32),
        "regression": rng.exponential(size=100).astype(np.float32),
    }[kind]
    whole = cohort(targets, kind=kind)
    dealt = [fold_cohort(whole, 5, fold, 0) for fold in range(5)]
    assert sorted(np.concatenate([each.rows("held_out") for each in dealt])) == list(range(100))
    if kind == "multiclass":
        assert all((np.bincount(each.targets[each.rows("held_out")]) == [12, 6, 2]).all() for each in dealt)
    if kind == "regression":  # scaled by what is trained on, and the large are not in one fold
        for each in dealt:
            train = each.targets[each.rows("train")]
            assert (each.task.center, each.task.scale) == pytest.approx((train.mean(), train.std()))
            assert sum(each.targets[each.rows("held_out")] > np.quantile(targets, 0.8)) == 4


def test_too_few_positives_for_the_folds_are_refused_with_the_number_that_would_do() -> None:
    with pytest.raises(UsageError, match=r"folds is 5, but only 7 patients have the rarest outcome .* at most 3"):
        check_folds(binary(positives=7), 5, SplitConfig())
    check_folds(binary(positives=7), 3, SplitConfig())
    with pytest.raises(UsageError, match=r"only 3 patients have the rarest outcome .*; use compare.folds: 1"):
        check_folds(binary(positives=3), 2, SplitConfig())


def test_positives_are_counted_by_patient() -> None:
    whole = cohort(
        np.repeat([1.0, 0.0], [30, 70]).astype(np.float32), np.concatenate([np.arange(30) // 10, 5 + np.arange(70)])
    )
    with pytest.raises(UsageError, match="only 3 patients have the rarest outcome"):
        check_folds(whole, 5, SplitConfig())


@pytest.mark.parametrize("by", ["time", "site"])
def test_splits_that_keep_something_apart_are_not_dealt_anew(by: Any) -> None:
    with pytest.raises(UsageError, match=rf"would mix what data.splits.by '{by}' keeps apart; use compare.folds: 1"):
        check_folds(binary(), 5, SplitConfig(by=by))


def test_a_comparison_that_states_no_folds_has_five_or_as_many_as_outcomes_allow() -> None:
    assert usual_folds(binary(), SplitConfig(), searched=False) == (5, [])
    folds, (remark,) = usual_folds(binary(positives=7), SplitConfig(), searched=False)
    assert (folds, remark) == (3, "3 folds in place of 5: only 7 patients have the rarest outcome")
    check_folds(binary(positives=7), folds, SplitConfig())
    assert usual_folds(binary(positives=3), SplitConfig(), searched=False)[0] == 1


def test_what_was_searched_or_kept_apart_is_not_dealt_anew_unasked() -> None:
    assert usual_folds(binary(), SplitConfig(), searched=True) == (1, [])
    assert usual_folds(binary(), SplitConfig(by="site"), searched=False) == (1, [])


def test_sites_are_dealt_whole_and_each_is_held_out_by_itself() -> None:
    rng = np.random.default_rng(0)
    whole = cohort((rng.random(120) < 0.3).astype(np.float32))
    sites = np.array(["north", "south", "west"])[np.arange(120) % 3]
    for fold, site in enumerate(("north", "south", "west")):
        found = fold_cohort(whole, 3, fold, 0, sites)
        assert set(sites[found.rows("held_out")]) == {site}
        assert len(found.rows("held_out")) == 40
        assert set(sites[found.rows("tuning")]) == {"north", "south", "west"} - {site}
    two = [fold_cohort(whole, 2, fold, 0, sites) for fold in range(2)]
    assert sorted(np.concatenate([each.rows("held_out") for each in two])) == list(range(120))
    for each in two:
        assert not set(sites[each.rows("held_out")]) & set(sites[each.rows("train")])


def test_more_folds_than_sites_are_refused_and_sites_that_are_kept_apart_may_be_folds() -> None:
    sites = np.array(["north", "south"])[np.arange(100) % 2]
    with pytest.raises(UsageError, match=r"compare\.folds is 3, but there are 2 sites"):
        check_folds(binary(), 3, SplitConfig(), sites)
    check_folds(binary(), 2, SplitConfig(by="site"), sites)
    with pytest.raises(UsageError, match=r"'time' keeps apart"):
        check_folds(binary(), 2, SplitConfig(by="time"), sites)


def test_sites_that_nobody_recorded_are_refused_with_the_setting(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with pytest.raises(UsageError, match=r"compare\.folds_by is 'site', but metadata/dataset.json declares no site_id"):
        subject_sites(Dataset(tmp_path), np.arange(3), "compare.folds_by")
    with pytest.raises(ValidationError, match=r"set compare\.folds to 2 or more"):
        CompareConfig(folds_by="site")
