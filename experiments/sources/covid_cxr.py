"""The COVID-19 image data collection as a MEDS folder: chest X-rays with notes and a few measurements."""

from __future__ import annotations

import re
import shutil
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl
from PIL import Image

from experiments.progress import progress_bar
from experiments.sources.covid_readme import readme
from experiments.sources.finding_mask import mask
from experiments.sources.folder import (
    new_folder,
    split_by_group,
    write_codes,
    write_dataset,
    write_events,
    write_json,
    write_labels,
    write_splits,
)
from experiments.sources.ledger import Tally, plain, write_ledger
from fusion.component import UsageError

DAY_ZERO = datetime(2020, 1, 1)
NEEDED = ("patientid", "offset", "sex", "age", "finding", "view", "filename", "clinical_notes")
# Column: code, unit, parent code.
MEASUREMENTS = {
    "temperature": ("VITAL//temperature", "degC", "VITAL"),
    "pO2_saturation": ("VITAL//oxygen_saturation", "%", "VITAL"),
    "leukocyte_count": ("LAB//leukocytes", "10^9/L", "LAB//blood count"),
    "neutrophil_count": ("LAB//neutrophil_count", "10^9/L", "LAB//blood count"),
    "lymphocyte_count": ("LAB//lymphocyte_count", "10^9/L", "LAB//blood count"),
}
_GERMS = re.compile(
    "pneumonia|streptococc|pneumocystis|klebsiella|coli|varicella|mycoplasma|legionella|lipoid|bacterial|viral"
    "|fungal|chlamydophila|influenza|h1n1|sars|mers|staphylococc|mrsa|aspergill|nocardia|aspiration|herpes"
)
_CREDIT = r"(?i)^\W*(case courtesy|case contributed|credit|courtesy)|^\? |department of|radiopaedia"
_FORMATS = ("PNG", "JPEG")


def convert_covid_cxr(
    src: Path,
    out: Path,
    *,
    seed: int = 0,
    mask_finding: bool = True,
    image_size: int | None = None,
    overwrite: bool = False,
    progress: bool = False,
) -> dict[str, Any]:
    """Convert covid-chestxray (`metadata.csv` and `images/`) to a MEDS folder and return a summary.

    The label is COVID-19 against another pneumonia, one prediction a patient, on the day of the first image.
    `image_size` makes the short side of larger images that long; by default images are copied as they are.

    Raises:
        UsageError: a file or column is missing, a value is of another kind, an image cannot be read, or
            `out` exists.
    """
    src, out = Path(src), Path(out)
    if image_size is not None and image_size < 16:
        raise UsageError(f"image_size must be at least 16 pixels; got {image_size}")
    table, left_out = _read(src / "metadata.csv")
    with new_folder(out, overwrite=overwrite) as folder:
        _copy_images(src, folder, table, image_size, progress)
        events = pl.concat(_events(table, mask_finding), how="diagonal_relaxed")
        count = write_events(folder, 0, events, extra=("image_path", "view"))
        ledger = {"metadata": _tally(table, events, count, left_out)}
        write_ledger(folder / "reconciliation.csv", ledger)
        labels, steps = _labels(table)
        write_labels(folder, "covid19", labels)
        write_json(folder / "cohort.json", {"labels": {"covid19": steps}})
        summary = {
            "patients": table["subject_id"].n_unique(),
            "images": table.height,
            "not_x_rays_left_out": left_out,
            "events": count,
            "tables": plain(ledger),
            "codes": _write_codes(folder, events),
            "labels": {"covid19": steps},
            "splits": write_splits(folder, _splits(table, labels, seed)),
        }
        _write_about(folder, table, mask_finding)
    return summary


def _read(path: Path) -> tuple[pl.DataFrame, int]:
    """Read the X-rays of the metadata with subject_id, time and row; return them and how many others."""
    if not path.is_file():
        raise UsageError(f"{path} is missing; wanted the metadata of covid-chestxray beside its folder images")
    try:
        table = pl.read_csv(path, infer_schema=False, encoding="utf8-lossy")
    except pl.exceptions.PolarsError:
        raise UsageError(f"{path}: not readable as a CSV file") from None
    for name in NEEDED:
        if name not in table.columns:
            raise UsageError(f"{path}: missing column '{name}'; got {', '.join(table.columns)}")
    optional = ["modality", "other_notes", "doi", "url", "license", *MEASUREMENTS]
    absent = [pl.lit(None, pl.String).alias(name) for name in optional if name not in table.columns]
    table = table.with_columns(absent).with_row_index("row", offset=2)
    for name in ("patientid", "filename", "finding"):
        if table[name].null_count():
            raise UsageError(f"{path}: row {_first(table, pl.col(name).is_null())}: column '{name}' is empty")
    all_rows = table.height
    table = table.filter(pl.col("modality").fill_null("X-ray") == "X-ray")
    if table["filename"].n_unique() < table.height:
        row = _first(table, ~pl.col("filename").is_first_distinct())
        raise UsageError(f"{path}: row {row}: column 'filename' repeats an image")
    return _timed(_numbers(path, table)), all_rows - table.height


