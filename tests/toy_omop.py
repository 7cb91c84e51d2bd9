"""Three persons of an OMOP database by hand, written as its tables are."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import polars as pl

ANNA, BERT, CARL = 1, 2, 3
MALE, FEMALE, WHITE, INPATIENT = 8507, 8532, 8527, 9201
FAILURE, ACUTE, HEART = 319835, 443580, 321588  # SNOMED: heart failure, acute heart failure, heart disease
ICD_FAILURE, CREATININE, MG_DL, URINE, POSITIVE = 45576876, 3016723, 8840, 3024629, 9191
ASPIRIN, DIALYSIS, SMOKER, DISCHARGE_NOTE = 1112807, 4146536, 4298794, 44814637
UNLISTED = 999_999

CONCEPTS = [
    (MALE, "MALE", "Gender", "M"),
    (FEMALE, "FEMALE", "Gender", "F"),
    (WHITE, "White", "Race", "5"),
    (INPATIENT, "Inpatient Visit", "Visit", "IP"),
    (FAILURE, "Heart failure", "SNOMED", "84114007"),
    (ACUTE, "Acute heart failure", "SNOMED", "56675007"),
    (HEART, "Heart disease", "SNOMED", "56265001"),
    (ICD_FAILURE, "Acute on chronic systolic heart failure", "ICD10CM", "I50.23"),
    (CREATININE, "Creatinine in serum", "LOINC", "2160-0"),
    (MG_DL, "milligram per deciliter", "UCUM", "mg/dL"),
    (URINE, "Glucose in urine", "LOINC", "5792-7"),
    (POSITIVE, "Positive", "SNOMED", "10828004"),
    (ASPIRIN, "aspirin", "RxNorm", "1191"),
    (DIALYSIS, "Hemodialysis", "SNOMED", "302497006"),
    (SMOKER, "Current smoker", "SNOMED", "77176002"),
    (DISCHARGE_NOTE, "Discharge summary", "Note Type", "OMOP generated"),
]
LEVELS = [(FAILURE, ACUTE, 1), (HEART, FAILURE, 1), (HEART, ACUTE, 2), (ACUTE, ACUTE, 0)]


def _rows(names: str, *rows: tuple[Any, ...]) -> list[dict[str, Any]]:
    return [dict(zip(names.split(), row, strict=True)) for row in rows]


def tables() -> dict[str, list[dict[str, Any]]]:
    """Return the tables; every table of events has rows that are events and rows that are none."""
    return {
        "person": _rows(
            "person_id gender_concept_id year_of_birth month_of_birth day_of_birth birth_datetime race_concept_id "
            "ethnicity_concept_id care_site_id",
            (ANNA, FEMALE, 1950, 3, 4, None, WHITE, 0, 7),
            (BERT, MALE, 1940, None, None, "1940-06-01 12:00:00", 0, 0, 8),
            (CARL, 0, 1960, 1, 1, None, 0, 0, None),
        ),
        "visit_occurrence": _rows(
            "visit_occurrence_id person_id visit_concept_id visit_start_date visit_start_datetime visit_end_date "
            "visit_end_datetime",
            (11, ANNA, INPATIENT, "2020-01-01", "2020-01-01 10:00:00", "2020-01-05", "2020-01-05 15:00:00"),
            (12, BERT, INPATIENT, "2020-02-01", "2020-02-01 00:00:00", "2020-01-31", None),  # ends before it starts
        ),
        "condition_occurrence": _rows(
            "person_id condition_concept_id condition_start_date condition_source_concept_id visit_occurrence_id",
            (ANNA, ACUTE, "2020-01-01", ICD_FAILURE, 11),
            (BERT, FAILURE, "2020-02-02", 0, 12),
            (BERT, FAILURE, "2020-02-02", 0, 12),  # says what the row above says
            (BERT, 0, "2020-02-02", 0, 12),
            (BERT, 0, "2020-02-02", ICD_FAILURE, None),
            (77, FAILURE, "2020-02-02", 0, None),  # nobody
            (CARL, UNLISTED, "2020-02-02", 0, None),
        ),
        "drug_exposure": _rows(
            "person_id drug_concept_id drug_exposure_start_date drug_exposure_start_datetime",
            (ANNA, ASPIRIN, "2020-01-02", "2020-01-02 08:30:00"),
            (ANNA, ASPIRIN, None, None),
        ),
        "procedure_occurrence": _rows(
            "person_id procedure_concept_id procedure_date procedure_datetime visit_occurrence_id",
            (ANNA, DIALYSIS, "2020-01-03", "2020-01-03 09:00:00", 11),
        ),
        "measurement": _rows(
            "person_id measurement_concept_id measurement_date measurement_datetime value_as_number "
            "value_as_concept_id unit_concept_id unit_source_value",
            (ANNA, CREATININE, "2020-01-02", "2020-01-02 06:00:00", 1.5, 0, MG_DL, "mg/dl"),
            (ANNA, CREATININE, "2020-01-02", "2020-01-02 07:00:00", 1.7, 0, 0, "mg per dl"),
            (ANNA, URINE, "2020-01-02", "2020-01-02 06:00:00", None, POSITIVE, 0, None),
            (ANNA, URINE, "2020-01-02", "2020-01-02 07:00:00", None, 0, 0, None),
        ),
        "observation": _rows(
            "person_id observation_concept_id observation_date value_as_string",
            (CARL, SMOKER, "2020-03-01", "20 a day"),
        ),
        "death": _rows("person_id death_date cause_concept_id", (BERT, "2020-02-10", FAILURE), (CARL, "1959-01-01", 0)),
        "note": _rows(
            "person_id note_date note_class_concept_id note_text",
            (ANNA, "2020-01-05", DISCHARGE_NOTE, " went home, well \nagain "),
            (ANNA, "2020-01-05", 0, "a word"),
            (ANNA, "2020-01-05", 0, ""),
        ),
        "drug_era": _rows("drug_era_id person_id", (1, ANNA), (2, ANNA)),
        "concept": _rows("concept_id concept_name vocabulary_id concept_code", *CONCEPTS),
        "concept_ancestor": _rows("ancestor_concept_id descendant_concept_id min_levels_of_separation", *LEVELS),
        "concept_relationship": _rows(
            "concept_id_1 concept_id_2 relationship_id invalid_reason",
            (ICD_FAILURE, ACUTE, "Maps to", None),
            (ICD_FAILURE, HEART, "Maps to", "D"),
            (ACUTE, ACUTE, "Maps to", None),
        ),
    }


def write_omop(folder: Path, form: str = "csv", *, upper: bool = False, **changes: list[dict[str, Any]] | None) -> Path:
    """Write the tables as CSV, packed CSV or parquet; a change of None leaves a table out."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in (tables() | changes).items():
        if rows is None:
            continue
        table = pl.DataFrame(rows, infer_schema_length=None)
        if upper:
            name, table = name.upper(), table.rename(str.upper)
        if form == "parquet":
            table.write_parquet(folder / f"{name}.parquet")
        else:
            text = table.write_csv().encode()
            (folder / f"{name}.{form}").write_bytes(gzip.compress(text) if form.endswith("gz") else text)
    return folder
