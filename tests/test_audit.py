"""Planted leaks are found, each by the check that is about it; clean cohorts pass."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from toy_audit import (
    DAY,
    HOUR,
    LABELS,
    SHARD,
    SPLITS,
    TWIN,
    Planted,
    add_events,
    add_twins,
    audited,
    change,
    copied,
    in_order,
    marked,
    paint,
    positives,
    read,
    toy_config,
    who,
)

from experiments.audit.run import CHECKS, FILE_CHECKS, audit_config
from experiments.sources.synthetic import RECIPES, write_synthetic


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean cohort of 400 patients, most of whom have everything; tests must not write into it."""
    folder = tmp_path_factory.mktemp("audit") / "data"
    write_synthetic(folder, patients=400, seed=5, recipe="unique", note_missing=0.1, image_missing=0.1)
    return folder


def before(folder: Path, code: str, share: float = 1.0) -> pl.DataFrame:
    """An event of some positives an hour before the prediction."""
    table = positives(folder, share).select("subject_id", time=pl.col("prediction_time") - HOUR)
    return table.with_columns(code=pl.lit(code))


def many_more(folder: Path) -> None:
    mine = positives(folder)
    several = pl.DataFrame({"hours": [float(hour) for hour in range(1, 61)]})
    time = pl.col("prediction_time") - pl.duration(minutes=pl.col("hours"))
    add_events(folder, mine.join(several, how="cross").select("subject_id", time=time, code=pl.lit("LAB//sodium")))


def lab_value(folder: Path) -> None:
    table = read(folder, LABELS).with_row_index("place")
    wave = pl.col("place").cast(pl.Float64).sin() * 0.3
    value = (pl.col("boolean_value").cast(pl.Float64) + wave).alias("numeric_value")
    time = (pl.col("prediction_time") - HOUR).alias("time")
    add_events(folder, table.select("subject_id", time, value, code=pl.lit("LAB//marker")))


def word(folder: Path) -> None:
    mine = pl.col("subject_id").is_in(positives(folder)["subject_id"].to_list())
    note = pl.col("text_value").is_not_null() & pl.col("code").str.ends_with("admission")
    text = pl.when(mine & note).then(pl.col("text_value") + " palliation").otherwise("text_value")
    change(folder, SHARD, lambda table: table.with_columns(text_value=text))


def discharge_notes(folder: Path) -> None:
    """Date discharge summaries back to the day of admission, as some sources do."""
    cut = read(folder, LABELS).select("subject_id", "prediction_time")
    early = pl.when(pl.col("code") == "NOTE//discharge").then(pl.col("prediction_time") - 5 * HOUR).otherwise("time")
    change(
        folder,
        SHARD,
        lambda table: in_order(
            table.join(cut, on="subject_id", maintain_order="left").with_columns(time=early).drop("prediction_time")
        ),
    )


def late_results(folder: Path) -> None:
    """Notes of a fifth of the patients that were written before the prediction, but signed two days after it."""
    cut = read(folder, LABELS).select("subject_id", "prediction_time").filter(pl.col("subject_id") % 5 == 0)
    signed = pl.when(pl.col("text_value").is_not_null()).then(pl.col("prediction_time") + 2 * DAY).otherwise(None)
    change(
        folder,
        SHARD,
        lambda table: (
            table.join(cut, on="subject_id", how="left", maintain_order="left")
            .with_columns(available_time=signed)
            .drop("prediction_time")
        ),
    )


def same_image(folder: Path) -> None:
    """Give two held-out patients the image of a training patient."""
    have = {int(path.stem): path for path in (folder / "images").rglob("*.png")}
    [source] = [have[each] for each in who(folder)["subject_id"].to_list() if each in have][:1]
    for each in [each for each in who(folder, "held_out")["subject_id"].to_list() if each in have][:2]:
        have[each].write_bytes(source.read_bytes())


