"""Comparisons over folds: paired over patients and across folds, and whole ones run on small patients."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_comparison import BINARY, KINDS, here, noisy, patients, tiny_config

from experiments import comparing
from experiments.comparing import compare_config
from experiments.comparison import Comparison, compare_predictions
from experiments.config import Config
from experiments.jobs import JobFailure
from experiments.metrics import METRICS
from experiments.statistics.across_folds import corrected_t
from fusion import UsageError

NOISE = {"late": 0.2, "early": 0.25, "codes": 2.0, "notes": 4.0}


def folded(count: int = 300, folds: int = 5, **options: Any) -> tuple[Comparison, Any, Any, Any]:
    target, hidden = patients(count)
    fold = np.arange(count) % folds
    predictions = {name: noisy(hidden, noise) for name, noise in NOISE.items()}
    options = {"resamples": 200, "fold": fold} | options
    return (
        compare_predictions(BINARY, target, np.arange(count), predictions, KINDS, **options),
        target,
        fold,
        predictions,
    )


def test_values_are_means_over_folds_each_by_itself() -> None:
    found, target, fold, predictions = folded()
    by_hand = [[METRICS["auroc"](target[fold == k], each[fold == k]) for k in range(5)] for each in predictions["late"]]
    row = next(row for row in found.ranking() if row.strategy == "late")
    assert row.folds == pytest.approx(np.mean(by_hand, axis=0))
    assert row.seeds == pytest.approx(np.mean(by_hand, axis=1))
    assert row.value == pytest.approx(np.mean(by_hand))
    assert row.low < row.value < row.high


def test_calibration_that_differs_between_folds_does_not_count_against_a_ranking() -> None:
    target, hidden = patients(300)
    fold = np.arange(300) % 3
    raw = noisy(hidden, 0.5, seeds=[0])[0]
    shifted = raw * np.array([0.2, 0.6, 1.0])[fold]  # every fold's model ranks as before
    found = compare_predictions(
        BINARY, target, np.arange(300), {"late": [raw], "early": [shifted]}, KINDS, fold=fold, resamples=100
    )
    assert found.differences[0].value == pytest.approx(0)


def test_differences_are_tested_across_folds_with_seeds_averaged() -> None:
    found, *_ = folded()
    rows = {row.strategy: np.array(row.folds) for row in found.ranking()}
    for each in found.differences:
        gaps = rows[each.first] - rows[each.second]
        span, p = corrected_t(gaps, 0.25)
        assert each.across is not None
        assert (each.across.low, each.across.high, each.across.p) == pytest.approx((span.low, span.high, p))
        assert each.across.same_sign == sum(np.sign(gaps) == np.sign(gaps.mean()))
    worst = next(each for each in found.differences if each.second == "notes")
    assert worst.across is not None
    assert worst.across.practical is not None
    assert (worst.across.p_flips, worst.across.same_sign) == (2 / 32, 5)
    assert worst.across.practical.higher > 0.95
    assert worst.p_delong < 1e-4
    assert worst.p_fdr <= worst.p_holm
    assert "same sign in 5 of 5 folds, corrected t p" in found.verdict()
    assert "with 5 folds, flipping signs cannot give a p value below 0.062" in found.footnotes


def test_strategies_are_ranked_over_folds() -> None:
    found, *_ = folded()
    assert found.ranks is not None
    assert set(found.ranks.names) == {"late", "early", "codes only", "notes only"}
    assert found.ranks.blocks == 5
    assert found.ranks.p < 0.05
    single, *_ = folded(fold=None)
    assert single.ranks is None
    assert all(each.across is None for each in single.differences)
    assert all(row.folds == () for row in single.rows)


def test_one_fold_is_the_single_split() -> None:
    one, *_ = folded(fold=np.zeros(300, np.int64))
    none, *_ = folded(fold=None)
    assert one.to_json() == none.to_json()


def test_what_does_not_matter_hangs_on_the_region_stated() -> None:
    def equal(**options: Any) -> Any:
        found, *_ = folded(**options)
        across = next(each.across for each in found.differences if {each.first, each.second} == {"late", "early"})
        assert across is not None
        return across.practical

    assert equal(equivalence=0.2).equal == 1.0
    assert equal(equivalence=1e-6).equal < 0.5
    assert equal(metric=METRICS["log_loss"]) is None, "no difference in log loss is small in itself"


def test_bca_intervals_can_be_asked_for() -> None:
    plain, *_ = folded(60, 1)
    other, *_ = folded(60, 1, bca=True)
    assert [row.value for row in plain.rows] == [row.value for row in other.rows]
    assert [row.low for row in plain.rows] != [row.low for row in other.rows]


def test_tables_and_page_show_folds() -> None:
    from rich.console import Console

    from experiments.reporting.comparison_page import comparison_html

    found, *_ = folded(about={"folds": 5, "seeds": 3})
    console = Console(width=170, record=True, file=io.StringIO())
    console.print(found.render())
    assert "corrected t" in console.export_text()
    text = comparison_html(found)
    for needed in ("Across folds", "5 folds x 3 seeds", "5 of 5", "Patients or seeds?", "cannot give a p value"):
        assert needed in text
    lines = list(csv.DictReader(io.StringIO(found.differences_csv())))
    assert all(0 <= float(line["folds_p"]) <= 1 and float(line["equal"]) <= 1 for line in lines)
    assert json.loads(found.to_json())["rows"][0]["spread"]["patients"] > 0


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """An experiment of three modalities on a few synthetic patients, dealt into three folds."""
    encoders = {"codes": "bag", "notes": "bag", "graph": "ancestors"}
    folder = tmp_path_factory.mktemp("folds")
    return tiny_config(folder, encoders, "early", folds=3, fusions=["early"], primary="auprc")


def test_every_patient_is_held_out_once_for_every_strategy_and_seed(
    tiny: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparing, "run_jobs", here)
    said: list[str] = []
    found, folder = compare_config(tiny, progress=False, announce=said.append)
    assert {row.label for row in found.rows if row.kind == "without"} == {
        "without codes",
        "without notes",
        "without graph",
    }
    assert found.metric == "auprc"
    assert found.about["primary"].startswith("AUPRC, stated in compare.primary; the same since ")
    assert all(len(row.folds) == 3 and len(row.seeds) == 2 for row in found.rows)
    assert found.about["rows"] == found.about["patients"] == 120
    assert len(said) == 1
    assert said[0].startswith("smallest difference in AUPRC that ")
    kept = np.load(folder / "predictions.npz")
    assert sorted(kept["row"]) == list(range(120))
    assert (np.bincount(kept["fold"]) == 40).all()
    assert kept["of without notes"].shape == (2, 120)
    truth, scored = kept["target"], kept["of early"]
    again = np.mean(
        [METRICS["auprc"](truth[kept["fold"] == k], each[kept["fold"] == k]) for each in scored for k in range(3)]
    )
    assert next(row.value for row in found.ranking() if row.strategy == "early") == pytest.approx(again)
    assert (folder / "ranks.png").stat().st_size > 0


def test_a_seed_that_fails_in_one_fold_is_left_out_whole(tiny: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    def one_fails(function: Callable[[Any], Any], settings: Sequence[Any], *_: Any) -> list[Any]:
        return [
            [JobFailure("its process died"), *done[1:]] if i == 0 else done
            for i, done in enumerate(here(function, settings))
        ]

    monkeypatch.setattr(comparing, "run_jobs", one_fails)
    found, _ = compare_config(tiny, progress=False)
    seeds = {row.strategy: len(row.seeds) for row in found.rows}
    assert seeds["early"] == 1
    assert seeds["notes"] == 2
    assert "early: 1 of 6 runs failed (its process died)" in found.about["warnings"]


def test_a_primary_metric_of_another_task_is_refused(tiny: Config) -> None:
    wrong = tiny.model_copy(update={"compare": tiny.compare.model_copy(update={"primary": "rmse"})})
    with pytest.raises(UsageError, match=r"compare\.primary: unknown metric for a binary task 'rmse'"):
        compare_config(wrong, progress=False)


def test_too_few_patients_for_the_folds_are_refused_before_training(tiny: Config, tmp_path: Path) -> None:
    many = tiny.model_copy(update={"compare": tiny.compare.model_copy(update={"folds": 50})})
    with pytest.raises(UsageError, match=r"compare\.folds is 50, but only \d+ patients have the rarest outcome"):
        compare_config(many, progress=False)
