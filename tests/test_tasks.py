"""Every task on patients whose labels a person worked out, with events exactly on the edges of its windows."""

from __future__ import annotations

from pathlib import Path

import pytest
from toy_tasks import Event, at, hospital, left_out, result_of, task_file, truth, unit

from experiments.data.folder import open_dataset
from experiments.tasks.load import load_task, task_names
from experiments.tasks.write import label_folder
from fusion.component import UsageError

MINUTE = 1 / 60
DEATH = "MEDS_DEATH"


def inside(end: float, *more: Event, went: str = "home", out: float = 200) -> list[Event]:
    """In hospital from hour -1 to `out`, in the unit from 0 to `end`."""
    return [*hospital(-1, out, went=went), *unit(0, end), *more]


def test_death_in_hospital_counts_from_after_the_prediction_to_the_discharge(tmp_path: Path) -> None:
    people = {
        1: inside(30, (100, DEATH), went="died", out=100),  # dies with the discharge
        2: inside(24),  # leaves the unit at the very moment of the prediction
        3: inside(30, (24, DEATH), out=30),  # dies at that moment
        4: inside(30),
        5: inside(30, (200, DEATH)),  # at the discharge, which does not say so
        6: inside(30, (200 + MINUTE, DEATH)),  # a minute later: not in hospital
        7: [(-1, "HOSPITAL_ADMISSION//urgent"), *unit(0, 30)],  # whose discharge is not recorded
        8: inside(30, (-17 * 8766, "MEDS_BIRTH")),
        9: inside(24 + MINUTE, (24 + MINUTE, DEATH), out=24 + MINUTE),
        10: [(0, "UNIT_ADMISSION//MICU"), (-1, "HOSPITAL_ADMISSION//urgent"), (99, "HOSPITAL_DISCHARGE//home")],
        11: [*inside(30), (150, "HOSPITAL_ADMISSION//urgent")],  # another admission before a discharge is recorded
        12: inside(30, (-19 * 8766, "MEDS_BIRTH")),
    }
    found = result_of(tmp_path / "data", people, "in_hospital_mortality_24h")
    assert truth(found) == {1: True, 4: False, 5: True, 6: False, 9: True, 12: False}
    assert set(found.rows["prediction_time"]) == {at(24)}
    assert list(left_out(found).values()) == [1, 1, 1, 1, 1, 1]
    assert found.flow[0] == {"step": found.flow[0]["step"], "n": 12, "patients": 12}
    assert found.flow[-1] == {"step": "predicted", "n": 6, "patients": 6, "positive": 3}


def test_death_in_hospital_is_asked_again_after_48_hours(tmp_path: Path) -> None:
    people = {1: inside(48), 2: inside(48 + MINUTE), 3: inside(90, (48, DEATH)), 4: inside(90, (49, DEATH), out=49)}
    assert truth(result_of(tmp_path / "data", people, "in_hospital_mortality_48h")) == {2: False, 4: True}


def test_death_in_the_unit_ends_with_the_stay(tmp_path: Path) -> None:
    people = {
        1: inside(30, (30, DEATH)),
        2: inside(30, (30 + MINUTE, DEATH)),
        3: [*hospital(-1, 200), (0, "UNIT_ADMISSION//A"), (30, "UNIT_DISCHARGE//Death")],
        4: inside(30),
    }
    found = truth(result_of(tmp_path / "data", people, "icu_mortality_24h"))
    assert found == {1: True, 2: False, 3: True, 4: False}


def test_decompensation_is_asked_every_hour_and_only_where_the_next_day_was_seen(tmp_path: Path) -> None:
    people = {
        1: inside(10, (32, DEATH), went="died", out=32),
        2: inside(10, out=30),  # lives: from hour 7 on the next day reaches beyond the discharge
        3: inside(4, out=30),  # gone when the first prediction would be made
    }
    found = result_of(tmp_path / "data", people, "decompensation")
    assert truth(found) == {
        **{(1, hour): hour >= 8 for hour in (4, 5, 6, 7, 8, 9)},  # at hour 8 death is 24 h away, to the minute
        **{(2, hour): False for hour in (4, 5, 6)},
    }
    # three stays, seven hours each of two and one of the third; the last hour of each is its end; 7, 8, 9 not seen
    assert [step["n"] for step in found.flow[1:3]] == [3, 15]
    assert list(left_out(found).values()) == [3, 3]


@pytest.mark.parametrize("days", [3, 7])
def test_a_stay_of_so_many_days_to_the_minute_is_not_longer(tmp_path: Path, days: int) -> None:
    people = {1: inside(24 * days), 2: inside(24 * days + MINUTE), 3: inside(24), 4: inside(100, (20, DEATH))}
    found = truth(result_of(tmp_path / "data", people, f"length_of_stay_over_{days}_days"))
    assert found == {1: False, 2: True}


