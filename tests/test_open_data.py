"""Each open data set goes from raw files to a registered model that predicts, with the counts of its README."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import meds
import polars as pl
import pyarrow.parquet as pq
import pytest
from toy_open_data import SETS, count, events, register, rows, write

from experiments import retraining
from experiments.cli import main

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")]
Figures = Mapping[str, tuple[float, Callable[[Path], float]]]  # words of the README, their number, how it is measured

FIGURES: dict[str, Figures] = {
    "mimic-iii-demo": {
        "100 de-identified ICU patients": (100, lambda folder: events(folder)["subject_id"].n_unique()),
        "129 admissions": (129, lambda folder: count(folder, "^HOSPITAL_ADMISSION")),
        "136 ICU stays": (136, lambda folder: count(folder, "^UNIT_ADMISSION")),
        "in-hospital death 40/129": (40, lambda folder: count(folder, "^HOSPITAL_DISCHARGE//dead")),
        "DIAGNOSES_ICD 1,761": (1761, lambda folder: rows(folder)["diagnoses_icd"]),
        "581 ICD-9 codes": (581, lambda folder: codes(folder, "^ICD9CM//")),
        "PROCEDURES_ICD 506": (506, lambda folder: rows(folder)["procedures_icd"]),
        "PRESCRIPTIONS 10,398": (10398, lambda folder: rows(folder)["prescriptions"]),
        "LABEVENTS 76,074": (76074, lambda folder: rows(folder)["labevents"]),
        "CHARTEVENTS 758,355": (758355, lambda folder: rows(folder)["chartevents"]),
        "MICROBIOLOGYEVENTS 2,003": (2003, lambda folder: rows(folder)["microbiologyevents"]),
    },
    "mimic-iv-demo": {
        "100 de-identified patients": (100, lambda folder: events(folder)["subject_id"].n_unique()),
        "275 admissions": (275, lambda folder: count(folder, "^HOSPITAL_ADMISSION")),
        "140 ICU stays": (140, lambda folder: count(folder, "^UNIT_ADMISSION")),
        "in-hospital death 15/275": (15, lambda folder: count(folder, "^HOSPITAL_DISCHARGE//died")),
        "diagnoses_icd 4,506": (4506, lambda folder: rows(folder)["diagnoses_icd"]),
        "740 ICD-9 and 734 ICD-10 codes": (740, lambda folder: codes(folder, "^ICD9CM//")),
        "734 ICD-10 codes": (734, lambda folder: codes(folder, "^ICD10CM//")),
        "procedures_icd 722": (722, lambda folder: rows(folder)["procedures_icd"]),
        "prescriptions 18,087": (18087, lambda folder: rows(folder)["prescriptions"]),
        "microbiologyevents 2,899": (2899, lambda folder: rows(folder)["microbiologyevents"]),
        "omr 2,964": (2964, lambda folder: rows(folder)["omr"]),
    },
    "eicu-demo": {
        "1,841 patients": (1841, lambda folder: events(folder)["subject_id"].n_unique()),
        "2,174 hospital stays": (2174, lambda folder: count(folder, "^HOSPITAL_ADMISSION")),
        "186 hospitals": (186, lambda folder: events(folder)["site"].n_unique()),
        "1,091 path strings": (1091, lambda folder: codes(folder, "^DX//")),
        "835 ICD codes": (835, lambda folder: codes(folder, "^ICD")),
        "died 182/2,174": (182, lambda folder: count(folder, "^HOSPITAL_DISCHARGE//Death")),
        "died in the unit 126": (126, lambda folder: count(folder, "^UNIT_DISCHARGE//Death")),
    },
    "covid-chestxray": {
        "249 images": (249, lambda folder: count(folder, "^IMAGE//")),
        "148 patients": (148, lambda folder: events(folder)["subject_id"].n_unique()),
    },
    "mts-dialog": {
        "1,701 short doctor-patient conversations": (1701, lambda folder: count(folder, "^NOTE//")),
        "20 headings": (20, lambda folder: labels(folder, "section")["categorical_value"].n_unique()),
    },
    "yaib-demo": {
        "mortality24 (first 25 h) | 1,367": (1367, lambda folder: events(folder)["subject_id"].n_unique()),
        "5.1 %": (5.1, lambda folder: round(100 * labels(folder, "died")["boolean_value"].cast(int).mean(), 1)),
        "48 channels": (48, lambda folder: codes(folder, r"^YAIB//[^ahw]|^YAIB//(alb|alp|alt|ast|hgb|hr|wbc)$")),
    },
}


def codes(folder: Path, pattern: str) -> int:
    return events(folder).filter(pl.col("code").str.contains(pattern))["code"].n_unique()


def labels(folder: Path, name: str) -> pl.DataFrame:
    return pl.read_parquet(folder / "labels" / f"{name}.parquet")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder of runs for all sets, so that the registry is made once."""
    return tmp_path_factory.mktemp("open") / "runs"


@pytest.mark.parametrize("source", SETS)
def test_from_raw_files_to_a_registered_model_with_the_counts_of_the_readme(
    source: str, shared_data: Path, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    each, folder = SETS[source], tmp_path / "data"
    if not (shared_data / source).is_dir():
        pytest.skip(f"{source} is not among the open data here ({shared_data})")
    write(each, shared_data, folder)
    readme = " ".join((shared_data / source / "README.md").read_text(encoding="utf-8").split())
    for words, (number, measured) in FIGURES[source].items():
        assert words in readme
        assert f"{number:,}" in words
        assert measured(folder) == number, words
    for shard in (folder / "data").glob("*.parquet"):
        meds.DataSchema.validate(pq.read_table(shard))
    meds.LabelSchema.validate(pq.read_table(folder / "labels" / f"{each.label}.parquet"))
    monkeypatch.setattr(retraining, "run_jobs", lambda work, jobs, *_: [work(job) for job in jobs])  # here, not beside
    register(each, folder, runs)
    out = tmp_path / "predictions.parquet"
    model = ["predict", f"models:/{source}@champion", str(folder), "--labels", each.label]
    assert main([*model, "-o", str(out), "--runs", str(runs)]) == 0
    assert pl.read_parquet(out, columns=["subject_id"]).height == labels(folder, each.label).height
