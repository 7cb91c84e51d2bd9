"""Records as text: golden files, sections, lines, and nothing from after the prediction."""

from __future__ import annotations

import doctest
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_records import DESCRIPTIONS, EVERYTHING, MEASURES, NAN, PATIENT, coded

import encoders.phrases
from encoders.phrases import say_values
from encoders.records import Measure, Record, no_events
from encoders.serialise import (
    BLOCKS,
    SECTIONS,
    TextOptions,
    find_block,
    name_code,
    say_when,
    write_blocks,
    write_record,
)
from experiments.sources.channels import parents
from experiments.sources.synthetic.vocabulary import codes as synthetic_codes
from fusion import UsageError

GOLDEN = Path(__file__).parent / "golden"


# --- golden files ---


@pytest.mark.parametrize(
    ("name", "record", "options"),
    [
        ("record", PATIENT, TextOptions()),
        ("short", PATIENT, TextOptions(("demographics", "laboratory"), max_lines=1, last_values=1)),
        ("nothing", Record(), TextOptions()),
    ],
)
def test_text_is_that_of_the_golden_file(name: str, record: Record, options: TextOptions) -> None:
    assert write_record(record, DESCRIPTIONS, options) == (GOLDEN / f"{name}.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "record"),
    [
        ("everything", EVERYTHING),
        ("nothing_at_all", Record()),
        ("notes_only", replace(EVERYTHING, codes=no_events(), images=())),
    ],
)
def test_every_section_and_every_missing_modality_is_that_of_the_golden_file(name: str, record: Record) -> None:
    found = write_record(record, DESCRIPTIONS, TextOptions(SECTIONS), MEASURES)
    assert found == (GOLDEN / f"{name}.md").read_text(encoding="utf-8")
    assert "SMITH" not in found, "people name image files after patients"


@pytest.mark.parametrize("name", SECTIONS)
def test_a_section_alone_is_its_part_of_the_golden_file(name: str) -> None:
    found = write_record(EVERYTHING, DESCRIPTIONS, TextOptions((name,)), MEASURES)
    head, _, section = found.partition("\n## ")
    assert head.startswith("# Patient record")
    assert f"\n## {section}" in (GOLDEN / "everything.md").read_text(encoding="utf-8")


def test_blocks_are_the_bodies_of_the_sections() -> None:
    texts = write_blocks(PATIENT, DESCRIPTIONS)
    assert list(texts) == list(BLOCKS)
    assert texts["procedures"] == "No procedure is recorded."
    assert texts["drugs"] == "- metformin; 39 days before"
    whole = write_record(PATIENT, DESCRIPTIONS)
    assert all(f"## {BLOCKS[name].heading}\n\n{text}\n" in whole for name, text in texts.items())


def test_empty_block_has_its_sentence() -> None:
    assert write_blocks(Record(), {}) == {
        "demographics": "No demographic fact is recorded.",
        "diagnoses": "No diagnosis is recorded.",
        "drugs": "No medication is recorded.",
        "laboratory": "No laboratory value is recorded.",
        "vitals": "No vital sign is recorded.",
        "procedures": "No procedure is recorded.",
        "other": "No other event is recorded.",
    }


# --- codes of our sources ---


def test_codes_of_the_sources_come_to_their_blocks() -> None:
    found = {find_block(each.code) for each in synthetic_codes(1) if each.code.startswith(("ICD", "LAB", "VITAL"))}
    assert found == {"diagnoses", "laboratory", "vitals"}
    assert {find_block(code) for code in parents()} <= {"laboratory", "vitals"}
    wanted = {
        "AGE": "demographics",
        "ETHNICITY//A": "demographics",
        "gender//M": "demographics",
        "MEDS_BIRTH": "demographics",
        "DX//cardiovascular|shock": "diagnoses",
        "ADMISSION_DX//sepsis": "diagnoses",
        "HISTORY//renal": "diagnoses",
        "ICD9CM//428.0": "diagnoses",
        "ATC//A10BA02": "drugs",
        "HOME_DRUG//HICL//12": "drugs",
        "INFUSION//propofol": "drugs",
        "TREATMENT//ventilation": "procedures",
        "ICD9PROC//31.1": "procedures",
        "APACHE//score": "other",
        "HOSPITAL_ADMISSION": "other",
        "never seen": "other",
    }
    assert {code: find_block(code) for code in wanted} == wanted


def test_no_prefix_is_in_two_blocks() -> None:
    every = [prefix for block in BLOCKS.values() for prefix in block.prefixes]
    assert len(every) == len(set(every))