def test_lengths_on_an_edge_are_in_the_class_that_begins_there(tmp_path: Path) -> None:
    people = {1: inside(47), 2: inside(48), 3: inside(7 * 24 - MINUTE), 4: inside(13 * 24), 5: inside(14 * 24, out=900)}
    found = truth(result_of(tmp_path / "data", people, "length_of_stay_classes"))
    assert found == {
        **{1: "00 to 02 days", 2: "02 to 03 days", 3: "06 to 07 days"},
        **{4: "08 to 14 days", 5: "14 days or more"},
    }


def test_readmission_within_30_days_to_the_minute(tmp_path: Path) -> None:
    month, again = 100 + 30 * 24, "HOSPITAL_ADMISSION//urgent"
    people = {
        1: [*hospital(0, 100), (month, again)],
        2: [*hospital(0, 100), (month + MINUTE, again)],
        3: hospital(0, 100),  # never seen again: taken to be negative, and counted
        4: [*hospital(0, 100), (month, DEATH)],  # died within the 30 days
        5: [*hospital(0, 100, went="died"), (100, DEATH)],
        6: [*hospital(0, 100), (100, again)],  # a transfer
        7: [(100, "HOSPITAL_DISCHARGE//home")],  # whose admission is not recorded
        8: [*hospital(0, 100), (month + MINUTE, DEATH)],
    }
    found = result_of(tmp_path / "data", people, "readmission_30d")
    assert truth(found) == {1: True, 2: False, 3: False, 8: False}
    assert found.assumed == 2  # 3 and 8
    assert list(left_out(found).values()) == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("task", "hours", "event", "care"),
    [
        ("acute_respiratory_failure_12h", 12, "PROCEDURE//invasive ventilation", "PROCEDURE//chest x-ray"),
        ("acute_respiratory_failure_4h", 4, "PROCEDURE//225794", "PROCEDURE//chest x-ray"),
        ("acute_respiratory_failure_4h", 4, "VITAL//peep", "PROCEDURE//chest x-ray"),
        ("shock_12h", 12, "INFUSION//norepinephrine (mcg/kg/min)", "INFUSION//propofol"),
        ("shock_4h", 4, "INFUSION//Vasopressin (units/hour)", "INFUSION//propofol"),
    ],
)
def test_onset_counts_after_the_prediction_and_until_the_end(
    tmp_path: Path, task: str, hours: int, event: str, care: str
) -> None:
    people = {
        1: inside(30, (hours, event), (1, care)),  # at the prediction: known, and out
        2: inside(30, (hours + MINUTE, event), (1, care)),
        3: inside(30, (30, event), (1, care)),
        4: inside(30, (30 + MINUTE, event), (1, care)),
        5: inside(30),  # nothing of the kind is recorded at all: it would not be seen
        6: inside(30, (1, care)),
        7: inside(30, (-1, event), (1, care)),  # before the stay: history, not its onset
        8: inside(30, (0, event), (1, care)),
    }
    found = result_of(tmp_path / "data", people, task)
    assert truth(found) == {2: True, 3: True, 4: False, 6: False, 7: False}
    assert list(left_out(found).values()) == [1, 2]


def test_phenotypes_are_what_the_stay_is_coded_with_and_not_known_before(tmp_path: Path) -> None:
    kidney9, kidney10, heart = "ICD9CM//584.9", "ICD10CM//N17.9", "DIAGNOSIS//ICD//9//4280"
    people = {
        1: inside(60, (200, kidney9)),
        2: inside(60, (200, kidney10), (200, heart)),
        3: inside(60, (200, kidney9), (40, heart)),  # a code of the label, dated before the prediction
        4: inside(60, (-1, heart)),  # of an earlier stay, dated at this one's very beginning
        5: inside(60, (200 + MINUTE, heart)),
        6: inside(60, (48, kidney9)),
    }
    found = result_of(tmp_path / "data", people, "phenotypes")
    assert {column: found.rows[column].to_list() for column in ("157", "108")} if found.labels else found.rare
    assert found.labels == {
        "108": "Congestive heart failure; nonhypertensive",
        "157": "Acute and unspecified renal failure",
    }
    assert found.rows["subject_id"].to_list() == [1, 2, 4, 5]
    assert found.rows["157"].to_list() == [True, True, False, False]
    assert found.rows["108"].to_list() == [False, True, False, False]
    assert list(left_out(found).values()) == [2]
    assert len(found.rare) == 23


