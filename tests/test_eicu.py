"""The eICU converter: exact times on hand-made tables, counts and leaks on the demo."""

from __future__ import annotations

import gzip
import json
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import meds
import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from encoders.records import Edge
from experiments.config import DataConfig
from experiments.data.cohort import load_cohort
from experiments.data.folder import open_dataset
from experiments.data.reader import iterate_records
from experiments.sources.eicu import convert_eicu
from experiments.sources.eicu.drugs import drug_name
from experiments.sources.eicu.notes import phrase
from experiments.sources.eicu.stays import PATIENT
from experiments.sources.icd import icd_code, icd_parent
from fusion.component import UsageError

MINUTE = timedelta(minutes=1)

# Anna: one hospital stay with two unit stays. Bert: a hospital stay in 2014 and two of unknown order in 2015.
# Carl dies in the unit within a day.
STAYS = [
    # stay, hospital stay, patient, sex, age, hospital, admitted, left hospital, status, visit, left unit, year
    (11, 1, "a-1", "Female", "> 89", 7, -60, 9000, "Expired", 1, 2000, 2014),
    (12, 1, "a-1", "Female", "> 89", 7, -3060, 6000, "Expired", 2, 5000, 2014),
    (21, 2, "b-1", "Male", "50", 7, 0, 5000, "Alive", 1, 4000, 2014),
    (22, 3, "b-1", "Male", "51", 8, 0, 5000, "Alive", 1, 4321, 2015),
    (23, 4, "b-1", "Male", "51", 8, 0, 900, "Alive", 1, 800, 2015),
    (24, 5, "b-1", "Male", "51", 8, 0, 5000, "Expired", 1, 4000, 2015),
    (31, 6, "c-1", "", "", 9, -10, 700, "Expired", 1, 700, 2015),
]
_NAMES = (
    "patientunitstayid patienthealthsystemstayid uniquepid gender age hospitalid hospitaladmitoffset "
    "hospitaldischargeoffset hospitaldischargestatus unitvisitnumber unitdischargeoffset hospitaldischargeyear"
)
ANNA, BERT, CARL = 1, 2, 3
ADMITTED = datetime(2014, 1, 1) + 60 * MINUTE  # Anna's first unit stay


def write_table(folder: Path, name: str, rows: list[dict[str, Any]], *, packed: bool = True) -> Path:
    path = folder / (f"{name}.csv.gz" if packed else f"{name}.csv")
    text = pl.DataFrame(rows, infer_schema_length=None).write_csv()
    path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    return path