def _first(table: pl.DataFrame, test: pl.Expr) -> int:
    return int(table.filter(test)["row"][0])


def _numbers(path: Path, table: pl.DataFrame) -> pl.DataFrame:
    """Turn measurements, offset and age to numbers; `?` and nothing are missing, other text is an error."""
    for name in (*MEASUREMENTS, "offset", "age"):
        text = pl.col(name).str.strip_chars()
        clean = pl.when(text.is_in(["?", ""])).then(None).otherwise(text)
        number = clean.cast(pl.Float64, strict=False)
        wrong = table.filter(clean.is_not_null() & number.is_null())
        if wrong.height:
            raise UsageError(f"{path}: row {wrong['row'][0]}: column '{name}' must be a number or '?'; got other text")
        table = table.with_columns(number.alias(name))
    return table


def _timed(table: pl.DataFrame) -> pl.DataFrame:
    """Date rows by their offset in days; without one by the patient's last known offset: never too early."""
    days = pl.col("offset").fill_null(pl.col("offset").max().over("patientid")).fill_null(0)
    return table.with_columns(
        subject_id=pl.col("patientid").rank("dense").cast(pl.Int64),
        time=(pl.lit(DAY_ZERO) + pl.duration(minutes=(days * 24 * 60).cast(pl.Int64))).cast(pl.Datetime("us")),
        image_path=pl.lit("images/") + pl.col("filename").str.extract(r"([^/\\]+)$"),
    )


def _copy_images(src: Path, folder: Path, table: pl.DataFrame, size: int | None, progress: bool) -> None:
    """Copy the images, each opened and decoded first.

    Raises:
        UsageError: one is missing or unreadable; the message names the file and the row of the metadata.
    """
    (folder / "images").mkdir()
    with progress_bar("copying images", table.height, enabled=progress) as advance:
        for row, name, target in table.select("row", "filename", "image_path").iter_rows():
            source = src / "images" / Path(name).name
            try:
                with Image.open(source, formats=_FORMATS) as picture:
                    picture.load()
                    _save(picture, source, folder / target, size)
            except FileNotFoundError:
                raise UsageError(f"{src / 'metadata.csv'}: row {row}: filename: no such file in images") from None
            except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
                raise UsageError(
                    f"{src / 'metadata.csv'}: row {row}: filename: unreadable image: no intact PNG or JPEG"
                ) from None
            advance()


def _save(picture: Image.Image, source: Path, target: Path, size: int | None) -> None:
    if size is None or min(picture.size) <= size:
        shutil.copyfile(source, target)
        return
    scale = size / min(picture.size)
    width, height = (max(1, round(side * scale)) for side in picture.size)
    small = picture.convert("L").resize((width, height), Image.Resampling.LANCZOS)
    small.save(target, format=picture.format)


def _tally(table: pl.DataFrame, events: pl.DataFrame, written: int, left_out: int) -> Tally:
    """Count what the rows say: a patient's sex and age are in each, and notes and values are repeated beside images."""
    static = int(table["sex"].is_in(["M", "F"]).sum()) + table["age"].count()
    facts = events.drop_nulls("time").height + static
    tally = Tally(table.height, facts, facts)
    tally.withdraw(facts - written)
    if left_out:
        tally.skip(left_out, "no X-ray")
    return tally


def _events(table: pl.DataFrame, mask_finding: bool) -> list[pl.DataFrame]:
    """Return static facts, measurements, images and notes; nothing of the finding, source or outcome."""
    view = pl.col("view").str.strip_chars()
    first = table.sort("subject_id", "time", "row").group_by("subject_id", maintain_order=True)
    facts = first.agg(pl.col("sex", "age").drop_nulls().first())
    parts = [
        facts.filter(pl.col("sex").is_in(["M", "F"])).select("subject_id", code=pl.lit("GENDER//") + pl.col("sex")),
        facts.drop_nulls("age").select("subject_id", code=pl.lit("AGE"), numeric_value="age", unit=pl.lit("years")),
        table.select(
            "subject_id",
            "time",
            "image_path",
            code=pl.lit("IMAGE//chest_xray"),
            view=pl.when(view.is_in(["?", ""])).then(None).otherwise(view),
        ),
        _notes(table, mask_finding),
    ]
    for column, (code, unit, _) in MEASUREMENTS.items():
        rows = table.drop_nulls(column)
        parts.append(rows.select("subject_id", "time", code=pl.lit(code), numeric_value=column, unit=pl.lit(unit)))
    return parts


