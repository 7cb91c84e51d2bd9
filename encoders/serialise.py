"""A record's coded events as text: the same record gives the same text, and nothing from after the prediction time."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from encoders.limits import at_least
from encoders.records import Record
from fusion.component import UsageError, unknown


class Block(NamedTuple):
    """A part of the text: its heading, what it says where nothing is known, and the code prefixes that belong to it."""

    heading: str
    empty: str
    prefixes: frozenset[str]


def _block(heading: str, empty: str, prefixes: str = "") -> Block:
    return Block(heading, f"No {empty} is recorded.", frozenset(prefixes.split()))


BLOCKS: dict[str, Block] = {
    "demographics": _block(
        "Demographics",
        "demographic fact",
        "AGE GENDER SEX ETHNICITY RACE MEDS_BIRTH MARITAL_STATUS LANGUAGE INSURANCE",
    ),
    "diagnoses": _block(
        "Diagnoses",
        "diagnosis",
        "ICD ICD9CM ICD10CM ICD10 DX ADMISSION_DX DIAGNOSIS CONDITION HISTORY ALLERGY SNOMED PHECODE HPO",
    ),
    "drugs": _block(
        "Drugs",
        "medication",
        "ATC DRUG HOME_DRUG INFUSION INFUSION_START INFUSION_END MEDICATION RXNORM NDC VACCINE",
    ),
    "laboratory": _block("Laboratory values", "laboratory value", "LAB LOINC"),
    "vitals": _block("Vital signs", "vital sign", "VITAL"),
    "procedures": _block("Procedures", "procedure", "PROCEDURE ICD9PROC ICD10PCS CPT CPT4 HCPCS TREATMENT"),
    "other": _block("Other events", "other event"),
}
"""The parts of the text in their order. A code belongs to the block that lists what stands before its first `//`, in
upper case; admissions, scores, examinations and whatever no block lists are `other`."""

_BLOCK_OF = {prefix: name for name, block in BLOCKS.items() for prefix in block.prefixes}
_HEAD = "# Patient record\n\nTimes count back from the time of the prediction.\n"
_UNITS = (("hour", 1.0, 48.0), ("day", 24.0, 60 * 24.0), ("month", 730.5, 2 * 8766.0), ("year", 8766.0, math.inf))
_STEADY = 0.1  # a smaller change, as a share of the larger value, is none


@dataclass(frozen=True)
class TextOptions:
    """Which blocks are written, in how many lines at most, and how many of the last values of a measurement.

    Raises:
        UsageError: an unknown block, or no line or no value.
    """

    sections: tuple[str, ...] = tuple(BLOCKS)
    max_lines: int = 32
    last_values: int = 3

    def __post_init__(self) -> None:
        for name in self.sections:
            if name not in BLOCKS:
                raise unknown("section", name, BLOCKS, "text")
        at_least("max_lines", self.max_lines, 1)
        at_least("last_values", self.last_values, 1)


DEFAULT = TextOptions()


class _Event(NamedTuple):
    days: float
    value: float | None


def write_record(record: Record, descriptions: Mapping[str, str], options: TextOptions = DEFAULT) -> str:
    """Write coded events as one Markdown text, a section a block.

    Raises:
        UsageError: an event is from after the prediction time.

    Reference:
        Hegselmann et al., Large Language Models are Powerful Electronic Health Record Encoders, 2025 (times are
        relative, and values have a trend in place of a reference range).
    """
    texts = write_blocks(record, descriptions, options)
    return "\n".join([_HEAD, *(f"## {BLOCKS[name].heading}\n\n{text}\n" for name, text in texts.items())])


def write_blocks(record: Record, descriptions: Mapping[str, str], options: TextOptions = DEFAULT) -> dict[str, str]:
    """Write coded events as one text a block; a block without events says so in a sentence.

    Raises:
        UsageError: an event is from after the prediction time.
    """
    groups: dict[str, dict[tuple[str, str], list[_Event]]] = {name: {} for name in BLOCKS}
    for code, events in _by_code(record).items():
        valued = any(event.value is not None for event in events)
        # codes of one meaning are one line; measurements are not, for their units may differ
        key = name_code(code, descriptions), code if valued else ""
        groups[find_block(code)].setdefault(key, []).extend(events)
    return {name: _write(BLOCKS[name], groups[name], options) for name in BLOCKS if name in options.sections}


def find_block(code: str) -> str:
    """Return the block a code belongs to.

    Examples:
        >>> find_block("VITAL//heart_rate"), find_block("HOSPITAL_ADMISSION//Emergency")
        ('vitals', 'other')
    """
    return _BLOCK_OF.get(code.partition("//")[0].upper(), "other")


def name_code(code: str, descriptions: Mapping[str, str]) -> str:
    """Return a code's description in one line; without one, the code with blanks for its signs.

    Examples:
        >>> name_code("LAB//blood_gas|pH", {}), name_code("A", {"A": "Age  in years"})
        ('LAB blood gas: pH', 'Age in years')
    """
    text = descriptions.get(code) or code.replace("//", " ").replace("_", " ").replace("|", ": ")
    return " ".join(text.split())


def say_when(days: float) -> str:
    """Say how long before the prediction something happened, in the largest unit that has two of itself.

    Examples:
        >>> [say_when(days) for days in (0.02, 1 / 24, 3.0, 70, 800)]
        ['less than an hour before', '1 hour before', '3 days before', '2 months before', '2 years before']
    """
    if days == 0:
        return "at the prediction"
    hours = days * 24 * (1 + 1e-6)  # days are kept in single precision: 3 may be 2.9999998
    if hours < 1:
        return "less than an hour before"
    unit, length = next((unit, length) for unit, length, most in _UNITS if hours < most)
    count = math.floor(hours / length)
    return f"{count} {unit}{'' if count == 1 else 's'} before"


def _by_code(record: Record) -> dict[str, list[_Event]]:
    """Return each code's events; what is written twice is one event."""
    codes, days, values = record.codes
    found: dict[str, set[_Event]] = {}
    for place, (code, day, value) in enumerate(zip(codes, days.tolist(), values.tolist(), strict=True)):
        if not day >= 0:
            raise UsageError(
                f"event {place} of a record lies {-day:g} days after the prediction time; "
                "a record holds nothing from after it"
            )
        found.setdefault(str(code), set()).add(_Event(day, value if math.isfinite(value) else None))
    return {code: list(events) for code, events in found.items()}


