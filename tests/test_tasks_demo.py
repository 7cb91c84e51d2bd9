"""Tasks on the open demos, where they are there: the counts that docs/tasks.md tells, the converters' own labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl
import pytest

from experiments.data.folder import open_dataset
from experiments.sources.eicu import convert_eicu
from experiments.sources.mimic import convert_mimic
from experiments.sources.mimic.people import Version
from experiments.tasks.counts import shown
from experiments.tasks.evaluate import evaluate
from experiments.tasks.load import load_task, task_names
from fusion.component import UsageError

DOCS = Path(__file__).resolve().parents[1] / "docs" / "tasks.md"
TASKS = [name for name in task_names() if load_task(name).label.given is None]
QUICK = ["in_hospital_mortality_24h", "icu_mortality_24h", "length_of_stay_over_3_days", "readmission_30d", "shock_12h"]
EICU = ["in_hospital_mortality_24h", "shock_12h", "readmission_30d"]


def cell(folder: Path, name: str) -> str:
    """What came of a task on a folder: rows, and who is positive, or how many labels there are."""
    try:
        found = evaluate(load_task(name), open_dataset(folder))
    except UsageError as error:
        return "not defined on it" if "is not defined on" in str(error) else "not in the source"
    last = found.flow[-1]
    rows = shown(last["n"])
    if found.labels:
        return f"{rows}, {len(found.labels)} labels"
    return f"{rows}, {shown(last['positive'])} positive" if "positive" in last else f"{rows}, in classes"


def lines(folder: Path, demo: str, names: Sequence[str]) -> list[str]:
    """The lines of the table in the docs."""
    return [f"| {demo} | `{name}` | {cell(folder, name)} |" for name in names]


@pytest.fixture(scope="module", params=[3, 4], ids=["mimic3", "mimic4"])
def mimic(
    request: pytest.FixtureRequest, shared_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path]:
    version: Version = request.param
    name = {3: "mimic-iii-demo", 4: "mimic-iv-demo"}[version]
    out = tmp_path_factory.mktemp("mimic") / "data"
    convert_mimic(shared_data / name, out, version)
    return name, out


def test_the_docs_tell_what_the_command_finds(mimic: tuple[str, Path]) -> None:
    name, folder = mimic
    text = DOCS.read_text(encoding="utf-8")
    for line in lines(folder, name, QUICK):
        assert line in text


@pytest.mark.slow
def test_the_docs_tell_what_the_command_finds_of_every_other_task(mimic: tuple[str, Path]) -> None:
    name, folder = mimic
    text = DOCS.read_text(encoding="utf-8")
    for line in lines(folder, name, [task for task in TASKS if task not in QUICK]):
        assert line in text


def test_the_task_and_the_converter_agree_on_death_in_hospital(mimic: tuple[str, Path]) -> None:
    _, folder = mimic
    theirs = pl.read_parquet(folder / "labels" / "hospital_mortality.parquet")
    mine = evaluate(load_task("in_hospital_mortality_24h"), open_dataset(folder)).rows
    assert mine.equals(theirs.sort("subject_id", "prediction_time"))


def test_the_task_and_the_converter_agree_on_long_stays(mimic: tuple[str, Path]) -> None:
    _, folder = mimic
    theirs = pl.read_parquet(folder / "labels" / "unit_stay_over_3_days.parquet")
    mine = evaluate(load_task("length_of_stay_over_3_days"), open_dataset(folder)).rows
    both = mine.join(theirs, on=["subject_id", "prediction_time"], suffix="_theirs")
    assert both.height == theirs.height  # the converter leaves a stay out that the hospital's own times contradict
    assert mine.height - theirs.height <= 1
    assert both["boolean_value"].equals(both["boolean_value_theirs"])


@pytest.mark.slow
def test_eicu_stays_of_which_too_little_is_recorded_are_left_out(
    shared_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("eicu") / "data"
    convert_eicu(shared_data / "eicu-demo", folder)
    text = DOCS.read_text(encoding="utf-8")
    for line in lines(folder, "eicu-demo", EICU):
        assert line in text
    theirs = pl.read_parquet(folder / "labels" / "hospital_mortality.parquet")
    mine = evaluate(load_task("in_hospital_mortality_24h"), open_dataset(folder)).rows
    both = mine.join(theirs, on=["subject_id", "prediction_time"], suffix="_theirs")
    assert both.height >= 0.99 * theirs.height
    assert both["boolean_value"].equals(both["boolean_value_theirs"])