def _notes(table: pl.DataFrame, mask_finding: bool) -> pl.DataFrame:
    """Return one note an image: the clinical note, and other notes unless they credit the source."""
    other = pl.when(~pl.col("other_notes").str.contains(_CREDIT)).then(pl.col("other_notes"))
    text = pl.concat_str(
        pl.col("clinical_notes").str.strip_chars(), other.str.strip_chars(), separator="\n", ignore_nulls=True
    )
    notes = table.select("subject_id", "time", code=pl.lit("NOTE//clinical"), text_value=text)
    notes = notes.filter(pl.col("text_value").str.strip_chars() != "")
    if mask_finding:
        hidden = [mask(each) for each in notes["text_value"]]
        notes = notes.with_columns(pl.Series("text_value", hidden, dtype=pl.String))
    return notes


def kind_of_finding(finding: str) -> str:
    """Say what a finding counts as: `covid19`, `other pneumonia`, or why it counts as neither.

    Examples:
        >>> [kind_of_finding(each) for each in ("COVID-19, ARDS", "Pneumonia/Fungal/Pneumocystis", "todo")]
        ['covid19', 'other pneumonia', 'todo']
    """
    lower = finding.strip().lower()
    if "covid-19" in lower:
        return "covid19"
    return "other pneumonia" if _GERMS.search(lower) else lower


def _labels(table: pl.DataFrame) -> tuple[pl.DataFrame, list[dict[str, Any]]]:
    """Return one label a patient, at the time of the first image, and the flow from patients to labels."""
    kinds = {each: kind_of_finding(each) for each in table["finding"].unique()}
    rows = table.with_columns(kind=pl.col("finding").replace_strict(kinds))
    people = rows.group_by("subject_id").agg(prediction_time=pl.col("time").min(), kinds=pl.col("kind").unique())
    covid, other = (pl.col("kinds").list.contains(kind) for kind in ("covid19", "other pneumonia"))
    steps = [{"step": "patients in the collection", "n": people.height, "images": table.height}]
    left = people.height
    for why, test in (
        ("findings do not contradict each other", covid & other),
        ("a finding is given (not todo)", ~covid & ~other & pl.col("kinds").list.contains("todo")),
        ("the finding is COVID-19 or another pneumonia (not none, not ARDS alone)", ~covid & ~other),
    ):
        people = people.filter(~test)
        steps.append({"step": why, "n": people.height, "left_out": left - people.height})
        left = people.height
    labels = people.select("subject_id", "prediction_time", boolean_value=covid)
    steps.append({"step": "predicted", "n": labels.height, "positive": int(labels["boolean_value"].sum())})
    return labels, steps


def _splits(table: pl.DataFrame, labels: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Split by patient, apart for each label, so that few patients still have both labels everywhere."""
    people = table.select("subject_id").unique().join(labels, on="subject_id", how="left")
    parts = [
        split_by_group(part.select("subject_id", group="subject_id"), seed)
        for _, part in people.group_by("boolean_value", maintain_order=False)
    ]
    return pl.concat(parts).sort("subject_id")


def _write_codes(folder: Path, events: pl.DataFrame) -> int:
    parents = {code: [parent] for code, _, parent in MEASUREMENTS.values()} | {"LAB//blood count": ["LAB"]}
    descriptions = {code: column.replace("_", " ") for column, (code, _, _) in MEASUREMENTS.items()}
    descriptions |= {"NOTE//clinical": "clinical note of an image", "IMAGE//chest_xray": "chest X-ray"}
    return write_codes(folder, events["code"].unique().to_list(), descriptions, parents)


def _write_about(folder: Path, table: pl.DataFrame, mask_finding: bool) -> None:
    """Write the description, the README, and who made each image under which licence."""
    write_dataset(
        folder,
        dataset_name="COVID-19 image data collection" + ("" if mask_finding else ", findings not masked"),
        dataset_version="2020",
        license="per image: CC BY, CC BY-SA or CC BY-NC-SA (attribution.csv)",
        additional_value_modality_columns=["image_path"],
        other_extension_columns=["view"],
    )
    credit = table.select("image_path", "license", "doi", "url", credit="other_notes").sort("image_path")
    credit.write_csv(folder / "attribution.csv")
    (folder / "README.md").write_text(readme(table, mask_finding), encoding="utf-8")
