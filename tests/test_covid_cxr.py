"""The COVID-19 chest X-ray converter: times, labels, masks and unreadable images on a hand-made source."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import polars as pl
import pytest
from PIL import Image
from toy_covid import (
    COLUMNS,
    ROWS,
    events,
    records,
    source,  # noqa: F401 - fixtures
    write_source,
)

from experiments.sources.covid_cxr import convert_covid_cxr, kind_of_finding
from experiments.sources.finding_mask import FINDING, mask, names_finding
from fusion.component import UsageError

DAY_ZERO = datetime(2020, 1, 1)


def days(table: pl.DataFrame) -> list[float]:
    return [(time - DAY_ZERO).total_seconds() / 86400 for time in table["time"]]


def test_images_notes_and_measurements_lie_on_their_days(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    convert_covid_cxr(source, out)
    images = events(out, "IMAGE//chest_xray").filter(pl.col("subject_id") == 2)
    assert days(images) == [0, 3, 3]
    assert images["image_path"].to_list() == ["images/a.png", "images/b.png", "images/c.png"]
    assert images["view"].to_list() == ["PA", "AP", None]
    warm = events(out, "VITAL//temperature")
    assert days(warm) == [0]
    assert warm.select("numeric_value", "unit").row(0) == (38.5, "degC")
    assert events(out, "VITAL//oxygen").is_empty()
    static = events(out).filter(pl.col("time").is_null()).select("code", "numeric_value").rows()
    assert static == [("AGE", 50.0), ("GENDER//F", None)]
    assert (out / "images" / "d.jpg").read_bytes() == (source / "images" / "d.jpg").read_bytes()


def test_label_is_one_a_patient_on_the_day_of_the_first_image(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    summary = convert_covid_cxr(source, out)
    labels = pl.read_parquet(out / "labels" / "covid19.parquet")
    assert labels.rows() == [(2, DAY_ZERO, True), (3, DAY_ZERO, False)]
    steps = json.loads((out / "cohort.json").read_text())["labels"]["covid19"]
    assert steps == summary["labels"]["covid19"]
    assert [step["n"] for step in steps] == [4, 4, 3, 2, 2]
    assert [step.get("left_out") for step in steps] == [None, 0, 1, 1, None]
    assert steps[-1]["positive"] == 1


def test_prediction_sees_the_first_day_only(source: Path, tmp_path: Path) -> None:
    convert_covid_cxr(source, tmp_path / "out")
    seen = records(tmp_path / "out")[2]
    assert [image.path.name for image in seen.images] == ["a.png"]
    assert [note.text for note in seen.notes] == ["Fever. [finding]."]


def test_outcomes_turned_round_change_no_event(tmp_path: Path) -> None:
    columns = [*COLUMNS, "intubated", "went_icu", "location"]
    for name, told in (("one", "Y"), ("two", "N")):
        rows = [row | dict.fromkeys(("survival", "intubated", "went_icu", "location"), told) for row in ROWS]
        convert_covid_cxr(write_source(tmp_path / f"source {name}", rows, columns), tmp_path / name)
    assert events(tmp_path / "one").equals(events(tmp_path / "two"))


def test_notes_hide_the_finding_and_never_credit_the_source(source: Path, tmp_path: Path) -> None:
    convert_covid_cxr(source, tmp_path / "masked")
    notes = events(tmp_path / "masked", "NOTE//clinical")["text_value"].to_list()
    assert not any(names_finding(note) for note in notes)
    assert any(FINDING in note for note in notes)
    assert "Cough.\nOpacity on the right." in notes
    assert not any("Radiopaedia" in note or "Someone" in note for note in notes)
    convert_covid_cxr(source, tmp_path / "plain", mask_finding=False)
    plain = events(tmp_path / "plain", "NOTE//clinical")["text_value"].to_list()
    assert "Fever. Swab positive for SARS-CoV-2." in plain
    assert "they name the finding" in (tmp_path / "plain" / "README.md").read_text()


def test_outcomes_and_patient_ids_are_not_in_the_events(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    convert_covid_cxr(source, out)
    assert {code.split("//")[0] for code in events(out)["code"]} == {"AGE", "GENDER", "IMAGE", "NOTE", "VITAL"}
    credit = pl.read_csv(out / "attribution.csv")
    assert "patientid" not in credit.columns
    assert credit.filter(pl.col("image_path") == "images/d.jpg").select("license", "doi").row(0) == ("CC BY", "10/x")


@pytest.mark.parametrize(
    "name",
    [
        "COVID-19",
        "covid19",
        "Covid 19",
        "SARS-CoV-2",
        "SARS CoV2",
        "SARS",
        "2019-nCoV",
        "novel coronavirus",
        "coronavirus disease-2019",
        "MERS-CoV",
        "Pneumocystis jiroveci",
        "PCP",
        "Streptococcus pneumoniae",
        "pneumococcal",
        "Klebsiella",
        "E.Coli",
        "E. coli",
        "Legionella pneumophila",
        "Mycoplasma pneumoniae",
        "Chlamydophila",
        "Varicella zoster",
        "influenza A",
        "H1N1",
        "lipoid",
        "bacterial",
        "RT-PCR",
        "polymerase chain reaction",
        "nasopharyngeal swab",
    ],
)
def test_names_of_findings_are_hidden_in_any_case(name: str) -> None:
    for text in (name, name.upper(), name.lower()):
        hidden = mask(f"Signs of {text}, and fever.")
        assert FINDING in hidden
        assert text.split()[0].lower() not in hidden.lower()
        assert hidden.endswith("and fever.")


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("RT-PCR was positive for covid 19 (2019-nCoV).", "[finding] was [finding]."),
        ("COVID-19/SARS/MERS", "[finding]"),
        ("Pneumocystis jirovecii pneumonia (PCP)", "[finding] pneumonia ([finding])"),
        ("LEGIONELLA pneumonia with ARDS", "[finding] pneumonia with [finding]"),
        ("Swab negative; air bronchogram positive.", "[finding]; air bronchogram positive."),
        ("An HIV positive man with pneumonia.", "An HIV positive man with pneumonia."),
    ],
)
def test_results_of_tests_are_hidden_where_a_finding_or_test_is_named(text: str, hidden: str) -> None:
    assert mask(text) == hidden


@pytest.mark.parametrize("text", ["Pneumonia in both lungs.", "The coronary sinus, a viral-free word: mersey, lipids."])
def test_other_words_stay(text: str) -> None:
    kept = [word for word in text.split() if not word.startswith("viral")]
    assert all(word in mask(text) for word in kept)


def test_findings_fall_into_two_kinds_or_neither() -> None:
    other = ["Streptococcus", "E.Coli", "Mycoplasma Bacterial Pneumonia", "SARS", "Pneumonia/Viral/Influenza", "Lipoid"]
    assert {kind_of_finding(each) for each in other} == {"other pneumonia"}
    assert {kind_of_finding(each) for each in ("COVID-19", "COVID-19, ARDS", "Pneumonia/Viral/COVID-19")} == {"covid19"}
    assert [kind_of_finding(each) for each in ("ARDS", "No Finding", "todo")] == ["ards", "no finding", "todo"]


def test_unreadable_and_missing_images_are_named(source: Path, tmp_path: Path) -> None:
    (source / "images" / "b.png").write_bytes(b"no image")
    with pytest.raises(UsageError, match=r"metadata\.csv: row 2: filename: unreadable image: no intact PNG or JPEG"):
        convert_covid_cxr(source, tmp_path / "out")
    (source / "images" / "b.png").unlink()
    with pytest.raises(UsageError, match=r"metadata\.csv: row 2: filename: no such file in images"):
        convert_covid_cxr(source, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_truncated_image_is_unreadable(source: Path, tmp_path: Path) -> None:
    path = source / "images" / "d.jpg"
    path.write_bytes(path.read_bytes()[:-150])
    with pytest.raises(UsageError, match=r"row \d+: filename: unreadable image: "):
        convert_covid_cxr(source, tmp_path / "out")


def test_wrong_columns_and_values_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"metadata\.csv is missing"):
        convert_covid_cxr(tmp_path, tmp_path / "out")
    without = write_source(tmp_path / "without", columns=[name for name in COLUMNS if name != "finding"])
    with pytest.raises(UsageError, match=r"metadata\.csv: missing column 'finding'; got patientid, offset"):
        convert_covid_cxr(without, tmp_path / "out")
    wrong = write_source(tmp_path / "wrong", [ROWS[0], ROWS[1] | {"age": "fifty"}])
    with pytest.raises(UsageError, match=r"metadata\.csv: row 3: column 'age' must be a number or '\?'") as caught:
        convert_covid_cxr(wrong, tmp_path / "out")
    assert "fifty" not in str(caught.value)
    with pytest.raises(UsageError, match="image_size must be at least 16 pixels; got 4"):
        convert_covid_cxr(wrong, tmp_path / "out", image_size=4)


def test_image_size_is_the_short_side(source: Path, tmp_path: Path) -> None:
    convert_covid_cxr(source, tmp_path / "out", image_size=20)
    with Image.open(tmp_path / "out" / "images" / "d.jpg") as picture:
        assert picture.size == (30, 20)