def test_diagnoses_of_the_next_stay_not_of_this_one_nor_of_the_one_after(tmp_path: Path) -> None:
    task = task_file(
        tmp_path,
        "like: next_visit_diagnoses\nname: mine\ntitle: t\n"
        "label: {each: ccs, least: 1, in: '(next hospital_admission, next hospital_discharge]'}\n",
    )
    people = {
        1: [*hospital(0, 10, (10, "ICD9CM//428.0")), *hospital(50, 60, (60, "ICD9CM//584.9"))],
        2: hospital(0, 10, (10, "ICD9CM//428.0")),
        3: [*hospital(0, 10), *hospital(50, 60, (60, "ICD9CM//410.01")), *hospital(80, 90, (90, "ICD9CM//038.9"))],
        4: [*hospital(0, 10), *hospital(50, 60), (30, "ICD9CM//038.9")],  # a code of the next stay before it begins
    }
    found = result_of(tmp_path / "data", people, task)
    rows = found.rows
    assert set(found.labels) == {"157", "100", "2"}
    assert dict(zip(zip(rows["subject_id"], rows["prediction_time"], strict=True), rows["157"], strict=True)) == {
        (1, at(10)): True,
        (3, at(10)): False,
        (3, at(60)): False,
    }
    assert rows["100"].to_list() == [False, True, False]
    assert rows["2"].to_list() == [False, False, True]


def test_drugs_of_a_stay_by_class_and_not_those_taken_before(tmp_path: Path) -> None:
    task = task_file(
        tmp_path,
        "like: medication\nname: mine\ntitle: t\nlabel: {each: drug_classes, least: 1, in: '(predict, end]'}\n",
    )
    people = {
        1: hospital(0, 10, (1, "DRUG//NAME//furosemide 20mg"), (10, "INFUSION//Heparin (units)")),
        2: hospital(0, 10, (-1, "DRUG//NAME//heparin"), (11, "DRUG//NAME//heparin"), (3, "HOME_DRUG//NAME//heparin")),
        3: hospital(0, 10, (0, "DRUG//NAME//heparin")),  # at the very first moment, where it is an input
        4: hospital(0, 10, (5, "DRUG//NAME//heparinoid")),  # another word
    }
    found = result_of(tmp_path / "data", people, task)
    assert set(found.labels) == {"C03C", "B01A"}
    assert found.rows["subject_id"].to_list() == [1, 2, 4]
    assert found.rows["C03C"].to_list() == [True, False, False]
    assert found.rows["B01A"].to_list() == [True, False, False]


def test_pneumonia_type_is_the_converters_label(tmp_path: Path) -> None:
    from toy_tasks import events_folder

    folder = events_folder(tmp_path / "data", {1: inside(30)})
    with pytest.raises(UsageError, match="unknown label 'covid19'"):
        label_folder(load_task("pneumonia_type"), folder)
    (folder / "labels" / "covid19.parquet").touch()
    with pytest.raises(UsageError, match=r"is written by the converter; name it in data\.labels"):
        label_folder(load_task("pneumonia_type"), folder)


def test_there_is_a_test_for_every_task() -> None:
    text = Path(__file__).read_text(encoding="utf-8")
    for name in task_names():
        assert (
            f'"{name}"' in text
            or name in ("length_of_stay_over_3_days", "length_of_stay_over_7_days")
            or (f"like: {name}\\n" in text)
        ), name


def test_a_task_without_the_events_that_make_its_label_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"shock_4h: no event is what defines the label \(INFUSION//\*norepine"):
        result_of(tmp_path / "data", {1: inside(30)}, "shock_4h")
    with pytest.raises(UsageError, match=r"no event is unit_admission \(UNIT_ADMISSION, "):
        result_of(tmp_path / "other", {1: [*hospital(0, 9), (3, DEATH)]}, "icu_mortality_24h")


def test_nobody_left_names_the_step(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nobody is left after the step 'in the unit at the prediction'"):
        result_of(tmp_path / "data", {1: inside(9, (300, DEATH))}, "icu_mortality_24h")


def test_times_of_which_the_source_cannot_tell_are_left_out_and_counted(tmp_path: Path) -> None:
    import polars as pl
    from toy_tasks import events_folder

    from experiments.sources.folder import write_table
    from experiments.tasks.evaluate import evaluate

    folder = events_folder(tmp_path / "data", {1: inside(30, (90, DEATH)), 2: inside(30), 3: inside(30)})
    unknown = pl.DataFrame({"subject_id": [2, 3], "start": [at(24), at(25)], "end": [at(24), at(90)], "why": ["", ""]})
    write_table(unknown, folder / "metadata" / "unpredictable.parquet")
    found = evaluate(load_task("in_hospital_mortality_24h"), open_dataset(folder))
    assert truth(found) == {1: True, 3: False}
    assert left_out(found) == {"the source records what came before, and how the hospital stay ended": 1}
