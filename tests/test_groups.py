"""Groups of patients: who is in them, whom a model serves badly, and who is too few to tell."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
from toy_comparison import BINARY, tiny_config
from toy_findings import expit, findings, risks

from experiments.clinical.evidence import evidence
from experiments.clinical.groups import attributes, worth_scoring
from experiments.clinical.subgroups import report
from experiments.data.folder import Dataset
from experiments.data.store import Store
from experiments.metrics import METRICS
from experiments.section import Section, Table
from experiments.subgroups import by_age, by_codes, by_site
from experiments.workspace import open_store
from fusion import Task


def records(folder: Path, rows: list[tuple[Any, ...]], cohort: list[tuple[int, str]]) -> Any:
    """Return a store of a few events: subject, time, code, value, site."""
    (folder / "data").mkdir()
    (folder / "metadata").mkdir()
    (folder / "metadata" / "dataset.json").write_text('{"site_id_columns": ["site"]}')
    columns = {"subject_id": pl.Int64, "time": pl.String, "code": pl.String, "numeric_value": pl.Float32}
    table = pl.DataFrame(rows, schema={**columns, "site": pl.String}, orient="row")
    table = table.with_columns(pl.col("time").str.to_datetime("%Y-%m-%d", time_unit="us"))
    table.write_parquet(folder / "data" / "0.parquet")
    subjects, times = zip(*cohort, strict=True)
    about = SimpleNamespace(
        subject_ids=np.array(subjects), prediction_times=np.array(times, "datetime64[us]"), targets=np.zeros(len(times))
    )
    return SimpleNamespace(dataset=Dataset(folder), cohort=about, task=BINARY)


def test_who_is_in_a_group_is_what_was_known_at_the_prediction(tmp_path: Path) -> None:
    store = records(
        tmp_path,
        [
            (1, None, "GENDER//F", None, None),
            (1, "1980-06-01", "MEDS_BIRTH", None, None),
            (1, "2020-01-01", "DX", None, "north"),
            (1, "2021-01-01", "DX", None, "south"),
            (2, None, "GENDER//M", None, None),
            (2, None, "AGE", 81.0, "north"),
            (3, "2020-01-01", "GENDER//F", None, None),
        ],
        [(1, "2020-06-01"), (2, "2020-06-01"), (3, "2019-01-01"), (1, "2025-05-31"), (1, "2025-06-02")],
    )
    rows = np.arange(5)
    said = {name: here.tolist() for name, here in by_codes(store, rows, ["GENDER//"]).items()}
    assert said == {"GENDER//F": [True, False, False, True, True], "GENDER//M": [False, True, False, False, False]}
    ages = {name: np.flatnonzero(here).tolist() for name, here in by_age(store, rows).items()}
    assert ages == {"age 18 to 44": [0, 3], "age 45 to 64": [4], "age 80 and over": [1]}
    sites = {name: np.flatnonzero(here).tolist() for name, here in by_site(store, rows).items()}
    assert sites == {"site north": [0, 1], "site south": [3, 4]}
    kept, lost = worth_scoring(store, rows, {"age": by_age(store, rows)})
    assert kept == []
    assert [tuple(each) for each in lost] == [
        ("age", "age 18 to 44", "1", "fewer than 20 patients"),
        ("age", "age 45 to 64", "1", "fewer than 20 patients"),
        ("age", "age 80 and over", "1", "fewer than 20 patients"),
    ]


def test_many_groups_that_are_left_out_are_counted(tmp_path: Path) -> None:
    target, x = risks(400)
    store: Any = findings(tmp_path, BINARY, target, {"early": [expit(x)]}, {"early": "fusion"}).stores[0]
    rows = np.arange(0, 400, 2)
    sites = {f"site {i}": np.arange(200) // 5 == i for i in range(40)}
    same = {"alike": target[rows] > 0, "everybody": np.ones(200, bool)}
    kept, lost = worth_scoring(store, rows, {"site": sites, "other": same})
    assert [each.name for each in kept] == ["everybody"]
    assert [tuple(each)[1:] for each in lost] == [
        ("40 groups", "5 to 5 each", "fewer than 20 patients"),
        ("alike", str(int(target[rows].sum())), "only one class: all have the same outcome"),
        ("everybody", "0", "only its rest: everybody is in the group"),
    ]


def test_a_group_with_a_few_cases_only_is_not_scored(tmp_path: Path) -> None:
    target, x = risks(400)
    store: Any = findings(tmp_path, BINARY, target, {"early": [expit(x)]}, {"early": "fusion"}).stores[0]
    rows = np.arange(0, 400, 2)
    few = np.isin(np.arange(200), [*np.flatnonzero(target[rows] > 0)[:4], *np.flatnonzero(target[rows] <= 0)[:30]])
    kept, lost = worth_scoring(store, rows, {"kind": {"few": few}})
    assert kept == []
    assert lost == [("kind", "few", "34", "only 4 patients have another outcome than the others")]


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> Section:
    """For those of one ethnicity, the fusion's risk is noise and twice too low; for nobody the modality's is."""
    target, x = risks(2400)
    rng = np.random.default_rng(0)
    rows = np.arange(0, 2400, 2)
    of = rng.integers(0, 3, 2400)
    bad = np.where(of == 1, rng.permutation(expit(x)) / 2, expit(x))
    found = findings(
        tmp_path_factory.mktemp("toy"),
        BINARY,
        target,
        {"early": [bad], "codes": [expit(x + rng.normal(size=2400))]},
        {"early": "fusion", "codes": "modality"},
        folds=2,
    )
    groups = {
        "ethnicity": {each: of[rows] == i for i, each in enumerate("ABC")},
        "sex": {each: np.arange(1200) // 2 % 2 == i for i, each in enumerate("FM")},
        "site": {"tiny": np.arange(1200) < 6},
    }
    kept, lost = worth_scoring(found.stores[0], rows, groups)
    return report(evidence(found), kept, lost, METRICS["auroc"], "binary")


def by(table: Table, *wanted: str) -> dict[str, Any]:
    return next(dict(zip(table.heads, row, strict=True)) for row in table.rows if set(wanted) <= set(map(str, row)))


def test_a_group_for_which_the_score_is_noise_is_the_gap(noisy: Section) -> None:
    gap = by(noisy.tables["subgroups_gaps"], "ethnicity", "early")
    assert gap["worst"] == "B"
    assert gap["AUROC, worst minus best"].high < -0.15
    assert "early: A (+" in noisy.words[0]
    assert "B (-" in noisy.words[0]
    assert "codes only: no group is shown to differ from all others" in noisy.words[0]
    assert by(noisy.tables["subgroups_against_rest"], "early", "B")["shown?"] == "yes"
    assert by(noisy.tables["subgroups_against_rest"], "early", "F")["shown?"] == "no difference shown"
    row = by(noisy.tables["subgroups"], "B", "early")
    assert row["AUROC"].low < 0.5 < row["AUROC"].high
    assert row["observed / expected"].low > 1.6
    assert by(noisy.tables["subgroups"], "B", "codes only")["observed / expected"].low < 1.1


def test_groups_that_are_each_others_rest_are_one_test(noisy: Section) -> None:
    lines = [row for row in noisy.tables["subgroups_against_rest"].rows if row[0] == "early"]
    female, male = (next(row for row in lines if row[2] == each) for each in "FM")
    assert female[3].value == pytest.approx(-male[3].value)
    assert female[5] == male[5]
    least = min(row[4] for row in lines)
    assert min(row[5] for row in lines) == pytest.approx(4 * least)  # A, B, C, and F with M


def test_who_is_left_out_is_named_with_the_reason(noisy: Section) -> None:
    assert noisy.tables["subgroups_left_out"].rows == [("site", "tiny", "6", "fewer than 20 patients")]
    assert "B, " in noisy.pictures["subgroups"].shows


def test_groups_of_numbers_and_of_labels(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    value = rng.normal(size=400)
    good = np.arange(400) % 4 < 2
    task = Task("regression")
    guess = np.where(good, value, 0) + rng.normal(0, 0.1, 400)
    found = findings(tmp_path, task, value, {"early": [guess]}, {"early": "fusion"})
    rows = np.arange(0, 400, 2)
    kept, lost = worth_scoring(found.stores[0], rows, {"kind": {"good": good[rows], "bad": ~good[rows]}})
    section = report(evidence(found), kept, lost, METRICS["rmse"], "regression")
    assert by(section.tables["subgroups_gaps"], "kind")["worst"] == "bad"
    heads = ["groups by", "group", "patients", "strategy"]
    assert list(section.tables["subgroups"].heads) == [*heads, "RMSE"]
    outcome, x = risks(400)
    both = np.stack([outcome, 1 - outcome], axis=1)
    mixed = np.where(good, x, 0)
    two = np.stack([expit(mixed), expit(-mixed)], axis=1)
    labels = findings(tmp_path, Task("multilabel", ("a", "b")), both, {"early": [two]}, {"early": "fusion"})
    kept, lost = worth_scoring(labels.stores[0], rows, {"kind": {"good": good[rows], "bad": ~good[rows]}})
    section = report(evidence(labels), kept, lost, METRICS["auroc_macro"], "multilabel")
    assert list(section.tables["subgroups"].heads)[4:] == ["AUROC (mean over labels)", "AUPRC (mean over labels)"]
    assert by(section.tables["subgroups"], "bad")["AUROC (mean over labels)"].value == 0.5


def test_attributes_of_synthetic_patients(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, {"codes": "bag", "notes": "bag"}, "early")
    store: Store = open_store(config)
    held_out: Any = SimpleNamespace(rows=store.cohort.rows("held_out"))
    wanted: Any = SimpleNamespace(config=config, stores=[store], held_out=held_out)
    found = attributes(wanted)
    assert set(found) == {"records", "sex", "ethnicity", "age", "site"}
    assert set(found["sex"]) == {"GENDER//F", "GENDER//M"}
    assert np.sum(list(found["age"].values()), axis=0).tolist() == [1] * len(held_out.rows)
    assert any("notes" in name for name in found["records"])
    stated = tiny_config(tmp_path, {"codes": "bag", "notes": "bag"}, "early", subgroups=["LAB//cr"])
    found = attributes(wanted.__class__(config=stated, stores=[store], held_out=held_out))
    assert set(found) == {"records", "LAB//cr", "age", "site"}
    assert set(found["LAB//cr"]) >= {"LAB//creatinine"}
