"""The eICU converter: exact times and codes on hand-made tables."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
from toy_eicu import (
    ADMITTED,
    ANNA,
    BERT,
    MINUTE,
    events,
    minutes,
    tables,  # noqa: F401 - fixtures
    write_table,
)

from encoders.records import Edge
from experiments.data.folder import open_dataset
from experiments.sources.eicu import convert_eicu


def test_patient_table_alone_gives_stays_outcomes_and_labels(tables: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    summary = convert_eicu(tables, out)
    assert summary["unit_stays"] == 7
    assert summary["patients"] == 3
    assert "diagnosis" in summary["missing_tables"]
    assert "lab" in summary["missing_tables"]
    assert minutes(out, ANNA, "UNIT_ADMISSION") == [
        (0, "UNIT_ADMISSION//unknown", None),
        (3000, "UNIT_ADMISSION//unknown", None),
    ]
    assert minutes(out, ANNA, "UNIT_DISCHARGE") == [
        (2000, "UNIT_DISCHARGE//unknown", None),
        (8000, "UNIT_DISCHARGE//unknown", None),
    ]
    assert minutes(out, ANNA, "MEDS_DEATH") == [(9000, "MEDS_DEATH", None)]
    static = events(out, ANNA).filter(pl.col("time").is_null()).select("code", "numeric_value").rows()
    assert static == [("AGE", 90.0), ("GENDER//F", None)]


def test_labels_leave_out_stays_of_unknown_order_and_short_ones(tables: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    convert_eicu(tables, out)
    labels = pl.read_parquet(out / "labels" / "hospital_mortality.parquet")
    day = timedelta(days=1)
    anna = [(ANNA, ADMITTED + day, True), (ANNA, ADMITTED + 3000 * MINUTE + day, True)]
    bert = [(BERT, datetime(2014, 1, 2), False), (BERT, datetime(2015, 1, 2), False)]
    assert labels.rows() == anna + bert
    long = pl.read_parquet(out / "labels" / "unit_stay_over_3_days.parquet")
    assert long["boolean_value"].to_list() == [False, True, False, True]
    steps = json.loads((out / "cohort.json").read_text())["labels"]["hospital_mortality"]
    assert [step["n"] for step in steps] == [7, 5, 5, 4, 4, 4, 4, 4]
    assert [step.get("left_out") for step in steps] == [None, 2, 0, 1, 0, 0, 0, None]


def test_a_stay_of_unknown_order_is_never_before_a_prediction(tables: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    rows = [
        {"patientunitstayid": stay, "diagnosisoffset": 5, "diagnosisstring": f"d{stay}", "icd9code": ""}
        for stay in (21, 22, 23, 24)
    ]
    write_table(tables, "diagnosis", rows)
    convert_eicu(tables, out)
    last = (
        pl.read_parquet(out / "labels" / "hospital_mortality.parquet")
        .filter(pl.col("subject_id") == BERT)["prediction_time"]
        .max()
    )
    seen = events(out, BERT, "DX//").filter(pl.col("time") <= last)["code"].to_list()
    assert seen == ["DX//d21", "DX//d22"]


def test_exact_times_and_codes_of_the_clinical_tables(tables: Path, tmp_path: Path) -> None:
    out, stay = tmp_path / "out", {"patientunitstayid": 11}
    write_table(
        tables,
        "diagnosis",
        [stay | {"diagnosisoffset": 7, "diagnosisstring": "pulmonary|sepsis", "icd9code": "038.9, A41.9, 038.9"}],
    )
    drug = {
        "drugordercancelled": "No",
        "drugname": "",
        "drughiclseqno": 182,
        "drugorderoffset": 100,
        "drugstartoffset": -30,
    }
    named = {
        "drughiclseqno": "",
        "drugname": "5 ML VIAL : DILTIAZEM HCL 25 MG/5ML IV SOLN",
        "drugorderoffset": 5,
        "drugstartoffset": 90,
    }
    write_table(
        tables,
        "medication",
        [stay | drug, stay | drug | named, stay | drug | {"drugordercancelled": "Yes", "drughiclseqno": 9}],
    )
    write_table(
        tables, "infusiondrug", [stay | {"infusionoffset": 20, "drugname": "Propofol (mcg/kg/min)", "drugrate": "12.5"}]
    )
    write_table(tables, "treatment", [stay | {"treatmentoffset": 1, "treatmentstring": "pulmonary|ventilation"}])
    write_table(
        tables, "admissiondx", [stay | {"admitdxenteredoffset": 30, "admitdxpath": "admission diagnosis|Elective|Yes"}]
    )
    write_table(tables, "allergy", [stay | {"allergyenteredoffset": 3, "allergyname": "Penicillin"}])
    apache = dict.fromkeys(
        [
            "intubated",
            "vent",
            "dialysis",
            "eyes",
            "motor",
            "verbal",
            "meds",
            "urine",
            "wbc",
            "temperature",
            "respiratoryrate",
            "sodium",
            "heartrate",
            "meanbp",
            "ph",
            "hematocrit",
            "creatinine",
            "albumin",
            "pao2",
            "pco2",
            "bun",
            "glucose",
            "bilirubin",
            "fio2",
        ],
        -1,
    )
    write_table(tables, "apacheapsvar", [stay | apache | {"wbc": 10.5, "vent": 0}])
    convert_eicu(tables, out)
    assert minutes(out, ANNA, "DX//") == [(7, "DX//pulmonary|sepsis", None)]
    assert minutes(out, ANNA, "ICD") == [(7, "ICD10CM//A41.9", None), (7, "ICD9CM//038.9", None)]
    assert minutes(out, ANNA, "DRUG//") == [(5, "DRUG//NAME//diltiazem hcl", None), (100, "DRUG//HICL//182", None)]
    assert minutes(out, ANNA, "INFUSION//") == [(20, "INFUSION//propofol (mcg/kg/min)", 12.5)]
    assert minutes(out, ANNA, "TREATMENT//") == [(1, "TREATMENT//pulmonary|ventilation", None)]
    assert minutes(out, ANNA, "ADMISSION_DX//") == [(30, "ADMISSION_DX//Elective|Yes", None)]
    assert minutes(out, ANNA, "ALLERGY//") == [(3, "ALLERGY//penicillin", None)]
    assert minutes(out, ANNA, "APACHE//") == [(1440, "APACHE//vent", 0.0), (1440, "APACHE//wbc", 10.5)]
    edges = open_dataset(out).knowledge().edges
    assert Edge("DX//pulmonary|sepsis", "coded_as", "ICD10CM//A41.9") in edges
    assert Edge("DX//pulmonary|sepsis", "is_a", "DX//pulmonary") in edges
    assert Edge("ICD10CM//A30-A49", "is_a", "ICD10CM//A00-B99") in edges
    assert Edge("INFUSION//propofol (mcg/kg/min)", "is_a", "INFUSION//propofol") in edges


def test_notes_and_examinations_count_from_their_entry(tables: Path, tmp_path: Path) -> None:
    out, stay, root = tmp_path / "out", {"patientunitstayid": 11}, "notes/Progress Notes/"
    entry = stay | {"noteoffset": 10, "noteenteredoffset": 900, "notetype": "Admission"}
    texts = [
        ("Social History/Ethanol Use/none", "none"),
        ("Social History/Ethanol Use/none", "none"),
        ("Assessment and Plan/View Options/System View", "System View"),
        ("Family History/Family History/CAD/CAD", "CAD"),
    ]
    write_table(
        tables,
        "note",
        [
            entry | {"noteid": i, "notepath": root + path, "notevalue": text, "notetext": text}
            for i, (path, text) in enumerate(texts)
        ],
    )
    exam = root + "Physical Exam/Physical Exam/"
    found = [
        ("Neurologic/GCS/Motor Score/6", "6", "6", 10),
        ("Constitutional/HR/HR Current", "HR Current", "88", 10),
        ("Neurologic/Affect/calm/appropriate", "calm/appropriate", "calm/appropriate", 40),
    ]
    write_table(
        tables,
        "physicalExam",
        [
            stay
            | {
                "physicalexamoffset": offset,
                "physicalexampath": exam + path,
                "physicalexamvalue": value,
                "physicalexamtext": text,
            }
            for path, value, text, offset in found
        ],
    )
    past = stay | {"pasthistoryenteredoffset": 50, "pasthistoryoffset": 2}
    said = [
        ("Organ Systems/Hematology/Oncology (R)/Cancer/breast", "breast"),
        ("Past History Obtain Options/Performed", "Performed"),
    ]
    write_table(
        tables,
        "pasthistory",
        [
            past
            | {
                "pasthistoryid": i,
                "pasthistorypath": root + "Past History/" + path,
                "pasthistoryvalue": text,
                "pasthistoryvaluetext": text,
            }
            for i, (path, text) in enumerate(said)
        ],
    )
    convert_eicu(tables, out)
    notes = [
        ((time - ADMITTED) / MINUTE, code, text)
        for time, code, text in events(out, ANNA, "NOTE//").select("time", "code", "text_value").iter_rows()
    ]
    assert notes == [
        (50, "NOTE//past_history", "Past history: Cancer: breast."),
        (900, "NOTE//admission", "Admission note.\nEthanol Use: none.\nFamily History: CAD."),
    ]
    assert minutes(out, ANNA, "HISTORY//") == [(50, "HISTORY//Hematology/Oncology (R)|Cancer|breast", None)]
    assert minutes(out, ANNA, "EXAM//") == [
        (40, "EXAM//Neurologic|Affect|calm/appropriate", None),
        (900, "EXAM//Constitutional|HR|HR Current", 88.0),
        (900, "EXAM//Neurologic|GCS|Motor Score", 6.0),
    ]


def test_full_release_has_laboratory_and_monitor_tables(tables: Path, tmp_path: Path) -> None:
    out, stay = tmp_path / "out", {"patientunitstayid": 11}
    lab = {"labresultoffset": 5, "labresultrevisedoffset": 65, "labresult": 1.5, "labmeasurenamesystem": "mg/dL"}
    write_table(
        tables,
        "lab",
        [
            stay | lab | {"labname": "creatinine"},
            stay | lab | {"labname": "Vancomycin - trough"},
            stay | lab | {"labname": "BUN", "labresult": ""},
        ],
    )
    empty = dict.fromkeys(
        [
            "temperature",
            "sao2",
            "heartrate",
            "respiration",
            "cvp",
            "etco2",
            "systemicsystolic",
            "systemicdiastolic",
            "systemicmean",
            "pasystolic",
            "padiastolic",
            "pamean",
            "icp",
        ],
        "",
    )
    write_table(
        tables,
        "vitalPeriodic",
        [
            stay | empty | {"observationoffset": at, "heartrate": rate}
            for at, rate in ((60, 80), (65, 90), (119, 100), (120, 60))
        ],
    )
    chart = {"nursingchartoffset": 10, "nursingchartentryoffset": 130}
    write_table(
        tables,
        "nurseCharting",
        [
            stay | chart | {"nursingchartcelltypevalname": name, "nursingchartvalue": value}
            for name, value in (("GCS Total", "14"), ("GCS Total", "unable"), ("Pain Score", "3"))
        ],
    )
    summary = convert_eicu(tables, out)
    assert minutes(out, ANNA, "LAB//") == [(65, "LAB//creatinine", 1.5), (65, "LAB//vancomycin_trough", 1.5)]
    assert minutes(out, ANNA, "VITAL//heart_rate") == [
        (119, "VITAL//heart_rate", 90.0),
        (120, "VITAL//heart_rate", 60.0),
    ]
    assert minutes(out, ANNA, "VITAL//gcs") == [(130, "VITAL//gcs", 14.0)]
    assert summary["tables"]["vitalPeriodic"]["rows"] == 4
    assert not {"lab", "vitalPeriodic", "nurseCharting"} & set(summary["missing_tables"])
