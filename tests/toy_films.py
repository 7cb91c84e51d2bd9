"""Chest X-rays of the two patients of MIMIC-IV by hand, in the folders in which MIMIC-CXR is published."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from toy_eicu import write_table
from toy_mimic import ANNA, BERT

from experiments.sources.mimic.films import _FINDINGS

COLUMNS = (
    *("dicom_id", "subject_id", "study_id", "PerformedProcedureStepDescription", "ViewPosition", "Rows", "Columns"),
    *("StudyDate", "StudyTime", "ProcedureCodeSequence_CodeMeaning", "ViewCodeSequence_CodeMeaning"),
    "PatientOrientationCodeSequence_CodeMeaning",
)
# Anna has two views at 14:05:56, two hours and a little after she entered the unit; Bert one before 10 o'clock, whose
# leading zero is lost, and one without a file; and there is one of somebody else.
FILMS = (
    ("aa", ANNA, 501, "PA", "21500101", "140556.875"),
    ("ab", ANNA, 501, "LATERAL", "21500101", "140556.875"),
    ("ba", BERT, 502, "AP", "21500301", "80556.0"),
    ("bb", BERT, 503, "AP", "21500302", "90000.0"),
    ("cc", 77, 504, "AP", "21500302", "90000.0"),
    ("bd", BERT, 505, "AP", "21500302", "250000"),
)
NO_FILE = "bb"


def place(root: Path, subject: int, study: int) -> Path:
    """Return the folder of a study."""
    return root / "files" / f"p{str(subject)[:2]}" / f"p{subject}" / f"s{study}"


def write_films(root: Path) -> None:
    """Write metadata, labels, splits and images of MIMIC-CXR-JPG."""
    root.mkdir(parents=True)
    rows: list[dict[str, Any]] = []
    for number, (name, subject, study, view, date, time) in enumerate(FILMS):
        told = {"dicom_id": name, "subject_id": subject, "study_id": study, "ViewPosition": view}
        rows.append(dict.fromkeys(COLUMNS, "") | told | {"StudyDate": date, "StudyTime": time})
        if name != NO_FILE:
            folder = place(root, subject, study)
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((20, 20), 40 * number, np.uint8)).save(folder / f"{name}.jpg")
    write_table(root, "mimic-cxr-2.0.0-metadata", rows)
    said = [
        {"subject_id": ANNA, "study_id": 501, "Pneumonia": 1.0, "Edema": -1.0, "Fracture": 0.0},
        {"subject_id": BERT, "study_id": 502},
        {"subject_id": ANNA, "study_id": 502, "Edema": 1.0},
    ]
    labels = [{"subject_id": "", "study_id": "", **dict.fromkeys(_FINDINGS, ""), **row} for row in said]
    for labeller in ("chexpert", "negbio"):
        write_table(root, f"mimic-cxr-2.0.0-{labeller}", labels)
    splits = [{"dicom_id": row[0], "study_id": row[2], "subject_id": row[1], "split": "train"} for row in FILMS]
    write_table(root, "mimic-cxr-2.0.0-split", splits)


def write_reports(root: Path) -> None:
    """Write the reports of two studies, one of them empty."""
    for subject, study, text in ((ANNA, 501, " FINDINGS: opacity.\n"), (BERT, 502, "\n")):
        path = place(root, subject, study).with_suffix(".txt")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