def same_note(folder: Path) -> None:
    """Give two held-out patients the long note of a training patient, its numbers changed."""
    text = "A note that somebody wrote about this one person. " * 5
    chosen = [*who(folder).head(1)["subject_id"], *who(folder, "held_out").head(2)["subject_id"]]
    cut = read(folder, LABELS).filter(pl.col("subject_id").is_in(chosen))
    time = pl.col("prediction_time") - 2 * HOUR
    notes = cut.with_row_index("place").select(
        "subject_id",
        time=time,
        code=pl.lit("NOTE//progress"),
        text_value=pl.format("Seen at 10:4{}. {}", "place", pl.lit(text)),
    )
    add_events(folder, notes)


def no_notes(folder: Path) -> None:
    mine = pl.col("subject_id").is_in(positives(folder, 0.8)["subject_id"].to_list())
    early = pl.col("text_value").is_not_null() & (pl.col("code") != "NOTE//discharge")
    change(folder, SHARD, lambda table: table.filter(~(mine & early)))


def after_death(folder: Path) -> None:
    change(folder, LABELS, lambda table: table.with_columns(prediction_time=pl.col("prediction_time") + 90 * DAY))


def two_splits(folder: Path) -> None:
    change(
        folder,
        SPLITS,
        lambda table: pl.concat([table, who(folder).head(2).select("subject_id", split=pl.lit("tuning"))]),
    )


def two_labels(folder: Path) -> None:
    other = ~pl.col("boolean_value")
    change(folder, LABELS, lambda table: pl.concat([table, table[5:8].with_columns(boolean_value=other)]))


def most(table: pl.DataFrame) -> pl.DataFrame:
    """Keep six of seven events."""
    return table.with_row_index("place").filter(pl.col("place") % 7 != 3).drop("place")


def half_other(table: pl.DataFrame) -> pl.DataFrame:
    """Move two of three events to times of their own, so that only a third of a record is still the same."""
    moved = pl.col("place") % 3 != 0
    time = pl.when(moved).then(pl.col("time") - pl.duration(minutes=pl.col("place") + 1)).otherwise("time")
    return in_order(table.with_row_index("place").with_columns(time=time).drop("place"))


LEAKS = {
    "a patient in two splits": Planted("splits overlap", "error", two_splits),
    "two labels at one time": Planted("duplicate labels", "error", two_labels),
    "patients under two numbers": Planted("duplicate records", "error", lambda f: add_twins(f, 5, lambda t: t)),
    "copies with other dates and holes": Planted("duplicate records", "error", lambda f: add_twins(f, 5, most, 200)),
    "records that share a third": Planted("duplicate records", "warning", lambda f: add_twins(f, 60, half_other)),
    "people in two splits who differ": Planted("shuffled labels", "error", lambda f: add_twins(f, 60, half_other)),
    "the same image": Planted("duplicate images", "error", same_image),
    "the same note": Planted("duplicate notes", "warning", same_note),
    "results not yet signed": Planted("availability time", "error", late_results),
    "predicted after death": Planted("label-defining codes", "error", after_death),
    "the code that makes the label": Planted(
        "label-defining codes", "error", lambda f: add_events(f, before(f, "ICD10CM//Z51.5", 0.3))
    ),
    "a code named as the label": Planted(
        "label-defining codes", "warning", lambda f: add_events(f, before(f, "FLAG//OUTCOME", 0.05))
    ),
    "discharge summaries dated back": Planted("discharge notes", "error", discharge_notes),
    "a code that only positives have": Planted(
        "single features", "error", lambda f: add_events(f, before(f, "X", 0.5))
    ),
    "a code that some positives have": Planted(
        "single features", "warning", lambda f: add_events(f, before(f, "X", 0.15))
    ),
    "a value that is the label": Planted("single features", "error", lab_value),
    "a word that is the label": Planted("single features", "error", word),
    "more data of positives": Planted("single features", "error", many_more),
    "positives lack notes": Planted("missing modalities", "warning", no_notes),
    "a mark in the corner": Planted("image giveaways", "error", lambda f: paint(f, marked)),
    "images of another size": Planted("image giveaways", "error", lambda f: paint(f, lambda i: i.resize((40, 36)))),
}