def _write(block: Block, groups: Mapping[tuple[str, str], Iterable[_Event]], options: TextOptions) -> str:
    """Write the lines of a block, what happened last first."""
    if not groups:
        return block.empty
    lines = []
    for (name, code), events in groups.items():
        # oldest first; events of one time by their value, so that their order in the record changes nothing
        ordered = sorted(set(events), key=lambda event: (-event.days, event.value or 0.0))
        lines.append((ordered[-1].days, name, code, ordered))
    lines.sort(key=lambda line: line[:3])
    written = [f"- {name}{_say(events, options.last_values)}" for _, name, _, events in lines[: options.max_lines]]
    more = len(lines) - len(written)
    return "\n".join([*written, f"- and {more} more"] if more else written)


def _say(events: Sequence[_Event], most: int) -> str:
    """Say the last values of oldest-first events, and when they were; a single event at 0 is a fact of no time."""
    measured = [event for event in events if event.value is not None]
    values = [event.value for event in measured if event.value is not None][-most:]
    text = f": {', '.join(map(_number, values))}" if values else ""
    if len(values) > 1:
        text += f" ({_trend(values)})"
    told = measured or events
    times = sorted({event.days for event in told}, reverse=True)
    if len(times) > 1:
        return f"{text}; {len(times)} times, first {say_when(times[0])}, last {say_when(times[-1])}"
    return f"{text}; {say_when(times[0])}" if times[0] > 0 else text


def _trend(values: Sequence[float]) -> str:
    change, size = values[-1] - values[0], max(abs(values[0]), abs(values[-1]))
    if abs(change) <= _STEADY * size:
        return "steady"
    return "rising" if change > 0 else "falling"


def _number(value: float) -> str:
    return f"{value:.4g}" if abs(value) < 10_000 else f"{value:.0f}"
