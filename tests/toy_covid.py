"""A few patients of the COVID-19 image collection by hand, written as its table is."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from encoders.records import Record
from experiments.data.folder import open_dataset
from experiments.data.reader import iterate_records

COLUMNS = [
    "patientid",
    "offset",
    "sex",
    "age",
    "finding",
    "view",
    "filename",
    "clinical_notes",
    "other_notes",
    "survival",
    "temperature",
    "pO2_saturation",
    "license",
    "doi",
    "url",
]
ROWS = [
    {
        "patientid": "7",
        "offset": "3",
        "finding": "COVID-19",
        "filename": "b.png",
        "view": "AP",
        "clinical_notes": "Worse.",
    },
    {
        "patientid": "7",
        "offset": "0",
        "finding": "No Finding",
        "filename": "a.png",
        "view": "PA",
        "sex": "F",
        "age": "50",
        "temperature": "38.5",
        "clinical_notes": "Fever. Swab positive for SARS-CoV-2.",
        "other_notes": "Case courtesy of Dr Someone, Radiopaedia.org",
        "survival": "N",
    },
    {
        "patientid": "7",
        "offset": "?",
        "finding": "COVID-19",
        "filename": "c.png",
        "view": "?",
        "clinical_notes": "Late.",
    },
    {
        "patientid": "8",
        "finding": "Klebsiella",
        "filename": "d.jpg",
        "clinical_notes": "Cough.",
        "other_notes": "Opacity on the right.",
        "pO2_saturation": "?",
        "license": "CC BY",
        "doi": "10/x",
    },
    {"patientid": "9", "finding": "todo", "filename": "e.png", "clinical_notes": "Unclear."},
    {"patientid": "10", "finding": "ARDS", "filename": "f.png", "clinical_notes": "Severe."},
]


def write_source(folder: Path, rows: list[dict[str, str]] = ROWS, columns: list[str] = COLUMNS) -> Path:
    (folder / "images").mkdir(parents=True)
    with (folder / "metadata.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    for shade, row in enumerate(rows):
        picture = Image.fromarray(np.full((40, 60), shade % 25 * 10, np.uint8))
        picture.save(folder / "images" / row["filename"])
    return folder


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_source(tmp_path / "source")


def events(folder: Path, prefix: str = "") -> pl.DataFrame:
    return pl.read_parquet(folder / "data" / "*.parquet").filter(pl.col("code").str.starts_with(prefix))


def records(folder: Path) -> dict[int, Record]:
    """Return what the reader gives for every labelled patient, by subject."""
    labels = pl.read_parquet(folder / "labels" / "covid19.parquet")
    subjects, times = labels["subject_id"].to_numpy(), labels["prediction_time"].to_numpy()
    return {int(subjects[row]): record for row, record in iterate_records(open_dataset(folder), subjects, times)}
