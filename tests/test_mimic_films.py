"""MIMIC-IV with what is published apart: emergency department, notes, X-rays, reports and labels of them."""

from __future__ import annotations

import errno
import os
from datetime import datetime
from pathlib import Path

import polars as pl
import pytest
from toy_eicu import events, write_table
from toy_films import place, write_films, write_reports
from toy_mimic import (
    ANNA,
    BERT,
    mimic4,  # noqa: F401 - fixtures
)

from experiments.cli import main
from experiments.data.check import check
from experiments.data.folder import open_dataset
from experiments.sources.mimic import convert_mimic
from experiments.sources.mimic.films import taken
from fusion.component import UsageError

TAKEN = datetime(2150, 1, 1, 14, 5, 56)


@pytest.fixture
def films(tmp_path: Path) -> list[Path]:
    write_films(tmp_path / "mimic-cxr-jpg")
    write_reports(tmp_path / "mimic-cxr-reports")
    return [tmp_path / "mimic-cxr-jpg", tmp_path / "mimic-cxr-reports"]


def test_every_x_ray_is_an_event_from_its_study_on_or_counted(mimic4: Path, films: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    summary = convert_mimic(mimic4, out, 4, beside=films, patients_per_shard=1)
    found = events(out, prefix="IMAGE//").select("subject_id", "time", "image_path", "view").rows()
    assert found == [
        (ANNA, TAKEN, "images/p10/p10/s501/aa.jpg", "PA"),
        (ANNA, TAKEN, "images/p10/p10/s501/ab.jpg", "LATERAL"),
        (BERT, datetime(2150, 3, 1, 8, 5, 56), "images/p20/p20/s502/ba.jpg", "AP"),
    ]
    assert summary["tables"]["cxr_metadata"]["left_out"] == {
        "the image is not in the folder": 1,
        "of a patient who is not in patients": 1,
        "no readable StudyDate and StudyTime": 1,
    }
    assert not list(out.rglob("cc.jpg"))
    assert summary["tables"]["cxr_split"]["left_out"] == {"splits of images; those of this folder are of patients": 6}
    assert not {"cxr_metadata", "cxr_chexpert", "cxr_negbio", "cxr_reports"} & set(summary["missing_tables"])
    assert open_dataset(out).image_column == "image_path"
    assert not [each for each in check(out).problems if "image" in each.message]


def test_reports_and_their_labels_count_from_a_day_after_the_study(
    mimic4: Path, films: list[Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    summary = convert_mimic(mimic4, out, 4, beside=films)
    day_after = datetime(2150, 1, 2, 14, 5, 56)
    assert events(out, prefix="NOTE//").select("time", "code", "text_value").rows() == [
        (day_after, "NOTE//chest_xray_report", "FINDINGS: opacity.")
    ]
    for labeller in ("CHEXPERT", "NEGBIO"):
        found = events(out, prefix=f"{labeller}//").sort("code").select("subject_id", "time", "code").rows()
        said = ("edema//uncertain", "fracture//negative", "pneumonia//positive")
        assert found == [(ANNA, day_after, f"{labeller}//{each}") for each in said]
        assert summary["tables"][f"cxr_{labeller.lower()}"]["left_out"] == {
            "no numeric value": 1,
            "its study is not among the images, or of another patient": 1,
        }
    left_out = summary["tables"]["cxr_reports"]["left_out"]
    assert left_out == {"the report is not in the folder": 1, "no text": 1}


@pytest.mark.parametrize("placing", ["link", "copy"])
def test_images_are_linked_or_copied_and_the_source_is_as_it_was(
    mimic4: Path, films: list[Path], tmp_path: Path, placing: str
) -> None:
    out, source = tmp_path / "out", place(films[0], ANNA, 501) / "aa.jpg"
    source.chmod(0o644)
    with_films = [word for folder in films for word in ("--with", str(folder))]
    assert main(["data", "mimic4", str(mimic4), str(out), "--images", placing, *with_films]) == 0
    target = out / "images" / "p10" / "p10" / "s501" / "aa.jpg"
    assert target.samefile(source) == (placing == "link")
    assert not target.is_symlink()
    assert source.stat().st_mode & 0o777 == 0o644
    assert out.stat().st_mode & 0o777 == 0o700


def test_another_file_system_is_said(
    mimic4: Path, films: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(UsageError, match=r"cannot be hard-linked .* \(Invalid cross-device link\); .* --images copy"):
        convert_mimic(mimic4, tmp_path / "out", 4, beside=films)
    assert not (tmp_path / "out").exists()


def test_modules_lie_apart_as_they_are_published(mimic4: Path, tmp_path: Path) -> None:
    """`mimic-iv-ed/2.2/ed` and `mimic-iv-note/2.2/note` are downloads of their own."""
    ed, note = tmp_path / "mimic-iv-ed" / "2.2", tmp_path / "mimic-iv-note" / "2.2"
    for folder in (ed / "ed", note / "note"):
        folder.mkdir(parents=True)
    visit = {"subject_id": ANNA, "hadm_id": 1, "stay_id": 9, "intime": "2150-01-01 08:00:00"}
    more = {"outtime": "2150-01-01 10:00:00", "arrival_transport": "WALK IN", "disposition": "ADMITTED"}
    write_table(ed / "ed", "edstays", [visit | more | {"gender": "F", "race": "OTHER"}])
    times = {"charttime": "2150-01-01 09:00:00", "storetime": "2150-01-01 11:00:00"}
    report = {"note_id": "10-RR-1", "subject_id": ANNA, "hadm_id": 1, "note_type": "RR", "note_seq": 1}
    write_table(note / "note", "radiology", [report | times | {"text": "Clear lungs."}])
    fields = {"note_id": "10-RR-1", "subject_id": ANNA, "field_name": "exam_name", "field_value": "CHEST"}
    write_table(note / "note", "radiology_detail", [fields | {"field_ordinal": 1}])
    out = tmp_path / "out"
    summary = convert_mimic(mimic4, out, 4, beside=[ed, note])
    assert events(out, ANNA, "NOTE//").select("time", "code").rows() == [(datetime(2150, 1, 1, 11), "NOTE//radiology")]
    assert events(out, ANNA, "ED_")["code"].to_list() == ["ED_ARRIVAL//walk in", "ED_DISCHARGE//admitted"]
    assert summary["tables"]["radiology_detail"]["left_out"] == {"fields about notes": 1}
    missing = set(summary["missing_tables"])
    assert {"triage", "vitalsign", "medrecon", "pyxis", "diagnosis", "discharge", "cxr_metadata"} <= missing
    assert not {"edstays", "radiology"} & missing


def test_a_folder_of_nothing_known_and_a_table_given_twice_are_said(
    mimic4: Path, films: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    with pytest.raises(UsageError, match="other has no table or report that is known here"):
        convert_mimic(mimic4, tmp_path / "out", 4, beside=[tmp_path / "other"])
    (tmp_path / "other" / "patients.csv").write_bytes((mimic4 / "hosp" / "patients.csv").read_bytes())
    write_table(tmp_path / "other", "triage", [{"subject_id": 1}])
    with pytest.raises(UsageError, match=r"patients is in .*hosp too; give one of them"):
        convert_mimic(mimic4, tmp_path / "out", 4, beside=[tmp_path / "other"])
    with pytest.raises(UsageError, match="mimic-cxr-reports needs the table metadata of MIMIC-CXR-JPG"):
        convert_mimic(mimic4, tmp_path / "out", 4, beside=films[1:])


def test_a_link_out_of_the_x_rays_is_not_followed(mimic4: Path, films: list[Path], tmp_path: Path) -> None:
    secret, path = tmp_path / "secret.jpg", place(films[0], ANNA, 501) / "aa.jpg"
    path.rename(secret)
    path.symlink_to(secret)
    summary = convert_mimic(mimic4, tmp_path / "out", 4, beside=films)
    assert summary["tables"]["cxr_metadata"]["left_out"]["the image is not in the folder"] == 2


def test_times_of_studies_have_lost_their_zeros() -> None:
    rows = [("21500101", "556.25"), ("21500101.0", "0.0"), ("21500101", "235959.999"), ("21500101", "1260.0")]
    table = pl.DataFrame(rows, schema=["studydate", "studytime"], orient="row")
    found = table.select(taken()).to_series().to_list()
    assert found == [datetime(2150, 1, 1, 0, 5, 56), datetime(2150, 1, 1), datetime(2150, 1, 1, 23, 59, 59), None]