@pytest.mark.parametrize("name", LEAKS)
def test_planted_leak_is_found_by_its_check(name: str, clean: Path, tmp_path: Path) -> None:
    leak = LEAKS[name]
    folder = copied(clean, tmp_path / "data")
    leak.plant(folder)
    found = audited(folder, tmp_path / "runs")
    assert leak.check in [check for check, _ in found.of(leak.severity)], found.to_dict()
    assert found.ok == (not found.of("error"))
    text = str(found.to_dict())
    assert str(TWIN + 1)[:5] not in text, "names a patient"
    assert "palliation" not in text
    assert "somebody wrote" not in text


@pytest.mark.parametrize("recipe", RECIPES)
def test_clean_cohort_passes(recipe: str, tmp_path: Path) -> None:
    write_synthetic(tmp_path / "data", patients=400, seed=2, recipe=recipe, missing="severity")
    found = audited(tmp_path / "data", tmp_path / "runs")
    assert found.of("error") == []
    assert {check for check, _ in found.of("warning")} <= {"missing modalities"}
    assert [line.check for line in found.lines] == [*FILE_CHECKS, *CHECKS]
    ran = [line.check for line in found.lines if line.status != "skipped"]
    assert set(CHECKS) - set(ran) <= {"availability time", "pre-training", "duplicate notes", "image giveaways"}


def test_summary_of_an_earlier_stay_is_no_leak(clean: Path, tmp_path: Path) -> None:
    folder = copied(clean, tmp_path / "data")
    mine = read(folder, LABELS).head(30).select("subject_id", "prediction_time")
    for days, code, text in (
        (400.0, "HOSPITAL_ADMISSION", None),
        (390.0, "HOSPITAL_DISCHARGE", None),
        (389.0, "NOTE//discharge", "Discharge summary of last year."),
        (1.0, "HOSPITAL_ADMISSION", None),
    ):
        time = (pl.col("prediction_time") - pl.duration(hours=days * 24)).alias("time")
        add_events(folder, mine.select("subject_id", time, code=pl.lit(code), text_value=pl.lit(text, pl.String)))
    found = audited(folder, tmp_path / "runs")
    [line] = [line for line in found.lines if line.check == "discharge notes"]
    assert (line.status, line.measured) == ("passed", "30 notes of discharge or death before the prediction")
    change(folder, SHARD, lambda table: table.filter(pl.col("code") != "HOSPITAL_ADMISSION"))
    assert audited(folder, tmp_path / "runs").of("error") == []


@pytest.mark.parametrize("kind", ["multiclass", "regression", "multilabel"])
def test_other_kinds_of_tasks_are_audited(kind: str, clean: Path, tmp_path: Path) -> None:
    folder = copied(clean, tmp_path / "data")
    table, place = read(folder, LABELS), pl.int_range(pl.len())
    if kind == "multilabel":
        for name, label in (("first", place % 2 == 0), ("second", place % 3 == 0)):
            (folder / "labels" / "several").mkdir(exist_ok=True)
            path = folder / "labels" / "several" / f"{name}.parquet"
            table.with_columns(boolean_value=label).write_parquet(path)
    else:
        column = (place % 3).alias("integer_value") if kind == "multiclass" else (place % 7 * 0.5).alias("float_value")
        change(folder, LABELS, lambda table: table.select("subject_id", "prediction_time", column))
        marker = read(folder, LABELS).filter(place % 3 == 2) if kind == "multiclass" else read(folder, LABELS)
        value = pl.lit(None, pl.Float32) if kind == "multiclass" else pl.col("float_value")
        time = (pl.col("prediction_time") - HOUR).alias("time")
        add_events(folder, marker.select("subject_id", time, code=pl.lit("LEAK"), numeric_value=value))
    labels = "several" if kind == "multilabel" else "outcome"
    found = audit_config(toy_config(folder, tmp_path / "runs", labels=labels))
    errors = [each.what for check, each in found.of("error") if check == "single features"]
    assert bool(errors) == (kind != "multilabel")
    assert kind != "multiclass" or "tell the label of '2': LEAK" in errors[0]
    assert kind != "regression" or "tell the label of a value above the median: LEAK" in errors[0]