# --- lines ---


def lines(*events: tuple[str, float, float], texts: dict[str, str] | None = None, **options: Any) -> list[str]:
    found = write_blocks(coded(*events), texts or {}, TextOptions(**options))
    return [line for text in found.values() for line in text.splitlines() if line.startswith("- ")]


def test_what_is_written_twice_is_said_once() -> None:
    assert lines(("DX//a", 3, NAN), ("DX//a", 3, NAN)) == ["- DX a; 3 days before"]
    same = {"DX//a": "Flu", "DX//b": "Flu"}
    assert lines(("DX//a", 9, NAN), ("DX//b", 3, NAN), texts=same) == [
        "- Flu; 2 times, first 9 days before, last 3 days before"
    ]


def test_measurements_of_one_name_are_not_mixed() -> None:
    same = {"LAB//g//mg": "Glucose", "LAB//g//mmol": "Glucose"}
    assert lines(("LAB//g//mg", 3, 180.0), ("LAB//g//mmol", 3, 10.0), texts=same) == [
        "- Glucose: 180; 3 days before",
        "- Glucose: 10; 3 days before",
    ]


def test_value_that_is_no_number_is_no_value() -> None:
    assert lines(("LAB//x", 3, 5.0), ("LAB//x", 1, np.inf)) == ["- LAB x: 5; 3 days before"]
    assert lines(("LAB//x", 1, np.inf)) == ["- LAB x; 24 hours before"]


@pytest.mark.parametrize(
    ("values", "trend"),
    [
        ((1.0, 1.05), "steady"),
        ((1.0, 1.2), "rising"),
        ((1.2, 1.0), "falling"),
        ((0.0, 0.0), "steady"),
        ((-2.0, -1.0), "rising"),
    ],
)
def test_trend(values: tuple[float, float], trend: str) -> None:
    assert f"({trend})" in lines(("LAB//x", 2, values[0]), ("LAB//x", 1, values[1]))[0]


@pytest.mark.parametrize(
    ("value", "measure", "said"),
    [
        (5.0, Measure("mg", 1, 4), "5 mg (high; reference 1 to 4)"),
        (4.0, Measure("mg", 1, 4), "4 mg (normal; reference 1 to 4)"),
        (0.5, Measure("", 1, 4), "0.5 (low; reference 1 to 4)"),
        (0.5, Measure("mg", 1, None), "0.5 mg (low; reference from 1)"),
        (9.0, Measure("mg", None, 8), "9 mg (high; reference up to 8)"),
        (9.0, Measure("mg"), "9 mg"),
        (9.0, Measure(), "9"),
    ],
)
def test_a_value_is_told_in_its_unit_and_held_against_its_reference(value: float, measure: Measure, said: str) -> None:
    assert say_values("x", [value], measure) == said


def test_the_examples_are_right() -> None:
    assert doctest.testmod(encoders.phrases).failed == 0


def test_last_values_are_kept_oldest_first() -> None:
    many = [("LAB//x", 9.0 - i, float(i)) for i in range(6)]
    assert lines(*many, last_values=2)[0].startswith("- LAB x: 4, 5 (rising); 6 times")


def test_newest_lines_are_kept_and_the_rest_counted() -> None:
    assert lines(("DX//a", 9, NAN), ("DX//b", 3, NAN), ("DX//c", 5, NAN), max_lines=1) == [
        "- DX b; 3 days before",
        "- and 2 more",
    ]


def test_description_cannot_make_a_heading_of_its_own() -> None:
    assert name_code("X", {"X": "one\n## Drugs\n"}) == "one ## Drugs"
    assert name_code("X", {"X": ""}) == "X"


def test_days_in_single_precision_lose_no_day() -> None:
    assert say_when(float(np.float32(2.9999998))) == "3 days before"
    assert say_when(float(np.float32(1 / 24))) == "1 hour before"
    assert [say_when(days) for days in (0, 59.9, 61, 729, 731)] == [
        "at the prediction", "59 days before", "2 months before", "23 months before", "2 years before",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sections": ("drug",)}, "text: unknown section 'drug'; did you mean 'drugs'?"),
        ({"sections": ()}, f"text: no section; choose among {', '.join(SECTIONS)}"),
        ({"max_lines": 0}, "max_lines must be at least 1; got 0"),
        ({"last_values": 0}, "last_values must be at least 1; got 0"),
    ],
)
def test_senseless_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as raised:
        TextOptions(**options)
    assert str(raised.value) == message