def write_patients(folder: Path, **changes: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rows = [dict.fromkeys(PATIENT, "") | dict(zip(_NAMES.split(), stay, strict=True)) for stay in STAYS]
    write_table(folder, "patient", [row | changes for row in rows], packed=False)


def events(folder: Path, subject: int | None = None, prefix: str = "") -> pl.DataFrame:
    table = pl.read_parquet(folder / "data" / "*.parquet")
    table = table.filter(pl.col("code").str.starts_with(prefix))
    return table if subject is None else table.filter(pl.col("subject_id") == subject)


def minutes(folder: Path, subject: int, prefix: str, start: datetime = ADMITTED) -> list[tuple[float, str, Any]]:
    """Return (minutes after a moment, code, value) of a subject's events."""
    rows = events(folder, subject, prefix).select("time", "code", "numeric_value").iter_rows()
    return [((time - start) / MINUTE, code, value) for time, code, value in rows]


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    src = tmp_path / "source"
    write_patients(src)
    return src


@pytest.fixture(scope="session")
def demo(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("eicu") / "data"
    return out, convert_eicu(shared_data / "eicu-demo", out, patients_per_shard=1000)


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


def test_hourly_values_are_known_at_the_end_of_their_hour(tables: Path, tmp_path: Path) -> None:
    out, yaib = tmp_path / "out", tmp_path / "yaib"
    yaib.mkdir()
    hours = pl.Series([timedelta(hours=23), timedelta(hours=24)], dtype=pl.Duration("ms"))
    pl.DataFrame({"stay_id": [11, 11], "time": hours, "hr": [80.0, 90.0], "crea": [float("nan"), None]}).write_parquet(
        yaib / "dyn.parquet"
    )
    summary = convert_eicu(tables, out, yaib=yaib)
    assert minutes(out, ANNA, "VITAL//heart") == [(1440, "VITAL//heart_rate", 80.0), (1500, "VITAL//heart_rate", 90.0)]
    assert summary["tables"]["yaib"] == {"rows": 2, "kept": 2}
    with pytest.raises(UsageError, match=r"nowhere.dyn\.parquet is missing"):
        convert_eicu(tables, tmp_path / "other", yaib=tmp_path / "nowhere")


def test_events_never_fall_into_another_hospital_stay(tables: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    rows = [
        {"patientunitstayid": 22, "treatmentoffset": offset, "treatmentstring": f"t{offset}"}
        for offset in (-99_999_999, 10, 99_999_999)
    ]
    write_table(tables, "treatment", rows)
    summary = convert_eicu(tables, out)
    start = datetime(2015, 1, 1)
    assert minutes(out, BERT, "TREATMENT//", start) == [
        (0, "TREATMENT//t-99999999", None),
        (10, "TREATMENT//t10", None),
    ]
    assert summary["events_out_of_time"] == 1


def test_missing_and_wrong_tables_are_one_clear_line_and_leave_nothing(tmp_path: Path) -> None:
    src, out = tmp_path / "source", tmp_path / "out"
    with pytest.raises(UsageError, match="is no folder"):
        convert_eicu(src, out)
    src.mkdir()
    with pytest.raises(UsageError, match=r"patient\.csv or patient\.csv\.gz is missing"):
        convert_eicu(src, out)
    write_patients(src)
    (src / "allergy.csv").write_text("patientunitstayid,allergyenteredoffset\n11,5\n")
    with pytest.raises(UsageError, match=r"allergy\.csv: missing column 'allergyname'; got patientunitstayid"):
        convert_eicu(src, out)
    (src / "allergy.csv").write_text("patientunitstayid,allergyenteredoffset,allergyname\n11,5,x\n11,soon,secret\n")
    with pytest.raises(
        UsageError, match=r"allergy\.csv: row 3: column 'allergyenteredoffset' must be integer"
    ) as caught:
        convert_eicu(src, out)
    assert "secret" not in str(caught.value)
    assert "soon" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_damaged_archive_and_repeated_stay_are_named(tables: Path, tmp_path: Path) -> None:
    path = write_table(
        tables,
        "allergy",
        [{"patientunitstayid": 11, "allergyenteredoffset": i, "allergyname": f"a{i}"} for i in range(999)],
    )
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(UsageError, match=r"allergy\.csv\.gz"):
        convert_eicu(tables, tmp_path / "out")
    path.unlink()
    text = (tables / "patient.csv").read_text()
    (tables / "patient.csv").write_text(text + text.splitlines()[-1] + "\n")
    with pytest.raises(UsageError, match=r"patient\.csv: row 9: 'patientunitstayid' repeats a unit stay"):
        convert_eicu(tables, tmp_path / "out")


def test_an_existing_folder_is_kept_unless_told_otherwise(tables: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("keep")
    with pytest.raises(UsageError, match="exists"):
        convert_eicu(tables, out)
    assert (out / "mine.txt").read_text() == "keep"
    convert_eicu(tables, out, overwrite=True)
    assert not (out / "mine.txt").exists()


def test_same_source_gives_the_same_folder_whatever_the_shards(tables: Path, tmp_path: Path) -> None:
    convert_eicu(tables, tmp_path / "one")
    convert_eicu(tables, tmp_path / "two", patients_per_shard=1)
    assert len(list((tmp_path / "two" / "data").glob("*.parquet"))) == 3
    assert events(tmp_path / "one").equals(events(tmp_path / "two"))
    names = ("metadata/codes.parquet", "metadata/subject_splits.parquet", "labels/hospital_mortality.parquet")
    assert all((tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes() for name in names)


@settings(max_examples=25, deadline=None)
@given(
    st.from_regex(r"[A-TV-Z][0-9][0-9](\.[0-9]{1,4})?", fullmatch=True)
    | st.from_regex(r"[0-9]{3}(\.[0-9]{1,2})?", fullmatch=True)
)
def test_every_icd_code_climbs_to_an_end(text: str) -> None:
    code, steps = icd_code(text), 0
    while code is not None:
        code, steps = icd_parent(code), steps + 1
    assert 1 <= steps <= 8


def test_icd_blocks_and_chapters() -> None:
    climb = ["ICD9CM//428.23"]
    while (above := icd_parent(climb[-1])) is not None:
        climb.append(above)
    assert climb == ["ICD9CM//428.23", "ICD9CM//428.2", "ICD9CM//428", "ICD9CM//420-429", "ICD9CM//390-459"]
    assert icd_parent("ICD9CM//V45") == "ICD9CM//V01-V91"
    assert icd_parent("ICD10CM//W06") == "ICD10CM//W00-W19"
    assert icd_parent("ICD10CM//W00-W19") == "ICD10CM//V00-Y99"
    assert icd_parent("ICD9PROC//31.1") == "ICD9PROC//31"


def test_phrases_and_drug_names() -> None:
    assert phrase("notes/Shared/View and Save/Save Options/Print/Copies/Copies", "Copies", "1") is None
    assert (
        phrase(
            "notes/Progress Notes/Family History Obtain Options/Not Significant", "Not Significant", "NotSignificant"
        )
        == "Family History Obtain Options: Not Significant"
    )
    names = [
        "SODIUM CHLORIDE 0.9 % IV : 1000 ML",
        "ASPIRIN EC 81 MG PO TBEC",
        "Norepinephrine (mcg/min)",
        "500 ML  -  DEXTROSE 5 % IV",
    ]
    assert pl.DataFrame({"n": names}).select(drug_name(pl.col("n"))).to_series().to_list() == [
        "sodium chloride",
        "aspirin ec",
        "norepinephrine",
        "dextrose",
    ]


def test_demo_counts_are_those_of_the_release(demo: tuple[Path, dict[str, Any]]) -> None:
    out, summary = demo
    wanted = {"patients": 1841, "hospital_stays": 2174, "unit_stays": 2520, "hospitals": 186, "died_in_hospital": 212}
    assert {name: summary[name] for name in wanted} == wanted
    assert summary["missing_tables"] == ["lab", "vitalPeriodic", "nurseCharting"]
    table = events(out)
    assert table["subject_id"].n_unique() == 1841
    assert table.filter(pl.col("code") == "MEDS_DEATH").height == 182
    assert table.filter(pl.col("code").str.starts_with("DX//"))["code"].n_unique() == 1091
    assert table.filter(pl.col("code").str.starts_with("ICD"))["code"].n_unique() == 835


def test_demo_is_valid_meds(demo: tuple[Path, dict[str, Any]]) -> None:
    out, _ = demo
    shards = sorted((out / "data").glob("*.parquet"))
    assert len(shards) == 2
    owners: list[set[int]] = []
    for shard in shards:
        table = pq.read_table(shard)
        meds.DataSchema.validate(table)
        frame = pl.read_parquet(shard)
        assert frame.select("subject_id", "time").equals(frame.select("subject_id", "time").sort("subject_id", "time"))
        owners.append(set(frame["subject_id"].unique()))
    assert not owners[0] & owners[1]
    meds.CodeMetadataSchema.validate(pq.read_table(out / "metadata" / "codes.parquet"))
    meds.SubjectSplitSchema.validate(pq.read_table(out / "metadata" / "subject_splits.parquet"))
    for path in (out / "labels").glob("*.parquet"):
        meds.LabelSchema.validate(pq.read_table(path))
    meds.DatasetMetadataSchema.validate(json.loads((out / "metadata" / "dataset.json").read_text()))


def test_demo_outcomes_lie_after_every_prediction(demo: tuple[Path, dict[str, Any]]) -> None:
    out, _ = demo
    table = events(out)
    for path in (out / "labels").glob("*.parquet"):
        labels = pl.read_parquet(path)
        assert labels["subject_id"].is_in(table["subject_id"].unique().to_list()).all()
        assert not labels.select("subject_id", "prediction_time").is_duplicated().any()
        before = labels.join(table, on="subject_id").filter(pl.col("time") <= pl.col("prediction_time"))
        assert before.filter(pl.col("code") == "MEDS_DEATH").is_empty()
        assert before.filter(pl.col("code") == "UNIT_DISCHARGE//Death").is_empty()
        assert before.filter(pl.col("code") == "HOSPITAL_DISCHARGE//Death").is_empty()


def test_demo_death_follows_the_prediction_where_the_label_says_so(demo: tuple[Path, dict[str, Any]]) -> None:
    out, _ = demo
    labels = pl.read_parquet(out / "labels" / "hospital_mortality.parquet")
    deaths = events(out, prefix="MEDS_DEATH").select("subject_id", death="time")
    died = (
        labels.filter("boolean_value").join(deaths, on="subject_id").filter(pl.col("death") > pl.col("prediction_time"))
    )
    assert died.select("subject_id", "prediction_time").n_unique() == labels["boolean_value"].sum()


def test_demo_cohort_flow_adds_up(demo: tuple[Path, dict[str, Any]]) -> None:
    out, _ = demo
    for name, steps in json.loads((out / "cohort.json").read_text())["labels"].items():
        labels = pl.read_parquet(out / "labels" / f"{name}.parquet")
        assert steps[0]["n"] == 2520
        assert steps[-1]["n"] == labels.height
        assert steps[-1]["positive"] == labels["boolean_value"].sum()
        for before, after in pairwise(steps):
            assert before["n"] - after.get("left_out", 0) == after["n"]


def test_tables_that_hold_outcomes_are_not_read(tables: Path, tmp_path: Path) -> None:
    convert_eicu(tables, tmp_path / "without")
    for name in ("apachePatientResult", "apachePredVar"):
        write_table(tables, name, [{"patientunitstayid": 11, "predictedhospitalmortality": 0.9, "day1meds": 1}])
    convert_eicu(tables, tmp_path / "with")
    assert events(tmp_path / "with").equals(events(tmp_path / "without"))


def test_demo_reads_as_a_cohort_and_nobody_is_left_out_for_lacking_a_modality(
    demo: tuple[Path, dict[str, Any]],
) -> None:
    out, summary = demo
    dataset = open_dataset(out)
    for name in ("hospital_mortality", "unit_stay_over_3_days"):
        cohort = load_cohort(dataset, DataConfig(folder=out, labels=name))
        assert len(cohort.targets) == summary["labels"][name][-1]["n"]
        assert cohort.targets.sum() == summary["labels"][name][-1]["positive"]
    records = [record for _, record in iterate_records(dataset, cohort.subject_ids, cohort.prediction_times)]
    assert len(records) == len(cohort.targets)
    assert all(len(record.codes.codes) for record in records)
    assert 0 < sum(not record.notes for record in records) < len(records) / 2
    assert max(note.text.count("\n") for record in records for note in record.notes) > 5


def test_demo_splits_are_by_patient(demo: tuple[Path, dict[str, Any]], shared_data: Path) -> None:
    out, summary = demo
    splits = pl.read_parquet(out / "metadata" / "subject_splits.parquet")
    assert splits["subject_id"].is_unique().all()
    assert splits.height == 1841
    assert summary["splits"] == {"train": 1289, "tuning": 276, "held_out": 276}
    patients = pl.read_csv(shared_data / "eicu-demo" / "patient.csv.gz")["uniquepid"]
    text = (out / "README.md").read_text() + (out / "cohort.json").read_text()
    assert not any(patient in text for patient in patients.to_list())


def test_demo_split_by_site_keeps_hospitals_together(tables: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    convert_eicu(tables, out, split_by="site")
    splits = dict(pl.read_parquet(out / "metadata" / "subject_splits.parquet").iter_rows())
    assert splits[ANNA] == splits[BERT]
    with pytest.raises(UsageError, match="split_by must be 'patient' or 'site'; got 'ward'"):
        convert_eicu(tables, tmp_path / "other", split_by="ward")  # type: ignore[arg-type]


def test_demo_notes_are_dated_by_entry(demo: tuple[Path, dict[str, Any]], shared_data: Path) -> None:
    """Every note of a patient with one stay lies at an entry, counted from the unit admission event.

    Not every entry makes a note: a form of which only buttons were pressed is none.
    """
    out, _ = demo
    read = {
        name: pl.read_csv(shared_data / "eicu-demo" / f"{name}.csv.gz", infer_schema_length=None)
        for name in ("patient", "note")
    }
    alone = read["patient"].filter(pl.col("uniquepid").is_unique())
    rank = read["patient"].select("uniquepid", subject_id=pl.col("uniquepid").rank("dense").cast(pl.Int64)).unique()
    alone = alone.join(rank, on="uniquepid").select("subject_id", "patientunitstayid", "hospitaladmitoffset")
    entered = read["note"].join(alone, on="patientunitstayid")
    floor = pl.min_horizontal("hospitaladmitoffset", pl.lit(0))
    wanted = entered.select("subject_id", offset=pl.max_horizontal("noteenteredoffset", floor)).unique()
    admitted = events(out, prefix="UNIT_ADMISSION").select("subject_id", admitted="time")
    notes = events(out, prefix="NOTE//").filter(pl.col("code") != "NOTE//past_history").join(admitted, on="subject_id")
    notes = notes.filter(pl.col("subject_id").is_in(alone["subject_id"].to_list()))
    found = notes.select("subject_id", offset=(pl.col("time") - pl.col("admitted")).dt.total_minutes()).unique()
    assert found.height > 2000
    assert found.join(wanted, on=["subject_id", "offset"], how="anti").is_empty()
    assert notes["text_value"].str.contains("\n", literal=True).all()
