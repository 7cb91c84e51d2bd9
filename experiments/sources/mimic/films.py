"""Chest X-rays of MIMIC-CXR-JPG, their reports and what labellers read in those, joined by patient and time.

Reference:
    Johnson, Pollard, Berkowitz, Greenbaum, Lungren, Deng, Mark, Horng. MIMIC-CXR, a de-identified publicly available
    database of chest radiographs with free-text reports. 2019.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from experiments.sources.facts import NO_VALUE, facts, worded
from experiments.sources.images import ABSENT, Placing, place_image
from experiments.sources.tables import Kind, read_whole

REPORT_HOURS = 24  # the release has no time of a report; it is taken to be there a day after its study
REPORTS, METADATA = "cxr_reports", "cxr_metadata"
IMAGE_COLUMNS = ("image_path", "view")
_FINDINGS = (
    *("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Enlarged Cardiomediastinum", "Fracture"),
    *("Lung Lesion", "Lung Opacity", "No Finding", "Pleural Effusion", "Pleural Other", "Pneumonia"),
    *("Pneumothorax", "Support Devices"),
)
_SAID = {1.0: "positive", 0.0: "negative", -1.0: "uncertain"}
_READ_AT_ONCE = 1000  # reports
_STUDY: dict[str, Kind] = {"subject_id": "integer", "study_id": "integer", "studydate": "text", "studytime": "text"}
IMAGES: dict[str, Kind] = {"dicom_id": "text", **_STUDY, "viewposition": "text"}
LABELS: dict[str, Kind] = {"subject_id": "integer", "study_id": "integer", **dict.fromkeys(_FINDINGS, "number")}


@dataclass(frozen=True)
class Films:
    """Where the X-rays and reports lie, where they go, and when each study was.

    Shape:
        studies: columns study_id, subject_id, taken, of patients who are in the database.
    """

    source: Path
    target: Path
    placing: Placing
    studies: pl.DataFrame


def read_studies(path: Path, patients: pl.Series) -> pl.DataFrame:
    """Return the studies of some patients, each once, at the time of its first image."""
    table = read_whole(path, _STUDY).filter(pl.col("subject_id").is_in(patients.to_list()))
    rows = table.select("study_id", "subject_id", taken=taken()).drop_nulls()
    return rows.group_by("study_id", "subject_id").agg(pl.col("taken").min()).sort("study_id", "subject_id")


def taken() -> pl.Expr:
    """Return the time of a study, from a date like 21800506 and a time like 80556.875, whose leading zeros are lost."""
    seconds = pl.col("studytime").cast(pl.Float64, strict=False).floor().cast(pl.Int64, strict=False)
    clock = pl.duration(hours=seconds // 10_000, minutes=seconds // 100 % 100, seconds=seconds % 100)
    within = (seconds < 240_000) & (seconds // 100 % 100 < 60) & (seconds % 100 < 60) & (seconds >= 0)
    day = pl.col("studydate").str.strip_suffix(".0").str.to_datetime("%Y%m%d", strict=False, time_unit="us")
    return pl.when(within).then(day + clock).cast(pl.Datetime("us"))


def image_facts(piece: pl.DataFrame, films: Films) -> pl.DataFrame:
    """Lay the images of known patients into the folder and return one fact an image, known from its study on."""
    table = piece.with_columns(taken=taken())
    known = films.studies.select("study_id", "subject_id", known=True)
    table = table.join(known, on=["study_id", "subject_id"], how="left", maintain_order="left")
    wanted = table.with_columns(pl.when(pl.col("known") & pl.col("taken").is_not_null()).then("dicom_id"))
    columns = wanted.select("subject_id", "study_id", "dicom_id")
    table = table.with_columns(pl.Series("image_path", [_place(films, *row) for row in columns.iter_rows()], pl.String))
    why = [
        ("no readable StudyDate and StudyTime", pl.col("taken").is_null()),
        (ABSENT, pl.col("known") & pl.col("image_path").is_null()),
    ]
    found = facts(table, pl.col("taken"), pl.lit("IMAGE//chest_xray"), why=why)
    return found.with_columns(table["image_path"], table["viewposition"].alias("view"))


def _place(films: Films, subject: int, study: int, name: str | None) -> str | None:
    if name is None:
        return None
    inside = Path(*_study_folder(subject, study), f"{name}.jpg")
    return place_image(films.source / "files", inside, films.target, films.placing)


def _study_folder(subject: int, study: int) -> tuple[str, str, str]:
    """Return where a study lies.

    Examples:
        >>> _study_folder(10000032, 50414267)
        ('p10', 'p10000032', 's50414267')
    """
    return f"p{str(subject)[:2]}", f"p{subject}", f"s{study}"


def report_pieces(folder: Path, studies: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Yield studies with the text of their report, null where there is none, a bounded number at once."""
    for piece in studies.iter_slices(_READ_AT_ONCE):
        texts = [_report(folder, *row) for row in piece.select("subject_id", "study_id").iter_rows()]
        yield piece.with_columns(pl.Series("text", texts, dtype=pl.String))


def _report(folder: Path, subject: int, study: int) -> str | None:
    path = folder.joinpath("files", *_study_folder(subject, study)).with_suffix(".txt")
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else None


def report_facts(piece: pl.DataFrame) -> pl.DataFrame:
    """Return one note a report."""
    text = pl.col("text").str.strip_chars()
    why = [("the report is not in the folder", text.is_null()), ("no text", text.str.len_chars() == 0)]
    return facts(piece, _reported(), pl.lit("NOTE//chest_xray_report"), text=text, why=why)


def label_facts(piece: pl.DataFrame, films: Films, labeller: str) -> pl.DataFrame:
    """Return one fact a finding that the labeller read in a report: positive, negative or uncertain."""
    table = piece.join(films.studies, on=["study_id", "subject_id"], how="left", maintain_order="left")
    why = [("its study is not among the images, or of another patient", pl.col("taken").is_null())]
    long = table.unpivot(index=["subject_id", "taken"], on=list(_FINDINGS), variable_name="finding").drop_nulls("value")
    said = pl.col("value").replace_strict(_SAID, default=None, return_dtype=pl.String)
    code = pl.lit(f"{labeller}//") + worded(pl.col("finding")).str.replace_all(" ", "_") + "//" + said
    silent = table.filter(pl.all_horizontal(pl.col(name).is_null() for name in _FINDINGS))
    nothing = facts(silent, _reported(), pl.lit(labeller), why=[(NO_VALUE, pl.lit(value=True))])
    return pl.concat([facts(long, _reported(), code, why=why), nothing])


def _reported() -> pl.Expr:
    return pl.col("taken") + pl.duration(hours=REPORT_HOURS)


def find_reports(folders: Mapping[str, Path] | list[Path]) -> Path | None:
    """Return the folder above `files` of the reports: `mimic-cxr-reports`, itself or inside one of the folders."""
    for folder in folders:
        for each in (Path(folder), Path(folder) / "mimic-cxr-reports"):
            if each.name == "mimic-cxr-reports" and (each / "files").is_dir():
                return each
    return None
