"""The MIMIC converters: exact times and codes on hand-made tables, and when each fact was known."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from toy_eicu import events
from toy_mimic import (
    ANNA,
    BERT,
    ENTERED,
    mimic3,  # noqa: F401 - fixtures
    mimic4,  # noqa: F401 - fixtures
    put,
)

from experiments.data.folder import open_dataset
from experiments.sources.mimic import convert_mimic

HOUR = timedelta(hours=1)


def hours(folder: Path, subject: int, prefix: str) -> list[tuple[float, str, float | None]]:
    """Return (hours after Anna entered the unit, code, value) of a subject's events."""
    rows = events(folder, subject, prefix).select("time", "code", "numeric_value").iter_rows()
    return [((time - ENTERED) / HOUR, code, value) for time, code, value in rows]


def test_labels_count_everybody_left_out(mimic4: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    summary = convert_mimic(mimic4, out, 4)
    labels = pl.read_parquet(out / "labels" / "hospital_mortality.parquet").rows()
    assert labels == [(ANNA, datetime(2150, 1, 2, 12), False), (BERT, datetime(2150, 3, 2, 12), True)]
    long = pl.read_parquet(out / "labels" / "unit_stay_over_3_days.parquet")["boolean_value"].to_list()
    assert long == [True, False]
    steps = json.loads((out / "cohort.json").read_text())["labels"]["hospital_mortality"]
    assert [step["n"] for step in steps] == [3, 3, 3, 3, 2, 2, 2, 2, 2]
    assert summary["missing_tables"][:2] == ["diagnoses_icd", "procedures_icd"]
    convert_mimic(mimic4, tmp_path / "late", 4, hours=48)
    late = pl.read_parquet(tmp_path / "late" / "labels" / "hospital_mortality.parquet").rows()
    assert late == [(ANNA, datetime(2150, 1, 3, 12), False)]


def test_age_of_the_very_old_is_no_three_hundred_years(mimic3: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    summary = convert_mimic(mimic3, out, 3)
    born = dict(events(out, prefix="MEDS_BIRTH").select("subject_id", "time").iter_rows())
    assert born[ANNA] == datetime(2100, 1, 1)
    assert (datetime(2150, 2, 1, 10) - born[BERT]) / timedelta(days=365.25) == pytest.approx(91.4, abs=0.01)
    assert summary["over_89"] == 1
    assert events(out, BERT, "MEDS_DEATH")["time"].to_list() == [datetime(2150, 3, 4, 9)]


def test_billing_codes_are_known_when_the_patient_has_left(mimic4: Path, tmp_path: Path) -> None:
    out, stay = tmp_path / "out", {"subject_id": ANNA, "hadm_id": 1}
    codes = [("I5023", 10), ("4280", 9), ("V4581", 9), ("E9802", 9), ("nonsense", 10)]
    put(mimic4, 4, "diagnoses_icd", [stay | {"icd_code": code, "icd_version": number} for code, number in codes])
    procedures = [("02703ZZ", 10), ("3605", 9)]
    rows = [stay | {"icd_code": code, "icd_version": number, "chartdate": "2150-01-01"} for code, number in procedures]
    put(mimic4, 4, "procedures_icd", rows)
    summary = convert_mimic(mimic4, out, 4)
    assert hours(out, ANNA, "ICD") == [
        (120, "ICD10CM//I50.23", None),
        (120, "ICD10PCS//02703ZZ", None),
        (120, "ICD9CM//428.0", None),
        (120, "ICD9CM//E980.2", None),
        (120, "ICD9CM//V45.81", None),
        (120, "ICD9PROC//36.05", None),
    ]
    assert summary["tables"]["diagnoses_icd"] == {"rows": 5, "facts": 5, "events": 4, "left_out": {"no ICD code": 1}}
    edges = {(edge.head, edge.tail) for edge in open_dataset(out).knowledge().edges}
    assert {("ICD10CM//I50.23", "ICD10CM//I50.2"), ("ICD10PCS//02703ZZ", "ICD10PCS//027")} <= edges


def test_nothing_coded_in_a_stay_is_before_its_prediction(mimic3: Path, tmp_path: Path) -> None:
    out, stay = tmp_path / "out", {"subject_id": BERT, "hadm_id": 3}
    put(mimic3, 3, "diagnoses_icd", [stay | {"icd9_code": "0389"}])
    put(mimic3, 3, "cptevents", [stay | {"cpt_cd": "99254", "chartdate": "2150-03-01 00:00:00"}])
    culture = {"spec_type_desc": "URINE", "org_name": "E. COLI", "ab_name": "", "interpretation": ""}
    put(mimic3, 3, "microbiologyevents", [stay | culture])
    convert_mimic(mimic3, out, 3)
    died = datetime(2150, 3, 4, 9)  # the discharge of that day bears no hour, the death does
    found = events(out, BERT).filter(pl.col("code").str.contains("ICD9CM|CPT|MICRO"))
    assert found["time"].to_list() == [died] * 3
    assert found["code"].to_list() == ["CPT//99254", "ICD9CM//038.9", "MICRO//urine|e. coli"]


def test_chart_values_in_one_unit_and_what_cannot_be_is_counted(mimic4: Path, tmp_path: Path) -> None:
    out, row = tmp_path / "out", {"subject_id": ANNA, "charttime": "2150-01-01 13:00:00"}
    values = [(223761, 98.6), (223762, 98.6), (223762, 37.5), (226531, 100), (226707, 70), (190, 0.4), (223835, 50)]
    wrong = [(220045, 999), (220045, ""), (223762, 12), (1, 5)]
    stored = row | {"storetime": "2150-01-01 14:00:00"}
    put(mimic4, 4, "chartevents", [stored | {"itemid": item, "valuenum": value} for item, value in values + wrong])
    summary = convert_mimic(mimic4, out, 4)
    found = [
        (time, code.removeprefix("VITAL//"), round(value or 0, 2)) for time, code, value in hours(out, ANNA, "VITAL")
    ]
    assert found == [
        *[(2, "fio2", 40.0), (2, "fio2", 50.0), (2, "height", 177.8), (2, "temperature", 37.0)],
        *[(2, "temperature", 37.5), (2, "weight", 45.36)],
    ]
    counts = summary["tables"]["chartevents"]
    assert counts["left_out"] == {
        "no numeric value": 1,
        "not among the vital signs that are taken": 1,
        "outside what is plausible: VITAL//heart_rate": 1,
        "outside what is plausible: VITAL//temperature": 1,
        "says what another row says": 1,
    }


def test_laboratory_values_count_from_their_storage(mimic4: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    row = {"subject_id": ANNA, "charttime": "2150-01-01 13:00:00", "storetime": "2150-01-01 15:00:00"}
    rows = [(50912, 1.5, "mg/dL"), (51000, 7, "mg/dL"), (50912, "", "mg/dL"), (50912, -3, "mg/dL")]
    put(mimic4, 4, "labevents", [row | {"itemid": i, "valuenum": v, "valueuom": u} for i, v, u in rows])
    put(mimic4, 4, "d_labitems", [{"itemid": 51000, "label": "Odd, Thing", "fluid": "Urine"}])
    convert_mimic(mimic4, out, 4)
    assert hours(out, ANNA, "LAB") == [(3, "LAB//creatinine", 1.5), (3, "LAB//odd_thing_urine", 7.0)]


def test_drugs_and_infusions_count_from_when_they_were_entered(mimic4: Path, tmp_path: Path) -> None:
    out, who = tmp_path / "out", {"subject_id": ANNA}
    order = who | {"starttime": "2150-01-01 14:00:00", "drug": "Heparin  Sodium"}
    put(mimic4, 4, "prescriptions", [order | {"pharmacy_id": 1}, order | {"pharmacy_id": 2, "drug": "Aspirin"}])
    put(mimic4, 4, "pharmacy", [who | {"pharmacy_id": 1, "entertime": "2150-01-01 14:30:00"}])
    run = who | {
        "starttime": "2150-01-01 13:00:00",
        "endtime": "2150-01-01 16:00:00",
        "storetime": "2150-01-01 13:30:00",
    }
    drip = run | {"itemid": 5, "rate": 2.5, "rateuom": "mcg/kg/min", "amount": 9, "amountuom": "mg"}
    push = run | {"itemid": 6, "rate": "", "rateuom": "", "amount": 9, "amountuom": "mg"}
    rows = [drip, push, drip | {"itemid": 7}]
    states = ("FinishedRunning", "FinishedRunning", "Rewritten")
    rows = [row | {"statusdescription": state} for row, state in zip(rows, states, strict=True)]
    put(mimic4, 4, "inputevents", rows)
    put(mimic4, 4, "d_items", [{"itemid": 5, "label": "Propofol"}, {"itemid": 6, "label": "Midazolam"}])
    summary = convert_mimic(mimic4, out, 4)
    assert hours(out, ANNA, "DRUG") == [(2, "DRUG//NAME//aspirin", None), (2.5, "DRUG//NAME//heparin sodium", None)]
    assert hours(out, ANNA, "INFUSION") == [
        (1.5, "INFUSION//propofol (mcg/kg/min)", 2.5),
        (4, "INFUSION//midazolam (mg)", 9.0),
    ]
    assert summary["tables"]["inputevents"]["left_out"] == {"rewritten by another row": 1}
    assert summary["tables"]["pharmacy"]["left_out"] == {"says when prescriptions were entered": 1}


def test_notes_count_from_storage_and_summaries_from_the_end_of_the_stay(mimic3: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    note = {"subject_id": ANNA, "hadm_id": 1, "chartdate": "2150-01-01", "charttime": "", "storetime": ""}
    rows = [
        {"category": "Nursing/other", "charttime": "2150-01-01 13:00:00", "storetime": "2150-01-01 17:00:00"},
        {"category": "ECG"},
        {"category": "Discharge summary"},
        {"category": "Physician ", "iserror": 1},
        {"category": "Radiology", "text": "  "},
    ]
    put(mimic3, 3, "noteevents", [note | {"iserror": "", "text": "words,\nmore"} | row for row in rows])
    summary = convert_mimic(mimic3, out, 3)
    assert hours(out, ANNA, "NOTE//") == [
        (5, "NOTE//nursing_other", None),
        (12 - 1 / 3600, "NOTE//ecg", None),
        (120, "NOTE//discharge_summary", None),
    ]
    assert events(out, ANNA, "NOTE//")["text_value"].unique().to_list() == ["words,\nmore"]
    assert summary["tables"]["noteevents"]["left_out"] == {"marked as an error": 1, "no text": 1}


def test_emergency_department_counts_from_arrival_and_its_codes_from_the_end(mimic4: Path, tmp_path: Path) -> None:
    out, visit = tmp_path / "out", {"subject_id": ANNA, "stay_id": 7}
    times = {"hadm_id": 1, "intime": "2150-01-01 08:00:00", "outtime": "2150-01-01 11:00:00"}
    put(mimic4, 4, "edstays", [visit | times | {"arrival_transport": "WALK IN", "disposition": "ADMITTED"}])
    vitals = dict.fromkeys(("resprate", "o2sat", "sbp", "dbp"), "") | {"heartrate": 80, "temperature": 98.6}
    put(mimic4, 4, "triage", [visit | vitals | {"acuity": 2, "chiefcomplaint": "Dyspnea"}])
    put(mimic4, 4, "diagnosis", [visit | {"icd_code": "R0600", "icd_version": 10}])
    summary = convert_mimic(mimic4, out, 4)
    assert hours(out, ANNA, "VITAL") == [(-4, "VITAL//heart_rate", 80.0), (-4, "VITAL//temperature", 37.0)]
    assert hours(out, ANNA, "ED_") == [(-4, "ED_ARRIVAL//walk in", None), (-1, "ED_DISCHARGE//admitted", None)]
    assert hours(out, ANNA, "ICD") == [(120, "ICD10CM//R06.00", None)]
    assert hours(out, ANNA, "TRIAGE") == [(-4, "TRIAGE//acuity", 2.0)]
    assert summary["tables"]["triage"] == {"rows": 1, "facts": 4, "events": 4, "left_out": {}}
